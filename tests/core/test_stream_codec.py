"""What stands in an entry: every rule of the contract's shapes, and no text that says more than it should."""

import base64
import hashlib
import json
from typing import Any

import pytest

from corporation.delegation.codec import (
    BEGINNING,
    LARGEST_ENVELOPE,
    LARGEST_KEPT,
    DeadLetter,
    Readable,
    Unreadable,
    dead_letter_envelope,
    dead_letter_fields,
    kept_raw,
    mission_fields,
    poisoned,
    read_entry,
    result_envelope,
    result_fields,
    unimportable,
)
from corporation.delegation.keys import sanitised_name


def order(**changes: Any) -> dict[str, Any]:
    """A valid envelope."""
    return {"job_id": "j-1", "idempotency_key": "k-1", "payload": {"task": "Tidy", "context": {}}} | changes


def entry(document: Any, **siblings: bytes) -> dict[bytes, bytes]:
    """The fields of an entry whose envelope is `document`, written as JSON unless it is bytes."""
    envelope = document if isinstance(document, bytes) else json.dumps(document).encode()
    return {b"envelope": envelope, **{name.encode(): value for name, value in siblings.items()}}


def readable(document: Any, **siblings: bytes) -> Readable:
    """The entry, which must be one that can be read."""
    read = read_entry("1-1", entry(document, **siblings))
    assert isinstance(read, Readable), read
    return read


def unreadable(fields: dict[bytes, bytes] | None) -> Unreadable:
    """The entry, which must be one that cannot."""
    read = read_entry("1-1", fields)
    assert isinstance(read, Unreadable), read
    return read


@pytest.mark.parametrize(
    ("name", "clean"),
    [("worker_desk-7", "worker_desk-7"), ("a b", "a-b"), ("a  / b", "a-b"), ("ü:x_y-", "-:x_y-"), ("\n", "-")],
)
def test_a_consumers_name_has_one_dash_for_each_run_of_other_characters(name: str, clean: str) -> None:
    """S-1."""
    assert sanitised_name(name) == clean


@pytest.mark.parametrize(
    ("field", "written", "read"),
    [
        ("priority", "1", 1),
        ("priority", " -7 ", -7),
        ("priority", "+3", 3),
        ("priority", 2**31, 2**31),
        ("timeout_seconds", "60", 60),
        ("timeout_seconds", 315_360_000, 315_360_000),
        ("max_retries", "0", 0),
        ("max_retries", 10**6, 10**6),
        ("ttl_seconds", 1, 1),
    ],
)
def test_numbers_may_be_written_as_text_and_have_no_upper_bound(field: str, written: object, read: int) -> None:
    """Contract §3, A27, A29 to A38."""
    assert getattr(readable(order(**{field: written})).envelope, field) == read


@pytest.mark.parametrize(
    ("changes", "code", "sentence"),
    [
        ({"priority": 1.5}, "int_type", "priority: Input should be a valid integer"),
        ({"priority": 1.0}, "int_type", "priority: Input should be a valid integer"),
        ({"priority": True}, "int_type", "priority: Input should be a valid integer"),
        ({"priority": None}, "int_type", "priority: Input should be a valid integer"),
        ({"priority": "1.5"}, "int_type", "priority: Input should be a valid integer"),
        ({"priority": "many"}, "int_type", "priority: Input should be a valid integer"),
        ({"timeout_seconds": 0}, "greater_than_equal", "timeout_seconds: Input should be greater than or equal to 1"),
        ({"max_retries": "-1"}, "greater_than_equal", "max_retries: Input should be greater than or equal to 0"),
        ({"ttl_seconds": 0}, "greater_than_equal", "ttl_seconds: Input should be greater than or equal to 1"),
        ({"job_id": 7}, "string_type", "job_id: Input should be a valid string"),
        ({"job_id": ""}, "too_short", "job_id: String should have at least 1 character"),
        ({"idempotency_key": ""}, "too_short", "idempotency_key: String should have at least 1 character"),
        ({"payload": None}, "model_type", "payload: Input should be an object"),
        ({"payload": {}}, "missing_field", "payload.task is missing"),
        ({"payload": {"task": ""}}, "too_short", "payload.task: String should have at least 1 character"),
        (
            {"payload": {"task": "x", "context": None}},
            "dict_type",
            "payload.context: Input should be a valid dictionary",
        ),
        (
            {"payload": {"task": "x", "context": {"a": {"__type__": "bytes", "__value__": "x"}}}},
            "plain_json_only",
            "payload.context: An object of exactly __type__ and __value__ would reach no factory; "
            "name its keys otherwise",
        ),
    ],
)
def test_what_the_contract_forbids_is_named_in_one_word_and_one_sentence(
    changes: dict[str, Any], code: str, sentence: str
) -> None:
    """Contract §3."""
    read = unreadable(entry(order(**changes)))

    assert (read.code, read.failure_error) == (code, f"invalid envelope: {sentence}")


def test_a_blank_a_direction_mark_and_an_escape_are_data() -> None:
    """A17 to A19: accepted verbatim from a stream."""
    said = order(payload={"task": " \u202e\x1b[31m", "context": {}}, idempotency_key="a\r\nb")

    assert readable(said).envelope.payload.task == " \u202e\x1b[31m"
    assert readable(said).envelope.idempotency_key == "a\r\nb"


def test_unknown_fields_and_keys_are_accepted_without_effect() -> None:
    """S-8, A63, A64."""
    read = readable(order(approved=True, factory_role="HEADQUARTERS"), color=b"blue", job_id=b"j-1")

    assert read.told_job_id is None
    assert not hasattr(read.envelope, "approved")
    assert json.loads(read.raw)["approved"] is True


@pytest.mark.parametrize(("told", "kept"), [(b"other", "other"), (b"\xff", ""), (b"a\0b", ""), (b"x" * 900, "x" * 300)])
def test_a_sibling_that_differs_is_kept_as_far_as_it_can_be_stored(told: bytes, kept: str) -> None:
    """S-8."""
    assert readable(order(), job_id=told).told_job_id == kept


@pytest.mark.parametrize(
    ("fields", "job_id"),
    [
        (entry(order(payload={}), job_id=b"sibling"), "j-1"),
        (entry(order(job_id=7), job_id=b"sibling"), "sibling"),
        (entry(b"no JSON", job_id=b"sibling"), "sibling"),
        (entry(b"no JSON", job_id=b"\xff"), ""),
        (entry(b"no JSON"), ""),
        ({b"job_id": b"sibling"}, "sibling"),
        (entry(order(job_id="x" * 400)), "x" * 300),
        (entry(order(job_id="a\0")), ""),
    ],
)
def test_a_bad_entry_is_named_by_its_envelope_or_its_sibling_or_not_at_all(
    fields: dict[bytes, bytes], job_id: str
) -> None:
    """S-37."""
    assert unreadable(fields).job_id == job_id


def test_an_entry_as_large_as_allowed_is_read_and_a_larger_one_is_not_even_parsed() -> None:
    """B9."""
    room = LARGEST_ENVELOPE - len(json.dumps(order(payload={"task": ""})))

    assert readable(order(payload={"task": "x" * room})).envelope.payload.task == "x" * room
    assert unreadable(entry(order(payload={"task": "x" * (room + 1)}))).code == "too_large"


@pytest.mark.parametrize("secret", ["hunter2-hunter2"])
def test_a_sentence_repeats_nothing_of_the_entry(secret: str) -> None:
    """S-40."""
    bad = [
        entry(order(priority=secret)),
        entry(order(job_id=[secret])),
        entry(f'{{"job_id": {secret}}}'.encode()),
        entry(order(payload={"task": secret, "context": {"target_factory_id": {"a": secret}}})),
        entry(order(payload=secret)),
    ]

    assert [secret in unreadable(one).failure_error for one in bad] == [False] * len(bad)


def test_a_sentence_is_of_a_bearable_length() -> None:
    bad = order(payload={"task": "x", "context": {"k" * 100_000: "\0"}}, priority="x", max_retries="x")

    assert len(unreadable(entry(bad)).failure_error) <= 500


def test_entries_that_are_left_alone_are_kept_as_they_are() -> None:
    """B16, B21."""
    fields = entry(order(), job_id=b"j-1")

    assert unreadable(None).code == "trimmed"
    assert (poisoned("1-1", fields, 6).code, poisoned("1-1", fields, 6).raw) == ("poison", fields[b"envelope"])
    assert (unimportable("1-1", None, "DataError").code, unimportable("1-1", fields, "x").job_id) == (
        "import_failed",
        "j-1",
    )


def test_a_mission_is_written_as_the_contract_shows_it() -> None:
    """S-7, S-9."""
    said = order(payload={"task": "Grüße", "context": {"b": None, "a": 1}})

    assert list(mission_fields(said).items()) == [
        ("job_id", "j-1"),
        ("idempotency_key", "k-1"),
        (
            "envelope",
            '{"idempotency_key": "k-1", "job_id": "j-1", "payload": {"context": {"a": 1, "b": null}, '
            '"task": "Gr\\u00fc\\u00dfe"}}',
        ),
    ]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_json_number_is_never_written(value: float) -> None:
    """S-7."""
    with pytest.raises(ValueError, match="JSON"):
        result_fields(result_envelope("j-1", "succeeded", {"a": value}, None))


@pytest.mark.parametrize(
    ("state", "result", "error", "told"),
    [
        ("succeeded", {"result_ref": "w://1", "n": 1}, None, {"mission_id": "j-1", "result_ref": "w://1", "n": 1}),
        ("succeeded", None, None, {"mission_id": "j-1", "result_ref": ""}),
        ("failed", {"stderr": "x"}, "why", {"mission_id": "j-1", "stderr": "x", "terminal_status": "failed"}),
        ("timed_out", None, "late", {"mission_id": "j-1", "terminal_status": "timed_out"}),
        ("cancelled", None, None, {"mission_id": "j-1", "terminal_status": "cancelled"}),
    ],
)
def test_the_final_word_always_has_its_keys(
    state: str, result: dict[str, Any] | None, error: str | None, told: dict[str, Any]
) -> None:
    """S-9, S-33, §7."""
    envelope = result_envelope("j-1", state, result, error)

    assert list(envelope) == ["job_id", "status", "result", "error"]
    assert envelope["result"] == told
    assert envelope["status"] == ("SUCCESS" if state == "succeeded" else "FAILED")
    assert (envelope["error"] is None) == (state == "succeeded")
    if error:
        assert envelope["error"] == f"Mission {state}: j-1 - {error}"


def letter(**changes: Any) -> DeadLetter:
    """A dead letter of a malformed entry."""
    fields: dict[str, Any] = {
        "job_id": "j-1",
        "failure_error": "invalid envelope: payload.task is missing",
        "retry_count": 0,
        "cause": "malformed",
        "raw": b'{"job_id": "j-1"}',
    }
    return DeadLetter(**(fields | changes))


@pytest.mark.parametrize(
    ("raw", "kept"),
    [
        (None, {"raw": None}),
        (b"no JSON", {"raw": "no JSON"}),
        (b"\xff\xfe", {"raw": None, "raw_base64": base64.b64encode(b"\xff\xfe").decode()}),
        (b'"text"', {"raw": '"text"'}),
        (b'{"a": 1, "raw": 2, "retry_count": 9}', {"a": 1, "raw": '{"a": 1, "raw": 2, "retry_count": 9}'}),
        (b'{"a": 1, "a": 2}', {"a": 2, "raw": '{"a": 1, "a": 2}'}),
        (b'{"a": NaN}', {"raw": '{"a": NaN}'}),
        (b'{"a": 1} x', {"raw": '{"a": 1} x'}),
        (b'\xef\xbb\xbf{"a": 1}', {"raw": '\ufeff{"a": 1}'}),
    ],
)
def test_a_malformed_entry_is_told_to_the_letter(raw: bytes | None, kept: dict[str, Any]) -> None:
    """S-37."""
    told = dead_letter_envelope(letter(raw=raw))

    assert told == {"failure_error": letter().failure_error, "retry_count": 0, **kept}


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("9007199254740993", "9007199254740993"),
        ("-" + "9" * 4000, "-" + "9" * 4000),
        ("9" * 5000, f'"{"9" * 5000}"'),
        ("1e999", '"1e999"'),
        ("-0.5e-3", "-0.0005"),
        ('{"x": {"b": 1, "b": "\\ud800"}}', '{"x": {"b": "\\ud800"}}'),
        ("[" * 500 + "]" * 500, "[" * 500 + "]" * 500),
        ('{"a": ' * 500 + "0" + "}" * 500, '{"a": ' * 500 + "0" + "}" * 500),
    ],
)
def test_a_malformed_object_keeps_its_keys_also_where_an_order_may_not_go(written: str, kept: str) -> None:
    """S-37, A20, A32, A60: what the orders' parser refuses is kept to the digit."""
    raw = f'{{"payload": {written}, "colour": "blue", "job_id": "j-1"}}'.encode()
    assert unreadable(entry(raw))
    told = dead_letter_fields(letter(raw=raw))["envelope"]

    assert f'"payload": {kept}, "raw": ' in told
    assert told.startswith('{"colour": "blue", "failure_error": ')


@pytest.mark.parametrize("brackets", ["[]", "{}"])
def test_an_object_deeper_than_its_readers_is_kept_as_a_text_alone(brackets: str) -> None:
    """S-37, A61: and costs no more than to look at it."""
    opening = '{"a":' if brackets == "{}" else "["
    raw = ('{"a": ' + opening * 15_000 + "1" + brackets[1] * 15_000 + "}").encode()[:LARGEST_KEPT]

    assert dead_letter_envelope(letter(raw=raw)) == {
        "failure_error": letter().failure_error,
        "retry_count": 0,
        "raw": raw.decode(),
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"raw": b'{"job_id": "j-1", "colour": "blue", "retry_count": 7}'},
        {"raw": None, "envelope": {"job_id": "j-1", "colour": "blue"}},
    ],
)
def test_a_mission_that_failed_is_told_as_it_arrived(changes: dict[str, Any]) -> None:
    """S-36: a key of ours that arrived is overwritten."""
    told = dead_letter_envelope(letter(cause="failed", failure_error="no", retry_count=3, **changes))

    assert told == {"job_id": "j-1", "colour": "blue", "failure_error": "no", "retry_count": 3}


@pytest.mark.parametrize("size", [0, 1, LARGEST_KEPT])
def test_what_is_kept_whole_needs_no_hash(size: int) -> None:
    """S-37, ops/decisions/0013."""
    assert kept_raw(b"x" * size) == (b"x" * size, size, None)


@pytest.mark.parametrize("character", ["x", "ü", "€", "😀"])
def test_of_more_the_beginning_is_kept_in_whole_characters(character: str) -> None:
    """B9."""
    raw = (character * LARGEST_KEPT).encode() + b"!"
    kept, size, digest = kept_raw(raw)

    assert (size, digest) == (len(raw), hashlib.sha256(raw).digest())
    assert BEGINNING - 4 < len(kept) <= BEGINNING
    assert set(kept.decode()) == {character}
    told = dead_letter_envelope(letter(raw=kept, raw_size=size, raw_sha256=digest))
    assert (told["raw_size"], told["raw_sha256"]) == (len(raw), hashlib.sha256(raw).hexdigest())


def test_of_more_that_is_no_text_the_beginning_is_kept_as_it_is() -> None:
    kept, _, _ = kept_raw(b"\xff" * (LARGEST_KEPT + 1))

    assert kept == b"\xff" * BEGINNING


def test_a_reference_of_a_megabyte_makes_no_large_entry() -> None:
    """A result too large for a stream is told with our own keys, each of a bearable length."""
    told = result_fields(result_envelope("j-1", "succeeded", {"result_ref": "x" * 1_000_000}, None))

    assert len(told["envelope"]) < 5000
    assert json.loads(told["envelope"])["result"]["result_truncated"] is True
