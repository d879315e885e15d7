"""What HQ signs of a mission is good for that mission, that attempt and that factory, and for nothing else."""

import base64
import copy
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corporation.settings import load_settings
from corporation.trust.keyring import (
    BadKeyError,
    keys_by_id,
    kid_of,
    new_key,
    public_keys,
    public_of,
    signer_of,
    why_keys_are_refused,
)
from corporation.trust.signatures import (
    DOMAIN,
    ENVELOPE,
    GOOD_FOR_SECONDS,
    SIGNATURE,
    Claimed,
    ForgedError,
    Signed,
    canonical,
    digest_of,
    sign,
    verify,
)

NOW: Final = 1_800_000_000.0
SEED: Final = base64.b64encode(bytes(range(32))).decode()
SIGNER: Final = signer_of(SEED)
KEYS: Final = keys_by_id([public_of(SEED)])
ABOUT: Final = Signed(task="mission.noop", id="a-1", job_id="m-1", factory="desk-7", attempt=2)
ORDER: Final[dict[str, Any]] = {"order": {"job_id": "m-1", "attempt": 2, "text": "ü\u2028", "number": 1.5}}
CLAIMED: Final = Claimed(task="mission.noop", id="a-1", factory="desk-7", args=(), kwargs=ORDER)

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def signed(**changes: Any) -> dict[str, Any]:
    """The two headers, as they arrive: through JSON."""
    return json.loads(json.dumps(sign(SIGNER, replace(ABOUT, **changes), (), ORDER, NOW)))


def refusal(headers: Any, claimed: Claimed = CLAIMED, now: float = NOW, keys: Any = KEYS) -> str:
    with pytest.raises(ForgedError) as caught:
        verify(headers, claimed, keys, now)
    return caught.value.code


def test_what_hq_signed_is_told_back() -> None:
    assert verify(signed(), CLAIMED, KEYS, NOW) == ABOUT


def test_the_envelope_has_the_fields_that_are_written_down_and_no_other() -> None:
    """security.md §5, with the mission beside the attempt."""
    envelope = signed()[ENVELOPE]

    assert envelope == {
        "v": 1,
        "kid": kid_of(public_of(SEED)),
        "task": "mission.noop",
        "id": "a-1",
        "job_id": "m-1",
        "factory": "desk-7",
        "attempt": 2,
        "exp": int(NOW) + GOOD_FOR_SECONDS,
        "sha": digest_of((), ORDER),
    }


def test_anybody_can_check_it_with_the_public_key_alone() -> None:
    """The bytes that are signed are a promise to other programs: the domain, then JSON of one form."""
    headers = signed()
    text = json.dumps(headers[ENVELOPE], sort_keys=True, separators=(",", ":"))

    [key] = KEYS.values()
    key.verify(base64.b64decode(headers[SIGNATURE]), b"corp-mission-v1\x00" + text.encode())


@given(args=st.lists(VALUES, max_size=3), kwargs=st.dictionaries(st.text(), VALUES, max_size=3))
def test_whatever_json_carries_arrives_as_it_was_signed(args: list[Any], kwargs: dict[str, Any]) -> None:
    headers = sign(SIGNER, ABOUT, args, kwargs, NOW)
    there_args, there_kwargs = json.loads(json.dumps([args, kwargs]))

    assert verify(headers, replace(CLAIMED, args=there_args, kwargs=there_kwargs), KEYS, NOW) == ABOUT


@given(value=VALUES, other=VALUES)
def test_two_values_have_one_text_only_when_json_writes_them_alike(value: Any, other: Any) -> None:
    alike = json.dumps(value, sort_keys=True) == json.dumps(other, sort_keys=True)

    assert (canonical(value) == canonical(other)) is alike


def changed(headers: dict[str, Any], name: str, value: Any) -> dict[str, Any]:
    after = copy.deepcopy(headers)
    after[ENVELOPE][name] = value
    return after


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("v", 2),
        ("task", "mission.shell"),
        ("id", "a-2"),
        ("job_id", "m-2"),
        ("factory", "desk-8"),
        ("attempt", 3),
        ("exp", int(NOW) + 10 * GOOD_FOR_SECONDS),
        ("sha", digest_of((), {})),
    ],
)
def test_no_field_of_the_envelope_can_be_changed(name: str, value: Any) -> None:
    assert refusal(changed(signed(), name, value)) == "forged"


@pytest.mark.parametrize(
    "claimed",
    [
        replace(CLAIMED, task="mission.shell"),
        replace(CLAIMED, id="a-2"),
        replace(CLAIMED, factory="desk-8"),
        replace(CLAIMED, args=("one more",)),
        replace(CLAIMED, kwargs={"order": {**ORDER["order"], "text": "rm -rf"}}),
        replace(CLAIMED, kwargs={**ORDER, "more": 1}),
        replace(CLAIMED, kwargs={}),
        replace(CLAIMED, kwargs={"order": float("nan")}),
    ],
    ids=["task", "id", "factory", "args", "kwargs", "one more", "none", "no JSON"],
)
def test_nothing_that_celery_acts_on_can_be_changed(claimed: Claimed) -> None:
    assert refusal(signed(), claimed) == "forged"


@pytest.mark.parametrize(
    "break_it",
    [
        lambda headers: {**headers, ENVELOPE: {**headers[ENVELOPE], "more": 1}},
        lambda headers: {**headers, ENVELOPE: {k: v for k, v in headers[ENVELOPE].items() if k != "exp"}},
        lambda headers: {**headers, ENVELOPE: [headers[ENVELOPE]]},
        lambda headers: {**headers, ENVELOPE: json.dumps(headers[ENVELOPE])},
        lambda headers: changed(headers, "attempt", True),
        lambda headers: changed(headers, "attempt", 2.0),
        lambda headers: changed(headers, "v", "1"),
        lambda headers: changed(headers, "exp", None),
        lambda headers: changed(headers, "task", ["mission.noop"]),
        lambda headers: {**headers, SIGNATURE: None},
        lambda headers: {**headers, SIGNATURE: ""},
        lambda headers: {**headers, SIGNATURE: "no base64!"},
        lambda headers: {**headers, SIGNATURE: "ü" * 88},
        lambda headers: {**headers, SIGNATURE: base64.b64encode(bytes(64)).decode()},
        lambda headers: {**headers, SIGNATURE: headers[SIGNATURE] * 1000},
        lambda headers: {ENVELOPE: headers[ENVELOPE]},
    ],
)
def test_what_has_another_form_than_ours_is_refused_and_breaks_nothing(break_it: Callable[[Any], Any]) -> None:
    assert refusal(break_it(signed())) == "forged"


@given(envelope=VALUES, signature=VALUES)
def test_no_header_whatever_raises_anything_else(envelope: Any, signature: Any) -> None:
    assert refusal({ENVELOPE: envelope, SIGNATURE: signature}) in ("forged", "not_signed")


def test_an_unsigned_message_is_said_to_be_one() -> None:
    assert refusal({}) == refusal({SIGNATURE: signed()[SIGNATURE]}) == "not_signed"


def test_a_signature_ends_with_its_time() -> None:
    last = int(NOW) + GOOD_FOR_SECONDS

    assert verify(signed(), CLAIMED, KEYS, last - 1) == ABOUT
    assert refusal(signed(), now=last) == "signature_expired"


def test_another_key_than_those_that_are_known_signs_nothing() -> None:
    stranger = signer_of(new_key())
    theirs = sign(stranger, ABOUT, (), ORDER, NOW)

    assert refusal(theirs) == "unknown_key"
    assert refusal(changed(theirs, "kid", SIGNER.kid)) == "forged"
    assert refusal(signed(), keys={}) == "unknown_key"


def test_two_keys_are_good_while_one_takes_the_place_of_the_other() -> None:
    new = new_key()
    both = keys_by_id([public_of(SEED), public_of(new)])

    assert verify(signed(), CLAIMED, both, NOW) == ABOUT
    assert verify(sign(signer_of(new), ABOUT, (), ORDER, NOW), CLAIMED, both, NOW) == ABOUT


def test_a_signature_over_anything_else_is_none_over_a_mission() -> None:
    """Domain separation: the same envelope under another word."""
    envelope = signed()[ENVELOPE]
    for domain in (b"", b"corp-update-v1\x00", b"corp-keys-v1\x00", DOMAIN[:-1]):
        raw = SIGNER.key.sign(domain + canonical(envelope))
        assert refusal({ENVELOPE: envelope, SIGNATURE: base64.b64encode(raw).decode()}) == "forged"


def test_a_refusal_repeats_nothing_of_what_it_refuses() -> None:
    told = replace(CLAIMED, task="mission.\x1b[31m<script>")
    with pytest.raises(ForgedError) as caught:
        verify(signed(), told, KEYS, NOW)

    assert "script" not in str(caught.value)


def test_a_private_key_is_never_shown() -> None:
    raw = bytes(range(32))
    for text in (repr(SIGNER), str(SIGNER), f"{SIGNER!r} {vars(SIGNER).keys()}"):
        assert SEED not in text
        assert raw.hex() not in text


# Keys as settings.


def test_a_key_is_thirty_two_bytes_in_base64_and_its_id_is_part_of_its_hash() -> None:
    """The id of a known key, as any program computes it: sha256(public)[:8] in hexadecimal."""
    assert public_of(SEED) == "A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg="
    assert kid_of(public_of(SEED)) == "56475aa75463474c"
    assert len(base64.b64decode(new_key())) == 32
    assert new_key() != new_key()


@pytest.mark.parametrize("text", ["", "A", "no base64 at all", SEED[:-4], SEED + SEED, "ü" * 44, SEED + "\n"])
def test_what_is_no_key_is_refused_without_being_repeated(text: str) -> None:
    for read in (public_of, kid_of, signer_of):
        with pytest.raises(BadKeyError) as caught:
            read(text)
        assert not text or text not in str(caught.value)


def test_a_factory_is_to_trust_the_key_that_signs_and_those_beside_it() -> None:
    old = public_of(new_key())
    settings = load_settings({"UA_MISSION_SIGNING_KEY": SEED, "UA_MISSION_KEYS": f"{old}, {public_of(SEED)}"})

    assert public_keys(settings) == [public_of(SEED), old]
    assert public_keys(load_settings({})) == []
    assert why_keys_are_refused(settings) == []


def test_each_variable_with_a_broken_key_is_named_and_no_key_is() -> None:
    broken = SEED[:-4]
    names = ("UA_MISSION_SIGNING_KEY", "UA_MISSION_KEYS", "UA_UPDATE_KEYS")
    problems = why_keys_are_refused(load_settings(dict.fromkeys(names, broken)))

    assert [problem.partition(":")[0] for problem in problems] == list(names)
    assert all(broken not in problem and "corporation keys new" in problem for problem in problems)


def test_one_key_for_missions_and_releases_is_refused() -> None:
    public = public_of(SEED)
    for missions in ({"UA_MISSION_SIGNING_KEY": SEED}, {"UA_MISSION_KEYS": public}):
        [problem] = why_keys_are_refused(load_settings({**missions, "UA_UPDATE_KEYS": public}))
        assert "UA_UPDATE_KEYS" in problem
