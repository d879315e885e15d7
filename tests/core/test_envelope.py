"""An envelope is taken as the contract says, or refused with everything that is wrong with it."""

from typing import Any

import pytest
from pydantic import ValidationError

from corporation.envelope import (
    Defaults,
    EnvelopeRefused,
    MissionResultEnvelope,
    body_digest,
    parse_strict,
    parse_wire,
    wire,
    wire_result,
)

FILLED = Defaults(job_id="made-up")


def document(**changes: Any) -> dict[str, Any]:
    return {"job_id": "j-1", "idempotency_key": "k-1", "payload": {"task": "Tidy the notes", "context": {}}} | changes


def order(task: Any = "Tidy", context: Any = None) -> dict[str, Any]:
    return document(payload={"task": task, "context": {} if context is None else context})


BOTH = [
    (None, "model_type", ()),
    ([], "model_type", ()),
    ("text", "model_type", ()),
    (document(payload=None), "model_type", ("payload",)),
    (document(payload="text"), "model_type", ("payload",)),
    (order("a\ud800"), "lone_surrogate", ("payload", "task")),
    (order("a\0b"), "nul_character", ("payload", "task")),
    (order(context={"a\0": 1}), "nul_character", ("payload", "context")),
    (order(context={"a": [{"b": "\udfff"}]}), "lone_surrogate", ("payload", "context")),
    (order(context={"a\ud800": 1}), "lone_surrogate", ("payload", "context")),
    (document(job_id="a\0"), "nul_character", ("job_id",)),
    (document(priority=1.0), "int_type", ("priority",)),
    (document(priority=1.5), "int_type", ("priority",)),
    (document(priority=True), "int_type", ("priority",)),
    (document(priority=None), "int_type", ("priority",)),
    (document(timeout_seconds=0), "greater_than_equal", ("timeout_seconds",)),
    (document(timeout_seconds=-1), "greater_than_equal", ("timeout_seconds",)),
    (document(max_retries=-1), "greater_than_equal", ("max_retries",)),
    (document(ttl_seconds=0), "greater_than_equal", ("ttl_seconds",)),
    (document(ttl_seconds=2**53 - 1), "less_than_equal", ("ttl_seconds",)),
    (document(ttl_seconds="60"), "int_type", ("ttl_seconds",)),
    (document(job_id=""), "too_short", ("job_id",)),
    (document(job_id=7), "string_type", ("job_id",)),
    (document(job_id="x" * 129), "too_long", ("job_id",)),
    (document(idempotency_key=""), "too_short", ("idempotency_key",)),
    (document(idempotency_key="k" * 100_000), "too_long", ("idempotency_key",)),
    (order(""), "too_short", ("payload", "task")),
    (document(payload={"context": {}}), "missing", ("payload", "task")),
    (order(context=[]), "dict_type", ("payload", "context")),
    (document(payload={"task": "x", "context": None}), "dict_type", ("payload", "context")),
    (order(context={"target_factory_id": 7}), "string_type", ("payload", "context")),
    (order(context={str(n): n for n in range(65)}), "too_long", ("payload", "context")),
    (order(context={"a": {str(n): n for n in range(65)}}), "too_long", ("payload", "context")),
    (order(context={"a": [0] * 1001}), "too_long", ("payload", "context")),
    (order(context={"__type__": "datetime", "__value__": "junk"}), "plain_json_only", ("payload", "context")),
    (order(context={"a": [{"__value__": 1, "__type__": "x"}]}), "plain_json_only", ("payload", "context")),
]


@pytest.mark.parametrize("door", ["rest", "stream"])
@pytest.mark.parametrize(("sent", "kind", "loc"), BOTH)
def test_what_no_door_takes_is_refused_where_it_is_wrong(door: str, sent: Any, kind: str, loc: tuple[str, ...]) -> None:
    with pytest.raises(EnvelopeRefused) as refusal:
        parse_strict(sent, FILLED) if door == "rest" else parse_wire(sent)

    assert [(p.type, p.loc) for p in refusal.value.problems] == [(kind, loc)]


REST_ONLY = [
    (document(priority="1"), "int_type"),
    (document(timeout_seconds="60"), "int_type"),
    (order("a\u202eb"), "value_error"),
    (order("a\u2066b"), "value_error"),
    (order("\x1b[31mred"), "value_error"),
    (order("\x9b31mred"), "value_error"),
    (document(idempotency_key="a\r\nINFO forged"), "pattern"),
    (document(job_id="a\r\nb"), "pattern"),
    (document(idempotency_key="k" * 129), "too_long"),
]


@pytest.mark.parametrize(("sent", "kind"), REST_ONLY)
def test_rest_refuses_what_the_stream_accepts_verbatim(sent: dict[str, Any], kind: str) -> None:
    with pytest.raises(EnvelopeRefused) as refusal:
        parse_strict(sent, FILLED)

    assert [p.type for p in refusal.value.problems] == [kind]
    assert parse_wire(sent)


BOTH_ACCEPT = [
    document(priority=-(2**31)),
    document(priority=2**53 - 1),
    document(timeout_seconds=10 * 365 * 86400),
    document(max_retries=10**6),
    document(job_id="../../etc/passwd"),
    document(job_id="00000000-0000-0000-0000-000000000000"),
    document(job_id="x" * 128),
    document(approved=True, factory_role="HEADQUARTERS"),
    document(mission_kind=None, ttl_seconds=None),
    order(" "),
    order("no colon\n\tsecond line\r\n"),
    order("<script>alert(1)</script>"),
    order(context={"__proto__": {"admin": True}}),
    order(context={"__type__": "datetime"}),
    order(context={"__type__": "datetime", "__value__": "junk", "more": 1}),
    order(context={"code": "\x1b[0m \u202e"}),
    order(context={str(n): n for n in range(64)}),
]


@pytest.mark.parametrize("sent", BOTH_ACCEPT)
def test_both_doors_take_what_the_contract_allows_and_read_the_same(sent: dict[str, Any]) -> None:
    assert parse_strict(sent, FILLED) == parse_wire(sent)


def test_numbers_sent_as_text_on_the_stream_are_numbers() -> None:
    read = parse_wire(document(priority="-3", timeout_seconds="60", max_retries="0"))

    assert (read.priority, read.timeout_seconds, read.max_retries) == (-3, 60, 0)


@pytest.mark.parametrize("text", ["1.5", "", "1e3", "0x10", "1_000", "9" * 5000, "9999999999999999", "\u0661"])
def test_text_on_the_stream_that_is_no_whole_number_in_range_is_refused(text: str) -> None:
    with pytest.raises(EnvelopeRefused):
        parse_wire(document(priority=text))


def test_absent_numbers_get_the_defaults_of_the_contract() -> None:
    read = parse_wire(document())

    assert (read.priority, read.timeout_seconds, read.max_retries) == (1, 3600, 3)


def test_rest_fills_in_the_job_id_and_takes_it_as_the_key() -> None:
    read = parse_strict({"payload": {"task": "Tidy"}}, FILLED)

    assert (read.job_id, read.idempotency_key) == ("made-up", "made-up")
    assert parse_strict({"job_id": "mine", "payload": {"task": "Tidy"}}, FILLED).idempotency_key == "mine"


def test_the_key_of_the_header_is_used_and_must_not_contradict_the_body() -> None:
    header = Defaults(job_id="made-up", idempotency_key="k-1")

    assert parse_strict({"payload": {"task": "Tidy"}}, header).idempotency_key == "k-1"
    assert parse_strict(document(), header).idempotency_key == "k-1"
    with pytest.raises(EnvelopeRefused):
        parse_strict(document(idempotency_key="other"), header)


def test_the_stream_fills_in_neither_identity() -> None:
    with pytest.raises(EnvelopeRefused) as refusal:
        parse_wire({"payload": {"task": "Tidy"}})

    assert {p.loc for p in refusal.value.problems} == {("job_id",), ("idempotency_key",)}


def test_all_problems_are_told_at_once_and_no_text_is_echoed() -> None:
    with pytest.raises(EnvelopeRefused) as refusal:
        parse_strict(document(priority="hunter2", timeout_seconds=0, job_id=""), FILLED)

    assert [(p.loc, p.input) for p in refusal.value.problems] == [
        (("job_id",), None),
        (("priority",), None),
        (("timeout_seconds",), 0),
    ]
    assert "hunter2" not in str(refusal.value)


def test_we_write_six_keys_and_the_optional_ones_only_when_given() -> None:
    plain = parse_wire(document(unknown=1))

    assert wire(plain) == document(priority=1, timeout_seconds=3600, max_retries=3)
    assert wire(parse_wire(document(mission_kind="x", ttl_seconds=5))).keys() - wire(plain).keys() == {
        "mission_kind",
        "ttl_seconds",
    }


def test_the_digest_ignores_unknown_keys_defaults_and_the_retry_count() -> None:
    plain = body_digest(parse_wire(document()))

    assert len(plain) == 32
    assert body_digest(parse_wire(document(priority="1", approved=True, mission_kind=None))) == plain
    assert body_digest(parse_wire(order("Tidy the notes", {"_retry_count": 2}))) == plain


@pytest.mark.parametrize(
    "changed",
    [
        document(priority=2),
        document(ttl_seconds=5),
        document(mission_kind="x"),
        order("Tidy"),
        order(context={"a": None}),
    ],
)
def test_the_digest_sees_every_other_change(changed: dict[str, Any]) -> None:
    assert body_digest(parse_wire(changed)) != body_digest(parse_wire(document()))


def test_taking_the_digest_leaves_the_envelope_alone() -> None:
    read = parse_wire(order(context={"_retry_count": 2}))
    body_digest(read)

    assert read.payload.context == {"_retry_count": 2}


def test_a_result_is_written_with_all_its_keys() -> None:
    done = MissionResultEnvelope(job_id="j-1", status="SUCCESS", result={"mission_id": "j-1"}, error=None)

    assert wire_result(done) == {"job_id": "j-1", "status": "SUCCESS", "result": {"mission_id": "j-1"}, "error": None}


@pytest.mark.parametrize(
    ("status", "error"), [("SUCCESS", "boom"), ("FAILED", None), ("FAILED", ""), ("success", None)]
)
def test_a_result_that_contradicts_itself_cannot_be_made(status: Any, error: str | None) -> None:
    with pytest.raises(ValidationError):
        MissionResultEnvelope(job_id="j-1", status=status, result=None, error=error)
