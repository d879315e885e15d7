"""HQ's keys change, and factories follow without anybody going there; nobody else can make them follow."""

import base64
import json
from collections.abc import Callable
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corporation.trust.key_announcement import (
    DOMAIN,
    FRESH_SECONDS,
    MOST_KEYS,
    announcement,
    learned,
    trusted,
)
from corporation.trust.keyring import new_key, public_of, signer_of
from corporation.trust.signatures import ForgedError, canonical

NOW: Final = 1_800_000_000.0
OLD, NEW, STRANGE = (base64.b64encode(bytes([n]) * 32).decode() for n in (1, 2, 3))
PINNED: Final = (public_of(OLD),)
BOTH: Final = (public_of(OLD), public_of(NEW))


def said(key: str, *public: str, now: float = NOW) -> Any:
    """HQ's list, as it arrives: through JSON."""
    return json.loads(json.dumps(announcement(signer_of(key), public, now)))


def after(announced: Any, noted: str | None = None, now: float = NOW) -> tuple[str, ...]:
    """What a factory trusts that was given OLD, once it has heard this."""
    return trusted(PINNED, learned(announced, PINNED, noted, now) or noted)


def refusal(announced: Any, noted: str | None = None, now: float = NOW) -> str:
    with pytest.raises(ForgedError) as caught:
        learned(announced, PINNED, noted, now)
    return caught.value.code


def note(announced: Any, noted: str | None = None, now: float = NOW) -> str:
    found = learned(announced, PINNED, noted, now)
    assert found
    return found


def test_before_the_first_word_the_given_keys_are_trusted() -> None:
    assert trusted(PINNED, None) == trusted(PINNED, "") == PINNED


def test_a_key_is_known_before_it_is_used_and_ends_when_it_leaves_the_list() -> None:
    """The three steps of a rotation."""
    announced = note(said(OLD, *BOTH))
    assert set(trusted(PINNED, announced)) == set(BOTH)
    swapped = learned(said(NEW, *BOTH, now=NOW + 10), PINNED, announced, NOW + 10)
    assert swapped is None, "the same keys in another order are no news"

    ended = note(said(NEW, public_of(NEW), now=NOW + 20), announced, NOW + 20)
    assert trusted(PINNED, ended) == (public_of(NEW),)


def test_what_changes_nothing_is_not_written_down_again() -> None:
    assert learned(said(OLD, *PINNED), PINNED, None, NOW) is None


def test_a_key_that_is_not_known_vouches_for_nothing() -> None:
    assert refusal(said(NEW, *BOTH)) == "unknown_key"
    ended = note(said(NEW, public_of(NEW), now=NOW + 20), note(said(OLD, *BOTH)), NOW + 20)
    assert refusal(said(OLD, public_of(STRANGE), public_of(OLD), now=NOW + 30), ended, NOW + 30) == "unknown_key"


def test_an_older_list_does_not_bring_back_a_key_that_has_ended() -> None:
    first = said(OLD, *BOTH)
    ended = note(said(OLD, *PINNED, now=NOW + 20), note(first), NOW + 20)

    assert refusal(first, ended, NOW + 30) == "signature_expired"


@pytest.mark.parametrize("late", [FRESH_SECONDS + 1, -FRESH_SECONDS - 1])
def test_a_recording_is_worth_nothing_after_a_day(late: float) -> None:
    assert refusal(said(OLD, *BOTH), now=NOW + late) == "signature_expired"


@pytest.mark.parametrize("late", [25 * 3600, -25 * 3600])
def test_a_list_of_what_is_trusted_already_is_no_alarm_however_wrong_a_clock_is(late: float) -> None:
    known = note(said(OLD, *BOTH, now=NOW + 3600))

    assert learned(said(OLD, *BOTH), PINNED, known, NOW + late) is None


def test_joining_again_ends_what_was_learned() -> None:
    """The way back, whatever somebody made this factory believe."""
    announced = note(said(OLD, *BOTH))

    assert trusted((public_of(STRANGE),), announced) == (public_of(STRANGE),)


def test_who_was_given_no_keys_learns_none() -> None:
    """Whoever answers his beat could name his own; trusting the first to come is not what pinning is."""
    assert learned(said(STRANGE, public_of(STRANGE)), (), None, NOW) is None
    assert trusted((), note(said(OLD, *BOTH))) == ()


def test_an_hq_that_announces_nothing_changes_nothing() -> None:
    assert learned(None, PINNED, None, NOW) is None


@pytest.mark.parametrize(
    "keys",
    [
        [],
        [public_of(NEW)],
        [*PINNED, "no key"],
        [*PINNED, 7],
        [*PINNED, *(public_of(new_key()) for _ in range(MOST_KEYS))],
    ],
    ids=["none", "not the one that signs", "broken", "no text", "too many"],
)
def test_a_list_that_would_leave_a_factory_with_nothing_good_is_refused(keys: list[Any]) -> None:
    """Signed all the same: by a mistake at HQ, or by who has the key. No list makes a factory run unsigned."""
    assert refusal(said(OLD, *keys)) == "forged"


def changed(**changes: Any) -> Any:
    announced = said(OLD, *BOTH)
    announced["list"].update(changes)
    return announced


@pytest.mark.parametrize(
    "announced",
    [
        changed(keys=[public_of(OLD), public_of(STRANGE)]),
        changed(at=int(NOW) + 1),
        changed(v=2),
        changed(more=1),
        changed(keys="all"),
        {**said(OLD, *BOTH), "more": 1},
        {**said(OLD, *BOTH), "sig": None},
        {**said(OLD, *BOTH), "sig": "!"},
        {"list": said(OLD, *BOTH)["list"]},
        [said(OLD, *BOTH)],
        "keys",
        {"list": [], "sig": ""},
    ],
)
def test_what_was_changed_on_its_way_is_refused(announced: Any) -> None:
    assert refusal(announced) == "forged"


@given(
    st.recursive(
        st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_nothing_whatever_raises_anything_else(announced: Any) -> None:
    if announced is not None:
        assert refusal(announced) == "forged"


def test_a_signature_over_a_mission_is_none_over_a_list() -> None:
    announced = said(OLD, *BOTH)
    for domain in (b"", b"corp-mission-v1\x00", DOMAIN[:-1]):
        raw = signer_of(OLD).key.sign(domain + canonical(announced["list"]))
        assert refusal({**announced, "sig": base64.b64encode(raw).decode()}) == "forged"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text[:-1],
        lambda text: "[]",
        lambda text: "null",
        lambda text: text.replace('"keys"', '"kays"'),
        lambda text: json.dumps({**json.loads(text), "keys": []}),
        lambda text: json.dumps({**json.loads(text), "keys": ["no key"]}),
        lambda text: json.dumps({**json.loads(text), "keys": 7}),
    ],
)
def test_a_note_that_nobody_can_read_is_as_none(spoil: Callable[[str], str]) -> None:
    """A key that stands there is not lost: HQ says it again with the next beat."""
    assert trusted(PINNED, spoil(note(said(OLD, *BOTH)))) == PINNED
    assert set(after(said(OLD, *BOTH), spoil(note(said(OLD, *BOTH))))) == set(BOTH)
