"""What factories report becomes each mission's end, its next try, or evidence, whatever bytes they send."""

import json
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from builders import celery_failure, report
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ledger_at_work import AT_ONCE, LedgerAtWork
from sqlalchemy.exc import IntegrityError

from corporation.db import transaction
from corporation.masking import hiding
from corporation.missions.collect import collect_some
from corporation.missions.outcomes import Done, Failed, Later, Lost, Outcome, Stop, TimedOut
from corporation.missions.queries import find_mission


def end_with(ledger: LedgerAtWork, outcome: Outcome, **changes: Any) -> Any:
    """Hand out a mission, report `outcome`, collect it, and return the mission."""
    [attempt] = ledger.hand_out("j-1", **changes)
    ledger.report(attempt, outcome)
    assert ledger.collect() == 1
    return ledger.mission()


def end_with_bytes(ledger: LedgerAtWork, body: bytes | None, status: str = "FAILURE") -> Any:
    [attempt] = ledger.hand_out("j-1", max_retries=1)
    ledger.fill(attempt, body, status)
    assert ledger.collect() == 1
    return ledger.mission()


def test_a_success_ends_the_mission_with_its_result(ledger: LedgerAtWork) -> None:
    mission = end_with(ledger, Done({"result_ref": "workspace://desk-7/j-1"}))

    assert (mission.state, mission.error, mission.attempt) == ("succeeded", None, 1)
    assert mission.result["result_ref"] == "workspace://desk-7/j-1"
    assert mission.result["mission_id"] == "j-1"
    assert ledger.events() == ["published", "queued", "started", "succeeded"]
    assert [attempt.state for attempt in ledger.attempts()] == ["succeeded"]


def test_a_failure_is_kept_and_told_without_what_looks_like_a_secret(ledger: LedgerAtWork) -> None:
    """S-40."""
    mission = end_with(ledger, Failed("no: password=hunter2", {"stderr": "Bearer abcDEF123"}), max_retries=1)

    assert (mission.error, mission.result["stderr"]) == ("no: password=***", "Bearer ***")
    assert [attempt.error for attempt in ledger.attempts()] == ["no: password=***"]
    assert ledger.detail("failed") == {"error": "no: password=***"}
    [letter] = ledger.sql("SELECT failure_error FROM corporation.dead_letters")
    assert "hunter2" not in letter.failure_error


def test_what_celery_itself_says_of_a_failure_is_kept_without_it_too(ledger: LedgerAtWork) -> None:
    assert end_with_bytes(ledger, celery_failure("ValueError", "token=abc")).error == "ValueError: token=***"


def test_a_secret_of_our_own_is_known_in_whatever_words(ledger: LedgerAtWork) -> None:
    [attempt] = ledger.hand_out("j-1", max_retries=1)
    ledger.report(attempt, Failed("it was correct horse battery"))
    with transaction(ledger.engine) as connection:
        collect_some(connection, AT_ONCE, lambda: 0.5, 500, hiding(["correct horse battery"]))

    assert ledger.mission().error == "it was ***"


def test_what_was_done_is_kept_to_the_letter(ledger: LedgerAtWork) -> None:
    mission = end_with(ledger, Done({"output": "set password=hunter2 in the file"}))

    assert mission.result["output"] == "set password=hunter2 in the file"


def test_when_it_started_is_told_by_how_long_it_ran(ledger: LedgerAtWork) -> None:
    [attempt] = ledger.hand_out("j-1")
    ledger.report(attempt, Done({}), seconds=90)
    ledger.collect()
    mission = ledger.mission()

    assert (mission.finished_at - mission.started_at).total_seconds() == 90
    assert ledger.detail("started") == {"seconds_ago": 90}


@pytest.mark.parametrize("seconds", [-1, 1e300, 1e12, True, "long", None, [1]])
def test_a_length_of_time_that_cannot_be_is_not_believed(ledger: LedgerAtWork, seconds: Any) -> None:
    [attempt] = ledger.hand_out("j-1")
    ledger.fill(attempt, json.dumps({"outcome": "done", "duration_seconds": seconds}).encode())
    ledger.collect()
    mission = ledger.mission()

    assert mission.state == "succeeded"
    assert 0 <= (mission.finished_at - mission.started_at).total_seconds() <= 1


def test_a_mission_that_was_seen_running_keeps_when_it_started(ledger: LedgerAtWork) -> None:
    [attempt] = ledger.hand_out("j-1")
    ledger.hear(attempt)
    started = ledger.mission().started_at
    ledger.report(attempt, Done({}), seconds=3600)
    ledger.collect()

    assert ledger.mission().started_at == started
    assert ledger.events() == ["published", "queued", "started", "succeeded"]


@pytest.mark.parametrize(
    ("outcome", "error"),
    [(Failed("exit code 2"), "exit code 2"), (TimedOut("too slow"), "too slow"), (Later(15, "busy"), "busy")],
)
def test_an_attempt_that_did_not_succeed_is_followed_by_another(
    ledger: LedgerAtWork, outcome: Outcome, error: str
) -> None:
    mission = end_with(ledger, outcome)

    assert (mission.state, mission.state_reason, mission.attempt_id) == ("waiting", "backoff", None)
    assert (mission.next_attempt_at - mission.updated_at).total_seconds() == 15
    assert ledger.detail("retry_scheduled") == {"error": error, "delay_seconds": 15}
    assert ledger.dispatch() == 0
    ledger.end_backoff()
    assert ledger.dispatch() == 1
    assert [attempt.number for attempt in ledger.attempts()] == [1, 2]


def test_a_lost_attempt_is_told_and_followed_by_another(ledger: LedgerAtWork) -> None:
    mission = end_with(ledger, Lost("the process died"))

    assert mission.state == "waiting"
    assert ledger.events() == ["published", "queued", "attempt_lost", "retry_scheduled"]
    assert ledger.attempts()[0].state == "lost"


@pytest.mark.parametrize(
    ("outcome", "state", "error"),
    [
        (Failed("exit code 2"), "failed", "exit code 2"),
        (TimedOut("too slow"), "timed_out", "too slow"),
        (Later(15, "busy"), "failed", "busy"),
        (Lost("the process died"), "failed", "lost: the process died"),
        (Stop("no such repository"), "failed", "no such repository"),
    ],
)
def test_the_last_attempt_ends_the_mission(ledger: LedgerAtWork, outcome: Outcome, state: str, error: str) -> None:
    mission = end_with(ledger, outcome, max_retries=1)

    assert (mission.state, mission.error) == (state, error)
    assert mission.result["terminal_status"] == state
    assert ledger.events()[-1] == state


def test_stop_ends_the_mission_whatever_attempts_are_left(ledger: LedgerAtWork) -> None:
    assert end_with(ledger, Stop("never"), max_retries=9).state == "failed"


def test_of_a_long_error_the_tail_is_kept(ledger: LedgerAtWork) -> None:
    mission = end_with(ledger, Stop("x" * 100_000 + "the cause"))

    assert len(mission.error) == 4000
    assert mission.error.endswith("the cause")


def test_all_attempts_failing_ends_the_mission_after_exactly_that_many(ledger: LedgerAtWork) -> None:
    ledger.hand_out("j-1", max_retries=3)
    for _ in range(3):
        ledger.report(ledger.attempt_of(), Failed("again"))
        ledger.collect(AT_ONCE)
        ledger.dispatch()

    assert (ledger.state(), ledger.mission().attempt) == ("failed", 3)
    assert ledger.events().count("retry_scheduled") == 2


@pytest.mark.parametrize(
    ("kind", "words", "state", "error"),
    [
        ("TimeLimitExceeded", ("30",), "timed_out", "the time limit passed (30)"),
        ("SoftTimeLimitExceeded", (), "timed_out", "the time limit passed ()"),
        ("WorkerLostError", ("Worker exited: signal 9",), "failed", "lost: Worker exited: signal 9"),
        ("Terminated", (), "failed", "lost: Terminated"),
        ("NotRegistered", ("mission.dance",), "failed", "the factory does not know this kind of mission (mission.dance)"),  # noqa: E501
        ("KeyError", ("task",), "failed", "KeyError: task"),
    ],
)  # fmt: skip
def test_what_celery_stores_by_itself_is_understood(
    ledger: LedgerAtWork, kind: str, words: tuple[str, ...], state: str, error: str
) -> None:
    mission = end_with_bytes(ledger, celery_failure(kind, *words))

    assert (mission.state, mission.error) == (state, error)


def test_a_revoked_task_is_a_lost_attempt(ledger: LedgerAtWork) -> None:
    mission = end_with_bytes(ledger, celery_failure("TaskRevokedError", "revoked"), "REVOKED")

    assert mission.error == "lost: the task was revoked"


HOSTILE: dict[str, bytes | None] = {
    "nothing": None,
    "empty": b"",
    "not JSON": b"{]",
    "not UTF-8": b"\xff\xfe\x00",
    "a bare number": b"7",
    "null": b"null",
    "a list": b'["outcome", "done"]',
    "only a bracket": b"{",
    "two documents": b'{"outcome": "done"}{"outcome": "done"}',
    "a key twice": b'{"outcome": "failed", "outcome": "done"}',
    "no outcome": b'{"result": {}}',
    "NaN": b'{"outcome": "done", "result": {"a": NaN}}',
    "an integer of 5000 digits": b'{"outcome": "done", "result": {"a": %s}}' % (b"9" * 5000),
    "a number beyond every float": b'{"outcome": "done", "result": {"a": 1e999}}',
    "nesting": b'{"outcome": "done", "result": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    "a byte order mark": b'\xef\xbb\xbf{"outcome": "done"}',
}


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE.keys())
@pytest.mark.parametrize("status", ["FAILURE"])
def test_hostile_bytes_fail_the_attempt_and_say_so(ledger: LedgerAtWork, body: bytes | None, status: str) -> None:
    mission = end_with_bytes(ledger, body, status)

    assert mission.state == "failed"
    assert "report" in mission.error


def test_work_that_celery_calls_done_is_not_done_again_because_its_words_cannot_be_read(ledger: LedgerAtWork) -> None:
    mission = end_with_bytes(ledger, b'{"outcome": "done", "result": {"a": NaN}}', "SUCCESS")

    assert mission.state == "succeeded"
    assert "cannot be read" in mission.result["unreadable"]


@pytest.mark.parametrize("body", [b"\x80\x04}", b"\x80", b"\x80\x04\x95" + b"x" * 100])
def test_a_pickle_never_enters_the_mailbox(ledger: LedgerAtWork, body: bytes) -> None:
    [attempt] = ledger.hand_out("j-1")

    with pytest.raises(IntegrityError, match="result_not_pickle"):
        ledger.fill(attempt, body)
    assert ledger.collect() == 0


def test_a_report_of_more_than_a_megabyte_never_enters_the_mailbox(ledger: LedgerAtWork) -> None:
    [attempt] = ledger.hand_out("j-1")

    with pytest.raises(IntegrityError, match="result_size"):
        ledger.fill(attempt, b" " * (1024 * 1024 + 1))


@pytest.mark.parametrize("text", ["a\0b", "\ud800", "\udfff\ud800", "ok \U0001f600", "\\u0000", "\x1b[31m", "\u202e"])
@pytest.mark.parametrize("outcome", ["done", "stop", "failed", "lost", "timed_out"])
def test_any_text_in_a_report_can_be_stored_and_read_again(ledger: LedgerAtWork, outcome: str, text: str) -> None:
    body = {"outcome": outcome, "error": f"why {text}", "result": {f"key {text}": [text, {"deep": text}]}}
    mission = end_with_bytes(ledger, json.dumps(body).encode())
    stored = text.replace("\0", "\ufffd").replace("\ud800", "\ufffd").replace("\udfff", "\ufffd")

    assert outcome == "done" or mission.error.endswith(f"why {stored}")
    assert outcome == "lost" or mission.result[f"key {stored}"] == [stored, {"deep": stored}]
    with ledger.engine.connect() as connection:
        assert json.dumps(find_mission(connection, "j-1"), ensure_ascii=False).encode()


def test_any_text_in_a_late_report_can_be_kept(ledger: LedgerAtWork) -> None:
    first = fall_behind(ledger)
    ledger.fill(first, json.dumps({"outcome": "done", "error": "\ud800\0", "result": {"a\0": "\udfff"}}).encode())
    ledger.collect()

    assert ledger.attempts()[0].outcome["result"] == {"a\ufffd": "\ufffd"}


def test_one_hostile_report_does_not_hold_up_its_neighbours(ledger: LedgerAtWork) -> None:
    attempts = ledger.hand_out(*(f"j-{number}" for number in range(len(HOSTILE) + 1)))
    for attempt, body in zip(attempts, HOSTILE.values(), strict=False):
        ledger.fill(attempt, body)
    ledger.report(attempts[-1])
    ledger.collect()

    assert ledger.state(f"j-{len(HOSTILE)}") == "succeeded"
    assert ledger.collect() == 0


bodies = st.one_of(
    st.binary(max_size=40).filter(lambda data: not data.startswith(b"\x80")),
    st.text(max_size=20).map(lambda text: json.dumps({"outcome": "failed", "error": text}).encode()),
    st.dictionaries(
        st.sampled_from(["outcome", "error", "result", "after_seconds", "duration_seconds", "exc_type", "exc_message"]),
        st.one_of(
            st.sampled_from(["done", "later", "stop", "failed", "timed_out", "lost", "NotRegistered"]),
            st.integers(),
            st.floats(),
            st.text(st.characters(), max_size=5),
            st.none(),
            st.lists(st.text(max_size=2), max_size=2),
            st.dictionaries(st.text(max_size=2), st.floats(), max_size=2),
        ),
        max_size=5,
    ).map(lambda fields: json.dumps(fields).encode()),
)


@settings(max_examples=30, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(bodies, st.sampled_from(["SUCCESS", "FAILURE", "REVOKED"])), min_size=1, max_size=8))
def test_no_bytes_of_a_factory_stop_the_collector(ledger: LedgerAtWork, letters: list[tuple[bytes, str]]) -> None:
    known = len(ledger.sql("SELECT 1 FROM corporation.missions"))
    attempts = ledger.hand_out(*(f"j-{known + number}" for number in range(len(letters))), max_retries=1)
    for attempt, (body, status) in zip(attempts, letters, strict=True):
        ledger.fill(attempt, body, status)

    assert ledger.collect() == len(letters)
    assert not ledger.sql("SELECT 1 FROM corporation.missions WHERE finished_at IS NULL")


def fall_behind(ledger: LedgerAtWork) -> str:
    """A first attempt that was given up; the mission is queued again. Its id is returned."""
    [first] = ledger.hand_out("j-1")
    ledger.broker.take("factory.desk-7")
    ledger.lapse(first)
    ledger.rescue(AT_ONCE)
    ledger.dispatch()
    assert (ledger.state(), ledger.mission().attempt) == ("queued", 2)
    return first


@pytest.mark.parametrize("outcome", [Done({"a": 1}), Stop("x"), Failed("x"), Lost("x"), TimedOut("x"), Later(1, "x")])
def test_a_late_report_changes_nothing_but_the_history_and_is_kept(ledger: LedgerAtWork, outcome: Outcome) -> None:
    """S-32."""
    first = fall_behind(ledger)
    before, attempts = ledger.mission(), ledger.attempts()
    ledger.report(first, outcome)
    ledger.collect()
    after = ledger.mission()

    assert {**after._mapping, "event_seq": before.event_seq} == dict(before._mapping)
    assert [one.state for one in ledger.attempts()] == [one.state for one in attempts] == ["lost", "queued"]
    assert ledger.events()[-1] == "late_result"
    assert ledger.attempts()[0].outcome == json.loads(report(outcome))


def test_a_late_success_does_not_stop_the_newer_attempt_from_ending_the_mission(ledger: LedgerAtWork) -> None:
    first = fall_behind(ledger)
    ledger.report(first, Done({"by": "first"}))
    ledger.report(ledger.attempt_of(), Done({"by": "second"}))

    assert ledger.collect() == 2
    assert (ledger.mission().result["by"], ledger.mission().result["attempts"]) == ("second", 2)


def test_a_late_report_on_a_mission_that_waits_for_its_next_attempt_is_kept_too(ledger: LedgerAtWork) -> None:
    [first] = ledger.hand_out("j-1")
    ledger.broker.take("factory.desk-7")
    ledger.lapse(first)
    ledger.rescue()
    ledger.report(first)
    ledger.collect()

    assert ledger.state() == "waiting"
    assert ledger.events()[-1] == "late_result"


def test_a_late_failure_after_a_success_changes_nothing(ledger: LedgerAtWork) -> None:
    first = fall_behind(ledger)
    ledger.report(ledger.attempt_of(), Done({"by": "second"}))
    ledger.collect()
    ledger.report(first, Stop("too late"))
    ledger.collect()

    assert (ledger.state(), ledger.mission().error) == ("succeeded", None)
    assert ledger.events()[-2:] == ["succeeded", "late_result"]


def test_two_late_reports_of_one_mission_in_one_batch_are_both_kept(ledger: LedgerAtWork) -> None:
    first = fall_behind(ledger)
    second = ledger.attempt_of()
    ledger.send()
    ledger.broker.take("factory.desk-7")
    ledger.lapse(second)
    ledger.rescue(AT_ONCE)
    ledger.dispatch()
    ledger.report(second)
    ledger.report(first)
    ledger.report(ledger.attempt_of())

    assert ledger.collect() == 3
    assert sorted(ledger.events()[-3:]) == ["late_result", "late_result", "succeeded"]


def test_a_second_report_of_the_same_attempt_is_not_taken_by_the_mailbox(ledger: LedgerAtWork) -> None:
    [attempt] = ledger.hand_out("j-1")
    ledger.report(attempt, Done({}))
    ledger.report(attempt, Stop("changed my mind"))
    ledger.collect()

    assert ledger.state() == "succeeded"
    assert ledger.collect() == 0


def test_a_letter_on_an_attempt_that_is_not_in_the_ledger_is_put_away(ledger: LedgerAtWork) -> None:
    ledger.sql(
        """INSERT INTO mailbox.celery_taskmeta (task_id, status, result, factory)
           VALUES ('5f2b6c1e-0d1f-4f0e-9a36-3f1f6f0c9d11', 'SUCCESS', '{}', 'desk-7')"""
    )

    assert [ledger.collect(), ledger.collect()] == [1, 0]


def test_a_letter_that_is_not_finished_is_not_read(ledger: LedgerAtWork) -> None:
    [attempt] = ledger.hand_out("j-1")
    ledger.fill(attempt, report(Done({})), "STARTED")

    assert ledger.collect() == 0
    assert ledger.state() == "queued"


def test_collectors_at_the_same_time_apply_each_letter_once(ledger: LedgerAtWork) -> None:
    attempts = ledger.hand_out(*(f"j-{number}" for number in range(120)))
    for attempt in attempts:
        ledger.report(attempt)
    together = Barrier(6)

    def collect(_: int) -> int:
        together.wait(10)
        return sum(ledger.collect(limit=7) for _ in range(10))

    with ThreadPoolExecutor(6) as pool:
        read = sum(pool.map(collect, range(6)))

    assert read + ledger.collect() == 120
    assert not ledger.sql("SELECT 1 FROM corporation.missions WHERE state <> 'succeeded'")


def test_a_crash_before_the_commit_applies_nothing_and_the_next_collector_applies_it_once(ledger: LedgerAtWork) -> None:
    [attempt] = ledger.hand_out("j-1")
    ledger.report(attempt)
    with ledger.engine.connect() as connection:
        assert collect_some(connection, AT_ONCE, lambda: 0.5, 500) == 1
        connection.rollback()

    assert ledger.state() == "queued"
    assert ledger.collect() == 1
    assert ledger.state() == "succeeded"
