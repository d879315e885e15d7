"""The checker itself: a history that was tampered with in any of these ways does not pass."""

import pytest
from history import assert_history_is_whole
from ledger_at_work import LedgerAtWork
from sqlalchemy import text

from corporation.missions.outcomes import Failed

OFF = "SET LOCAL session_replication_role = replica"  # no triggers: the tampering must get past the database


@pytest.mark.parametrize(
    ("tampering", "found"),
    [
        ("DELETE FROM corporation.mission_events WHERE type = 'started'", "a gap in seq"),
        ("UPDATE corporation.missions SET event_seq = event_seq + 1", "a gap in seq"),
        ("UPDATE corporation.mission_events SET type = 'progress' WHERE seq = 1", "does not begin at the beginning"),
        ("UPDATE corporation.mission_events SET type = 'progress' WHERE type = 'succeeded'", "I6"),
        ("UPDATE corporation.mission_events SET type = 'failed' WHERE type = 'succeeded'", "I6"),
        ("UPDATE corporation.mission_events SET type = 'progress' WHERE type = 'retry_scheduled'", "cannot become"),
        ("UPDATE corporation.mission_events SET attempt = 1 WHERE type = 'succeeded'", "I4, succeeded of another"),
        (
            "UPDATE corporation.mission_events SET attempt = 3 WHERE type = 'queued' AND attempt = 2",
            "I4, attempts do not",
        ),
        (
            "UPDATE corporation.mission_events SET type = 'progress', attempt = 1 WHERE type = 'queued'",
            "I4|cannot become",
        ),
        ("UPDATE corporation.mission_events SET type = 'attempt_lost' WHERE type = 'started'", "cannot|lost attempts"),
        ("UPDATE corporation.missions SET attempt = 1", "I6"),
        ("DELETE FROM corporation.attempts WHERE number = 1", "I4, attempts"),
        ("UPDATE corporation.attempts SET state = 'lost' WHERE number = 2", "lost attempts differ"),
        ("UPDATE corporation.attempts SET state = 'running', finished_at = NULL WHERE number = 2", "outlives"),
        (
            """WITH more AS (UPDATE corporation.missions SET event_seq = event_seq + 1 RETURNING id, event_seq)
               INSERT INTO corporation.mission_events (mission_id, seq, type, attempt)
               SELECT id, event_seq, 'started', 2 FROM more""",
            "I2, started after the end",
        ),
        ("DELETE FROM mailbox.celery_taskmeta", "without their mailbox row"),
    ],
)
def test_tampering_is_found(ledger: LedgerAtWork, tampering: str, found: str) -> None:
    ledger.hand_out("j-1")
    ledger.report(ledger.attempt_of(), Failed("x"))
    ledger.collect()
    ledger.end_backoff()
    ledger.dispatch()
    ledger.hear(ledger.attempt_of())
    ledger.report(ledger.attempt_of())
    ledger.collect()

    with ledger.engine.connect() as connection:
        assert_history_is_whole(connection)
        connection.execute(text(OFF))
        connection.execute(text(tampering))
        with pytest.raises(AssertionError, match=found):
            assert_history_is_whole(connection)
