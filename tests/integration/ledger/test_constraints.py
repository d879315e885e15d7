"""Each rule of the ledger is refused by the database itself when it is broken, whatever the code above it thinks."""

from typing import Any

import pytest
from ledger_at_work import LedgerAtWork
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from corporation.missions.outcomes import Stop

MISSION: dict[str, Any] = {
    "job_id": "bad",
    "idempotency_key": "k-bad",
    "mission_kind": "general_task",
    "requested_kind": "general_task",
    "source": "rest",
    "priority": 1,
    "broker_priority": 1,
    "timeout_seconds": 60,
    "max_retries": 3,
    "attempts_total": 3,
    "envelope": "{}",
    "body_digest": b"x",
}


def refused(ledger: LedgerAtWork, rule: str, table: str, values: dict[str, Any]) -> None:
    """The insertion is refused by that rule; whatever came of it is taken back."""
    names = ", ".join(values)
    places = ", ".join(f":{name}" for name in values)
    with ledger.engine.connect() as connection, pytest.raises(IntegrityError, match=rule):
        connection.execute(text(f"INSERT INTO {table} ({names}) VALUES ({places})"), values)  # noqa: S608 - our names


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"job_id": ""}, "missions_job_id_check"),
        ({"job_id": "x" * 401}, "missions_job_id_check"),
        ({"idempotency_key": ""}, "missions_idempotency_key_check"),
        ({"idempotency_key": "x" * 501}, "missions_idempotency_key_check"),
        ({"mission_kind": ""}, "missions_mission_kind_check"),
        ({"source": "somebody"}, "missions_source_check"),
        ({"target_factory_id": ""}, "missions_target_factory_id_check"),
        ({"broker_priority": 10}, "missions_broker_priority_check"),
        ({"broker_priority": -1}, "missions_broker_priority_check"),
        ({"timeout_seconds": 0}, "missions_timeout_seconds_check"),
        ({"max_retries": -1}, "missions_max_retries_check"),
        ({"attempts_total": 0}, "missions_attempts_total_check"),
        ({"attempts_before": -1}, "missions_attempts_before_check"),
        ({"attempt": -1}, "missions_attempt_check"),
        ({"attempt": 4}, "attempts_are_bounded"),
        ({"state": "lost"}, "missions_state_check"),
        ({"state": "queued"}, "live_has_an_attempt"),
        ({"state": "claimed"}, "live_has_an_attempt"),
        ({"state": "running"}, "live_has_an_attempt"),
        ({"attempt_id": "5f2b6c1e-0d1f-4f0e-9a36-3f1f6f0c9d11"}, "waiting_has_no_attempt"),
        ({"finished_at": "2026-06-01"}, "final_has_an_end"),
        ({"state": "succeeded"}, "final_has_an_end"),
        ({"state": "failed", "error": "x"}, "final_has_an_end"),
        ({"state": "succeeded", "finished_at": "2026-06-01", "error": "x"}, "success_has_no_error"),
        ({"state": "failed", "finished_at": "2026-06-01", "error": ""}, "failure_has_an_error"),
        ({"state": "failed", "finished_at": "2026-06-01"}, "failure_has_an_error"),
        ({"state": "timed_out", "finished_at": "2026-06-01"}, "failure_has_an_error"),
        ({"state": "cancelled", "finished_at": "2026-06-01"}, "failure_has_an_error"),
        ({"job_id": "j-1"}, "missions_job_id_key"),
        ({"idempotency_key": "k-j-1"}, "missions_idempotency_key_key"),
        ({"envelope": None}, "envelope"),
        ({"body_digest": None}, "body_digest"),
    ],
)
def test_a_mission_that_breaks_a_rule_is_refused(ledger: LedgerAtWork, changes: dict[str, Any], rule: str) -> None:
    ledger.publish("j-1")

    refused(ledger, rule, "corporation.missions", MISSION | changes)


def test_two_missions_never_share_an_attempt(ledger: LedgerAtWork) -> None:
    [attempt] = ledger.hand_out("j-1")

    refused(
        ledger,
        "missions_by_attempt",
        "corporation.missions",
        MISSION | {"state": "queued", "attempt_id": attempt, "attempt": 1},
    )


ATTEMPT: dict[str, Any] = {
    "id": "5f2b6c1e-0d1f-4f0e-9a36-3f1f6f0c9d11",
    "number": 2,
    "factory_id": "desk-7",
    "queue": "q",
    "lease_expires_at": "2026-06-01",
    "state": "lost",
    "finished_at": "2026-06-01",
}


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"number": 0}, "attempts_number_check"),
        ({"number": 1}, "attempt_numbers_are_unique"),
        ({"state": "waiting"}, "attempts_state_check"),
        ({"state": "queued", "finished_at": None}, "one_live_attempt_per_mission"),
        ({"state": "running", "finished_at": None}, "one_live_attempt_per_mission"),
        ({"finished_at": None}, "ended_has_an_end"),
        ({"state": "queued"}, "ended_has_an_end"),
        ({"mission_id": 999}, "attempts_mission_id_fkey"),
        ({"lease_expires_at": None}, "lease_expires_at"),
    ],
)
def test_an_attempt_that_breaks_a_rule_is_refused(ledger: LedgerAtWork, changes: dict[str, Any], rule: str) -> None:
    ledger.hand_out("j-1")

    refused(ledger, rule, "corporation.attempts", ATTEMPT | {"mission_id": ledger.mission().id} | changes)


def test_an_attempt_id_is_used_once(ledger: LedgerAtWork) -> None:
    [attempt] = ledger.hand_out("j-1")

    refused(
        ledger, "attempts_pkey", "corporation.attempts", ATTEMPT | {"mission_id": ledger.mission().id, "id": attempt}
    )


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"seq": 0}, "mission_events_seq_check"),
        ({"seq": 1}, "mission_events_pkey"),
        ({"type": "exploded"}, "mission_events_type_check"),
        ({"mission_id": 999}, "mission_events_mission_id_fkey"),
        ({"type": "failed"}, "one_final_event_per_mission"),
        ({"type": "succeeded"}, "one_final_event_per_mission"),
        ({"type": "timed_out"}, "one_final_event_per_mission"),
        ({"type": "cancelled"}, "one_final_event_per_mission"),
    ],
)
def test_an_event_that_breaks_a_rule_is_refused(ledger: LedgerAtWork, changes: dict[str, Any], rule: str) -> None:
    finish(ledger)
    event = {"mission_id": ledger.mission().id, "seq": 99, "type": "progress"}

    refused(ledger, rule, "corporation.mission_events", event | changes)


def finish(ledger: LedgerAtWork) -> None:
    [attempt] = ledger.hand_out("j-1")
    ledger.report(attempt, Stop("no"))
    ledger.collect()


@pytest.mark.parametrize("change", ["type = 'progress'", "detail = '{}'", "seq = seq + 100", "at = now()"])
def test_an_event_is_never_changed(ledger: LedgerAtWork, change: str) -> None:
    ledger.publish("j-1")

    with pytest.raises(IntegrityError, match="events are never changed"):
        ledger.sql(f"UPDATE corporation.mission_events SET {change}")  # noqa: S608


@pytest.mark.parametrize(
    "change",
    [
        "state = 'succeeded', error = NULL",
        "state = 'waiting', finished_at = NULL, attempt_id = NULL",
        "state = 'running', finished_at = NULL",
        "error = 'another'",
        "result = '{}'",
        "attempt = attempt + 1",
        "finished_at = now() + interval '1 second'",
    ],
)
def test_a_final_mission_never_changes(ledger: LedgerAtWork, change: str) -> None:
    finish(ledger)

    with pytest.raises(IntegrityError, match="mission j-1 is final: failed"):
        ledger.sql(f"UPDATE corporation.missions SET {change}")  # noqa: S608


def test_that_a_result_was_published_may_be_noted_on_a_final_mission(ledger: LedgerAtWork) -> None:
    finish(ledger)
    ledger.sql("UPDATE corporation.missions SET result_published_at = now()")

    assert ledger.mission().result_published_at is not None


FACTORY: dict[str, Any] = {"factory_id": "desk-9", "source": "api_registration"}


@pytest.mark.parametrize(
    "changes",
    [
        {"factory_id": ""},
        {"factory_id": "   "},
        {"factory_id": "x" * 201},
        {"source": "gossip"},
        {"registration_status": "asleep"},
        {"heartbeat_latency_ms": -1},
        {"slots": -1},
    ],
)
def test_a_factory_that_breaks_a_rule_is_refused(ledger: LedgerAtWork, changes: dict[str, Any]) -> None:
    refused(ledger, "check", "corporation.factories", FACTORY | changes)


def test_an_attempt_is_in_the_outbox_once(ledger: LedgerAtWork) -> None:
    ledger.beat()
    ledger.publish("j-1")
    ledger.dispatch()

    refused(
        ledger, "one_message_of_a_topic", "corporation.outbox", {"topic": "attempt", "attempt_id": ledger.attempt_of()}
    )


@pytest.mark.parametrize(
    ("values", "rule"),
    [
        ({"topic": "gossip", "attempt_id": None}, "outbox"),
        ({"topic": "attempt", "attempt_id": ATTEMPT["id"]}, "outbox_attempt_id_fkey"),
    ],
)
def test_only_attempts_are_in_the_outbox(ledger: LedgerAtWork, values: dict[str, Any], rule: str) -> None:
    refused(ledger, rule, "corporation.outbox", values)


@pytest.mark.parametrize(
    "changes", [{"attempt": 0}, {"number": 0}, {"line": "x" * 8193}, {"line": None}, {"mission_id": 999}]
)
def test_a_log_line_that_breaks_a_rule_is_refused(ledger: LedgerAtWork, changes: dict[str, Any]) -> None:
    ledger.publish("j-1")
    line = {"mission_id": ledger.mission().id, "attempt": 1, "number": 1, "line": "hello"}

    refused(ledger, "mission_log", "corporation.mission_log", line | changes)


def test_an_alias_is_given_once(ledger: LedgerAtWork) -> None:
    ledger.publish("j-1")
    alias = {"job_id": "other", "mission_id": ledger.mission().id}
    ledger.sql("INSERT INTO corporation.mission_aliases (job_id, mission_id) VALUES (:job_id, :mission_id)", **alias)

    refused(ledger, "mission_aliases_pkey", "corporation.mission_aliases", alias)


LETTER: dict[str, Any] = {"task_id": "t-1", "factory": "desk-7"}


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"status": "DONE"}, "celery_taskmeta_status_check"),
        ({"result": b"\x80\x04."}, "result_not_pickle"),
        ({"result": b" " * 1_048_577}, "result_size"),
        ({"traceback": "x" * 65_537}, "traceback_size"),
        ({"children": b"x"}, "no_children"),
        ({"factory": None}, "factory"),
    ],
)
def test_a_letter_that_breaks_a_rule_is_refused(ledger: LedgerAtWork, changes: dict[str, Any], rule: str) -> None:
    refused(ledger, rule, "mailbox.celery_taskmeta", LETTER | changes)


def test_there_is_one_letter_a_task(ledger: LedgerAtWork) -> None:
    ledger.sql("INSERT INTO mailbox.celery_taskmeta (task_id, factory) VALUES (:task_id, :factory)", **LETTER)

    refused(ledger, "celery_taskmeta_task_id_key", "mailbox.celery_taskmeta", LETTER)
