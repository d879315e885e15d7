"""What a worker takes from its queues: the 49 messages of bad-input §2, and anything else that bytes can be."""

import json
from base64 import b64encode
from collections.abc import Callable
from datetime import UTC, datetime
from inspect import Signature, signature
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from malformed_messages import QUEUE, ROWS, UNSET, Row, bomb, document, headers_of, message, order, properties_of

from corporation.federation.message_frame import LARGEST_MESSAGE_BYTES, Reason
from corporation.federation.message_gate import Accepted, Refused, Rules, Verdict, judge, judge_broadcast

NOW = datetime(2026, 6, 1, tzinfo=UTC)
CONTROL_QUEUE = "desk-7.control"


def noop(order: dict[str, Any]) -> None: ...


def heartbeat() -> None: ...


def stop_attempt(attempt_id: str, reason: str) -> None: ...


TASKS: dict[str, Callable[..., None]] = {
    "mission.noop": noop,
    "corporation.heartbeat": heartbeat,
    "corporation.stop_attempt": stop_attempt,
    "celery.starmap": heartbeat,
}


def known(name: str) -> Signature | None:
    return signature(TASKS[name]) if name in TASKS else None


RULES = Rules(known, CONTROL_QUEUE)


def judged(raw: bytes, queue: str = QUEUE) -> Verdict:
    return judge(raw, queue, RULES, NOW)


def refused(raw: bytes, queue: str = QUEUE) -> Refused:
    verdict = judged(raw, queue)
    assert isinstance(verdict, Refused)
    return verdict


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_row_of_the_catalogue_has_its_reason(row: Row) -> None:
    """C1 to C49"""
    verdict = judged(row.make())

    assert isinstance(verdict, Refused if row.reason else Accepted)
    assert getattr(verdict, "reason", None) == row.reason


def test_the_catalogue_is_complete() -> None:
    assert [row.name for row in ROWS] == [f"C{number}" for number in range(1, 50)]


def test_a_good_message_is_taken_as_it_is() -> None:
    whole = document()

    assert judged(json.dumps(whole).encode()) == Accepted(whole)


def test_a_message_that_kombu_put_back_is_still_a_good_one() -> None:
    """kombu marks what it restores from the unacknowledged ones."""
    whole = document(headers={"redelivered": True})
    whole["properties"]["delivery_info"]["redelivered"] = True

    assert isinstance(judged(json.dumps(whole).encode()), Accepted)


# Size: nothing HQ takes is too large, and nothing larger is looked into.


def test_the_largest_order_that_headquarters_takes_fits() -> None:
    """256 KiB of the shortest text that grows most when it is written again: four times."""
    text = "[" + ",".join(["1e15"] * ((256 * 1024 - 100) // 5)) + "]"
    numbers = json.loads(text)
    big = order()
    big["envelope"]["payload"]["context"] = {"numbers": numbers}

    raw = message(kwargs={"order": big})

    assert len(raw) > 1.3 * 1024 * 1024
    assert isinstance(judged(raw), Accepted)


def test_an_order_at_the_depth_that_headquarters_takes_fits() -> None:
    deep: Any = "bottom"
    for _ in range(13):
        deep = [deep]
    envelope = {"payload": {"task": "t", "context": {"deep": deep}}}  # 16 levels with the list's 13

    assert isinstance(judged(message(kwargs={"order": order(envelope=envelope)})), Accepted)


def test_one_byte_more_than_the_most_is_too_large_and_not_even_read() -> None:
    assert refused(b"\xff" * (LARGEST_MESSAGE_BYTES + 1)).reason == "too_large"
    assert refused(b"\xff" * LARGEST_MESSAGE_BYTES).reason == "invalid_utf8"


def test_a_compressed_body_is_never_decompressed(monkeypatch: pytest.MonkeyPatch) -> None:
    """C42: the header decides, before the body is looked at."""
    raw = json.dumps(document(headers={"compression": "application/x-gzip"}) | {"body": bomb(1)}).encode()
    monkeypatch.setattr("zlib.decompress", pytest.fail)

    assert refused(raw).reason == "compression_not_allowed"


# What Celery would act on.


@pytest.mark.parametrize(
    "headers",
    [
        {"id": "00000000-0000-4000-8000-00000000000A"},
        {"id": "5f2b6c1e-0d1f-4f0e-9a36-3f1f6f0c9d11\n"},
        {"root_id": "r"},
        {"parent_id": 5},
        {"task": "x" * 201},
        {"retries": True},
        {"retries": -1},
        {"replaced_task_nesting": 1.5},
        {"timelimit": [60]},
        {"timelimit": [True, 60]},
        {"timelimit": [0, 60]},
        {"timelimit": {"0": 1, "1": 2}},
        {"expires": 5},
        {"expires": "2026-06-02T00:00:00"},
        {"expires": "2026-06-31T00:00:00+00:00"},
        {"shadow": "another name"},
        {"group": "5f2b6c1e-0d1f-4f0e-9a36-3f1f6f0c9d11"},
        {"stamps": {"a": 1}},
        {"argsrepr": ["x"]},
        {"is_eager": True},
        {"hostname": "else"},
        {"ignore_result": True},
    ],
)
def test_headers_that_celery_would_act_on_are_of_the_right_type_or_refused(headers: dict[str, Any]) -> None:
    assert refused(message(headers=headers)).reason == "bad_headers"


@pytest.mark.parametrize(
    "name",
    ["get", "as_execution_options", "update", "__class__", "time_limit", "soft_time_limit", "headers", "clock", ""],
)
@pytest.mark.parametrize("value", [None, 1, "x"])
def test_a_header_that_headquarters_does_not_send_never_reaches_celery(name: str, value: Any) -> None:
    """Celery would make it a field of the running task, in the place of what is called so there."""
    assert refused(message(headers={name: value})).reason == "bad_headers"


def test_what_beat_marks_as_its_own_is_taken_for_its_own_jobs_alone() -> None:
    assert isinstance(judged(control("corporation.heartbeat", {}, celery_beat_task=True), CONTROL_QUEUE), Accepted)
    assert refused(message(headers={"celery_beat_task": True})).reason == "bad_headers"


def test_what_is_said_of_a_hostile_header_can_be_printed_and_is_short() -> None:
    said = refused(message(headers={"\x1b[2J\u202e" + "x" * 5000: 1})).why

    assert said.isascii()
    assert said.isprintable()
    assert len(said) < 300


@pytest.mark.parametrize("value", [1, "yes", []])
def test_what_kombu_put_back_is_marked_by_a_plain_truth(value: Any) -> None:
    assert refused(message(headers={"redelivered": value})).reason == "bad_headers"


@pytest.mark.parametrize("name", ["callbacks", "errbacks", "chain", "chord"])
def test_callbacks_are_refused_wherever_celery_looks_for_them(name: str) -> None:
    """Celery reads a task's context from the headers first, and then from the body."""
    assert refused(message(headers={name: [{"task": "x"}]})).reason == "callbacks_not_allowed"
    assert refused(message(embed={name: [{"task": "x"}]})).reason == "callbacks_not_allowed"


def test_the_body_replaces_no_other_field_of_the_running_task() -> None:
    assert refused(message(embed={"id": "x"})).reason == "bad_body"


@pytest.mark.parametrize(
    "properties",
    [
        {"delivery_info": {"exchange": "", "routing_key": "factory.desk-8"}},
        {"delivery_info": {"exchange": "celery.pidbox", "routing_key": QUEUE}},
        {"delivery_info": []},
        {"delivery_tag": "x" * 100},
        {"priority": "9"},
        {"reply_to": 5},
    ],
)
def test_a_message_cannot_choose_where_it_is_put_back(properties: dict[str, Any]) -> None:
    assert refused(message(properties=properties)).reason == "bad_headers"


def test_what_is_not_over_yet_is_taken_and_what_is_over_is_dropped() -> None:
    """C37"""
    assert isinstance(judged(message(headers={"expires": "2026-06-01T00:00:00.000001+00:00"})), Accepted)
    assert refused(message(headers={"expires": "2026-06-01T02:00:00+02:00"})).reason == "expired"


def test_a_type_that_kombu_would_build_is_found_however_it_is_written() -> None:
    """C46, C47: also in the frame, and behind an escape of JSON."""
    built = {"__type__": "bytes", "__value__": "x"}
    escaped = json.dumps([[], {"order": [built]}, {}]).replace("__type__", "\\u005f_type__")
    hidden = document() | {"body": b64encode(escaped.encode()).decode()}

    assert refused(message(headers={"note": built})).reason == "plain_json_only"
    assert refused(json.dumps(hidden).encode()).reason == "plain_json_only"


def test_a_context_may_say_type_as_long_as_kombu_would_build_nothing_of_it() -> None:
    context = {"__type__": "datetime", "__value__": "junk", "more": 1}
    envelope = {"payload": {"task": "t", "context": context}}

    assert isinstance(judged(message(kwargs={"order": order(envelope=envelope)})), Accepted)


# Which task, from which queue.


def control(task: str, kwargs: dict[str, Any], queue: str = CONTROL_QUEUE, **headers: Any) -> bytes:
    attempt_id = "5f2b6c1e-0d1f-4f0e-9a36-3f1f6f0c9d11"
    return message(
        headers=headers_of(task, attempt_id) | headers,
        properties=properties_of(attempt_id, queue),
        body=[[], kwargs, {}],
    )


def test_beats_and_stops_are_taken_from_the_control_queue() -> None:
    stop = {"attempt_id": "5f2b6c1e-0d1f-4f0e-9a36-3f1f6f0c9d11", "reason": "asked for"}

    assert isinstance(judged(control("corporation.stop_attempt", stop), CONTROL_QUEUE), Accepted)
    beat = control("corporation.heartbeat", {}, ignore_result=True, expires="2026-06-01T00:00:15+00:00")
    assert isinstance(judged(beat, CONTROL_QUEUE), Accepted)


def test_they_are_not_taken_from_a_queue_of_missions() -> None:
    assert refused(control("corporation.heartbeat", {}, QUEUE)).reason == "unknown_task"


def test_what_celery_brings_itself_is_never_run() -> None:
    """`celery.starmap` would call any task with any arguments."""
    assert refused(message(headers={"task": "celery.starmap"})).reason == "unknown_task"


# What HQ hears.


def test_an_argument_that_the_task_does_not_take_fails_the_mission_for_good() -> None:
    """C49: without a retry, and without waiting for the lease."""
    raw = message(kwargs={"surprise": 1})
    answer = refused(raw).answer

    assert answer is not None
    assert answer.permanent
    assert "surprise" in answer.why
    assert (answer.attempt_id, answer.job_id, answer.attempt) == (json.loads(raw)["headers"]["id"], "m-1", 1)


def test_a_kind_that_this_worker_does_not_know_may_be_tried_again() -> None:
    """C27: as Celery answered it; another factory may know the kind."""
    answer = refused(message(headers={"task": "mission.unheard_of"})).answer

    assert answer is not None
    assert not answer.permanent


def test_an_order_that_cannot_be_read_is_answered_all_the_same() -> None:
    answer = refused(message(body=[[], {"order": {"attempt": "x"}, "surprise": 1}, {}])).answer

    assert answer is not None
    assert (answer.job_id, answer.attempt) == ("", 0)


@pytest.mark.parametrize("name", ["C30", "C33", "C37", "C43"])
def test_nothing_is_said_of_a_message_that_headquarters_cannot_have_sent_so(name: str) -> None:
    [row] = [row for row in ROWS if row.name == name]

    assert refused(row.make()).answer is None


def test_a_control_task_has_no_attempt_to_answer_for() -> None:
    assert refused(control("corporation.heartbeat", {"surprise": 1}), CONTROL_QUEUE).answer is None


def test_what_is_said_of_a_hostile_name_can_be_printed() -> None:
    said = refused(message(headers={"task": "mission.\x1b[2J\ud800"})).why

    assert said.isascii()
    assert said.isprintable()


# Celery's own messages.


def test_a_broadcast_of_celery_is_taken_by_its_frame_alone() -> None:
    told = {"method": "ping", "arguments": {}, "destination": None, "ticket": None, "reply_to": None}
    raw = message(headers=dict.fromkeys(headers_of("", ""), UNSET) | {"clock": 5}, body=told)

    assert isinstance(judge_broadcast(raw), Accepted)


@pytest.mark.parametrize("number", [1, 3, 4, 8, 10, 16, 17, 18, 24, 42, 48])
def test_a_broadcast_that_kombu_could_not_read_is_refused(number: int) -> None:
    row = ROWS[number - 1]

    verdict = judge_broadcast(row.make())

    assert isinstance(verdict, Refused)
    assert verdict.reason == row.reason


# Anything.

_AWKWARD = (
    None,
    True,
    0,
    -1,
    2**53,
    10**400,
    1.5,
    -0.0,
    float("nan"),
    float("inf"),
    "",
    "x",
    "\0",
    "\ud800",
    "a" * 5000,
)
_NAMES = st.sampled_from(["__type__", "__value__", "task", "callbacks", "order", "", "\u202e"])
_ANYTHING = st.recursive(
    st.sampled_from(_AWKWARD),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES, inner, max_size=3),
    max_leaves=6,
)
_HEADERS = st.sampled_from(sorted(headers_of("", "")))
_PROPERTIES = st.sampled_from(sorted(properties_of("", "")))


@given(st.binary(max_size=400))
@example(b"\x00\x00\x00{")
@example(b'{"a":' * 30)
def test_any_bytes_get_a_verdict(raw: bytes) -> None:
    verdict = refused(raw)

    assert verdict.reason in Reason
    assert len(verdict.why) < 1000


@given(_HEADERS, _PROPERTIES, _ANYTHING, _ANYTHING)
def test_any_value_in_any_place_gets_a_verdict(header: str, prop: str, one: Any, other: Any) -> None:
    for raw in (
        message(headers={header: one}, properties={prop: other}),
        message(body=[[one], {"order": other}, {}]),
        message(body=one),
        message(embed={"chain": one, "chord": other}),
    ):
        verdict = judged(raw)
        assert isinstance(verdict, Accepted) or len(verdict.why) < 1000


@given(st.randoms(use_true_random=False), st.sampled_from([None, *range(9, 49)]))
def test_the_order_of_the_keys_changes_nothing(chance: Any, number: int | None) -> None:
    raw = message() if number is None else ROWS[number].make()
    try:
        whole = json.loads(raw)
    except ValueError:
        return
    if not isinstance(whole, dict) or len(raw) > LARGEST_MESSAGE_BYTES:
        return

    first, shuffled = judged(raw), judged(json.dumps(_shuffled(whole, chance)).encode())

    assert (type(first), getattr(first, "reason", None)) == (type(shuffled), getattr(shuffled, "reason", None))


def _shuffled(value: Any, chance: Any) -> Any:
    if not isinstance(value, dict):
        return value
    items = [(key, _shuffled(one, chance)) for key, one in value.items()]
    chance.shuffle(items)
    return dict(items)
