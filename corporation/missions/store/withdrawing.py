"""Attempts that were taken back from their queue before anybody received them: they are over and use up nothing."""

from collections.abc import Mapping

from sqlalchemy import Connection, text

# Only what was sent once: of an attempt that was handed out again, nobody knows what became of the first message. The
# total grows with the number, so that as many attempts are left as before (`attempts_are_bounded` counts numbers).
WITHDRAW = text("""
    WITH given AS (
      SELECT * FROM unnest(CAST(:attempt_ids AS uuid[]), CAST(:reasons AS text[])) AS t(attempt_id, reason)
    ), back AS (
      UPDATE corporation.missions m
         SET state = 'waiting', state_reason = 'behind_others', attempt_id = NULL, next_attempt_at = NULL,
             attempts_total = m.attempts_total + 1, updated_at = now(), event_seq = m.event_seq + 1
        FROM given g JOIN corporation.attempts a ON a.id = g.attempt_id
       WHERE m.id = a.mission_id AND m.attempt_id = a.id AND m.state = 'queued'
         AND a.state = 'queued' AND a.sends = 1
      RETURNING m.id, m.attempt, a.id AS attempt_id, m.factory_id, m.event_seq, g.reason
    ), closed AS (
      UPDATE corporation.attempts a SET state = 'withdrawn', finished_at = now(), error = b.reason
        FROM back b WHERE a.id = b.attempt_id
    ), told AS (
      INSERT INTO corporation.mission_events (mission_id, seq, type, attempt, factory_id, detail)
      SELECT id, event_seq, 'waiting', attempt, factory_id, json_build_object('withdrawn', true, 'error', reason)
        FROM back
    )
    SELECT attempt_id FROM back
""")


def withdraw(connection: Connection, reasons: Mapping[str, str]) -> set[str]:
    """End these attempts (id → why) as withdrawn and let their missions wait, due at once; who was is returned.

    The missions must be locked. Left alone is an attempt that is not queued any more or was sent more than once; so
    calling twice changes nothing.
    """
    if not reasons:
        return set()
    values = {"attempt_ids": list(reasons), "reasons": list(reasons.values())}
    return {str(row.attempt_id) for row in connection.execute(WITHDRAW, values)}
