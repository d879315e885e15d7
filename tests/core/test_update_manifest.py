"""Which code a factory may take: what a key that no machine of the fleet holds has signed for it, and nothing older."""

import base64
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corporation.trust.keyring import keys_by_id, new_key, public_of, signer_of
from corporation.trust.signatures import ENVELOPE, SIGNATURE, Claimed, ForgedError, Signed, canonical
from corporation.trust.signatures import sign as sign_mission
from corporation.trust.signatures import verify as verify_mission
from corporation.trust.update_manifest import (
    DOMAIN,
    LONGEST_LIFE_SECONDS,
    PROTOCOL,
    Manifest,
    ManifestRefusedError,
    Standing,
    release_of,
    sign,
    verify,
    why_not,
)

NOW: Final = 1_800_000_000
SEED: Final = base64.b64encode(bytes(range(32))).decode()
SIGNER: Final = signer_of(SEED)
KEYS: Final = keys_by_id([public_of(SEED)])
RELEASE: Final = Manifest(
    version="1.4.0",
    commit="9b1c7d20a5e4f3b2c1d0e9f8a7b6c5d4e3f2a1b0",
    tree="0b1c7d20a5e4f3b2c1d0e9f8a7b6c5d4e3f2a1b9",
    wheels={"corporation-1.4.0-py3-none-any.whl": "ab" * 32},
    min_protocol=1,
    max_protocol=2,
    not_before=NOW - 60,
    exp=NOW + 86_400,
    ring="canary",
)
HERE: Final = Standing("1.3.9", PROTOCOL, "canary")


def signed(**changes: Any) -> Any:
    """The document as it arrives: through JSON."""
    return json.loads(json.dumps(sign(SIGNER, replace(RELEASE, **changes))))


def refusal(document: object, keys: Any = KEYS) -> str:
    with pytest.raises(ManifestRefusedError) as caught:
        verify(document, keys)
    return caught.value.code


def objection(here: Standing = HERE, now: float = NOW, **changes: Any) -> str | None:
    refused = why_not(verify(signed(**changes), KEYS), here, now)
    return refused.code if refused else None


def test_a_release_that_is_signed_for_this_factory_may_be_taken() -> None:
    assert verify(signed(), KEYS) == RELEASE
    assert objection() is None


def test_anybody_can_check_it_with_the_public_key_alone() -> None:
    document = signed()
    raw = base64.b64decode(document.pop("sig"))
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))

    [key] = KEYS.values()
    key.verify(raw, b"corp-update-v1\x00" + text.encode())


@pytest.mark.parametrize("name", [*asdict(RELEASE)])
def test_no_field_can_be_changed_left_out_or_added(name: str) -> None:
    other = asdict(
        replace(
            RELEASE,
            version="1.5.0",
            commit="c" * 40,
            tree="d" * 40,
            wheels={},
            min_protocol=0,
            max_protocol=9,
            not_before=NOW - 61,
            exp=NOW + 86_401,
            ring="all",
            rollback=True,
        )
    )
    document = signed()
    assert refusal({**document, "manifest": {**document["manifest"], name: other[name]}}) == "forged"
    assert refusal({**document, "manifest": {k: v for k, v in document["manifest"].items() if k != name}}) == "forged"
    assert refusal({**document, "manifest": {**document["manifest"], f"{name}_": 1}}) == "forged"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("version", "1.4.0; rm -rf /"),
        ("version", "01.4"),
        ("version", "1.2.3.4.5"),
        ("version", "١.٢"),
        ("version", 1.4),
        ("commit", "main"),
        ("commit", "9B1C7D20A5E4F3B2C1D0E9F8A7B6C5D4E3F2A1B0"),
        ("commit", "--upload-pack=evil"),
        ("tree", ""),
        ("wheels", []),
        ("wheels", {"../../etc/cron.d/x.whl": "ab" * 32}),
        ("wheels", {"a.whl": "AB" * 32}),
        ("wheels", {"a.tar.gz": "ab" * 32}),
        ("wheels", {"a.whl": None}),
        ("min_protocol", True),
        ("min_protocol", -1),
        ("max_protocol", 0),
        ("max_protocol", 1.0),
        ("not_before", None),
        ("exp", NOW - 61),
        ("exp", NOW + LONGEST_LIFE_SECONDS),
        ("exp", 1e18),
        ("ring", "Ring 1"),
        ("ring", None),
        ("rollback", 1),
        ("rollback", "false"),
    ],
)
def test_a_manifest_that_says_what_none_can_is_neither_signed_nor_taken(name: str, value: Any) -> None:
    """Signed by hand: by a program of somebody else's that has the key and another idea of a manifest."""
    told = {"v": 1, "kid": SIGNER.kid, "manifest": asdict(RELEASE) | {name: value}}
    raw = SIGNER.key.sign(DOMAIN + canonical(told))

    assert refusal({**told, "sig": base64.b64encode(raw).decode()}) == "malformed"
    with pytest.raises(ManifestRefusedError):
        sign(SIGNER, replace(RELEASE, **{name: value}))


def test_a_field_that_this_program_does_not_know_is_refused_even_when_it_is_signed() -> None:
    """It may mean something that a newer factory would heed."""
    told = {"v": 1, "kid": SIGNER.kid, "manifest": asdict(RELEASE) | {"only_on": "Sunday"}}
    raw = base64.b64encode(SIGNER.key.sign(DOMAIN + canonical(told))).decode()

    assert refusal({**told, "sig": raw}) == "malformed"
    assert refusal({**signed(), "more": 1}) == "malformed"


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        "manifest",
        {},
        {**signed(), "v": 2},
        {**signed(), "v": True},
        {**signed(), "kid": None},
        {**signed(), "kid": ["a"]},
        {key: value for key, value in signed().items() if key != "sig"},
    ],
)
def test_what_has_another_form_is_refused(document: object) -> None:
    assert refusal(document) == "malformed"


@given(
    st.recursive(
        st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_nothing_whatever_raises_anything_else(value: Any) -> None:
    assert refusal(value) == "malformed"
    assert refusal({**signed(), "sig": value}) == "forged"
    assert refusal({**signed(), "manifest": value}) == "forged"


# Keys.


def test_only_a_key_that_is_trusted_for_releases_counts() -> None:
    document = sign(signer_of(new_key()), RELEASE)

    assert refusal(document) == refusal(signed(), {}) == "unknown_key"
    assert refusal({**document, "kid": SIGNER.kid}) == "forged"


def test_a_key_of_missions_never_vouches_for_a_release_nor_the_other_way_about() -> None:
    """Not even where somebody has used one key for both, and signs the very same bytes behind the first word."""
    told = {"v": 1, "kid": SIGNER.kid, "manifest": asdict(RELEASE)}
    for domain in (b"corp-mission-v1\x00", b"corp-keys-v1\x00", b""):
        raw = SIGNER.key.sign(domain + canonical(told))
        assert refusal({**told, "sig": base64.b64encode(raw).decode()}) == "forged"

    headers = sign_mission(SIGNER, Signed("mission.noop", "a-1", "m-1", "desk-7", 1), (), {}, NOW)
    as_release = base64.b64encode(SIGNER.key.sign(DOMAIN + canonical(headers[ENVELOPE]))).decode()
    with pytest.raises(ForgedError):
        verify_mission({**headers, SIGNATURE: as_release}, Claimed("mission.noop", "a-1", "desk-7", (), {}), KEYS, NOW)


# When, where, and from what.


def test_an_older_release_is_refused_unless_it_was_signed_as_a_way_back() -> None:
    newer = replace(HERE, version="1.10")

    assert objection(newer) == "downgrade"
    assert objection(newer, rollback=True) is None
    assert objection(replace(HERE, version="1.4")) is None, "the same release is no step back"


def test_versions_compare_as_numbers() -> None:
    ordered = ["0.9", "1", "1.0.1", "1.2", "1.2.0.1", "1.10", "2"]

    assert sorted(ordered, key=release_of) == ordered
    assert release_of("1.2") == release_of("1.2.0.0")


@pytest.mark.parametrize("text", ["", "v1", "1.", "1.-1", "1.2rc1", "9999999999", "1\n"])
def test_what_is_no_version_does_not_compare(text: str) -> None:
    with pytest.raises(ManifestRefusedError):
        release_of(text)


@pytest.mark.parametrize(
    ("now", "expected"),
    [(NOW - 61, "not_yet"), (NOW - 60, None), (NOW + 86_399, None), (NOW + 86_400, "expired")],
)
def test_a_release_has_its_time(now: int, expected: str | None) -> None:
    assert objection(now=now) == expected


def test_a_release_is_for_one_ring() -> None:
    assert objection(replace(HERE, ring="all")) == "other_ring"
    assert objection(replace(HERE, ring=None)) is None


@pytest.mark.parametrize(("lowest", "highest", "expected"), [(0, 0, "protocol"), (1, 1, None), (2, 3, "protocol")])
def test_a_release_that_hq_could_not_talk_to_is_refused(lowest: int, highest: int, expected: str | None) -> None:
    assert objection(min_protocol=lowest, max_protocol=highest) == expected


def test_a_refusal_repeats_nothing_of_the_document() -> None:
    told: Callable[[str], Any] = lambda text: {**signed(), "manifest": {text: text}}  # noqa: E731
    with pytest.raises(ManifestRefusedError) as caught:
        verify(told("\x1b[31mcanary"), KEYS)

    assert "canary" not in str(caught.value)
