"""Attempts that were taken back from their queue before anybody received them: they are over and use up nothing."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, text

# Only what was sent once: of an attempt that was handed out again, nobody knows what became of the first
# message, and one that swallows its messages must come to an end. The total grows with the number, so that as many
# attempts are left as before (`attempts_are_bounded` counts numbers).
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

HOLDERS = text("""
    SELECT held.factory_id, held.orders, f.factory_id IS NOT NULL AS registered, f.registration_status, f.paused,
           f.draining, access.quarantined_at IS NOT NULL AS quarantined,
           extract(epoch FROM now() - f.last_seen_at) AS silent_seconds
      FROM (SELECT DISTINCT a.factory_id, m.mission_kind LIKE 'system:%' AS orders
              FROM corporation.attempts a JOIN corporation.missions m ON m.attempt_id = a.id
             WHERE a.state = 'queued') AS held
      LEFT JOIN corporation.factories f USING (factory_id)
      LEFT JOIN corporation.factory_access access USING (factory_id)
""")

# One whose report lies uncollected in the mailbox was received, whatever its message says. Each queue has its turn: of
# one that cannot be read nothing is ever taken back, and it must not hide the others behind its rows.
TAKE = text("""
    WITH theirs AS MATERIALIZED (
      SELECT m.id, row_number() OVER (PARTITION BY a.queue ORDER BY m.id) AS turn
        FROM corporation.attempts a JOIN corporation.missions m ON m.attempt_id = a.id
        LEFT JOIN corporation.outbox o ON o.attempt_id = a.id AND o.topic = 'attempt'
       WHERE (o.id IS NOT NULL OR CAST(:sent_too AS boolean)) AND a.state = 'queued' AND m.state = 'queued'
         AND NOT EXISTS (SELECT 1 FROM mailbox.celery_taskmeta t WHERE t.task_id = a.id::text
                            AND t.collected_at IS NULL AND t.status IN ('SUCCESS', 'FAILURE', 'REVOKED'))
         AND (a.factory_id, m.mission_kind LIKE 'system:%') IN
             (SELECT * FROM unnest(CAST(:factory_ids AS text[]), CAST(:orders AS boolean[])))
    ), fair AS MATERIALIZED (
      SELECT id FROM theirs ORDER BY turn, id LIMIT CAST(:limit AS bigint)
    )
    SELECT a.id, a.queue, a.factory_id, a.sends > 1 AS resent, o.id IS NOT NULL AS unsent
      FROM corporation.attempts a JOIN corporation.missions m ON m.attempt_id = a.id
      LEFT JOIN corporation.outbox o ON o.attempt_id = a.id AND o.topic = 'attempt'
     WHERE m.id IN (SELECT id FROM fair) AND a.state = 'queued' AND m.state = 'queued'
     ORDER BY m.id
       FOR NO KEY UPDATE OF m
""")

# What a sender holds this moment is in its queue the next one, and is taken from there.
UNSEND = text("""
    DELETE FROM corporation.outbox
     WHERE id IN (SELECT id FROM corporation.outbox
                   WHERE topic = 'attempt' AND attempt_id = ANY(CAST(:attempt_ids AS uuid[]))
                     FOR UPDATE SKIP LOCKED)
    RETURNING attempt_id
""")


@dataclass(frozen=True)
class Holder:
    """A factory in whose queues attempts lie that nobody received; `orders` when they are orders to itself."""

    factory_id: str
    orders: bool
    registered: bool
    said: str = "offline"
    """What its last beat said."""
    paused: bool = False
    draining: bool = False
    quarantined: bool = False
    silent_seconds: float = 0.0


@dataclass(frozen=True)
class Lying:
    """A queued attempt whose mission is locked; `unsent` while its message is still in the outbox."""

    attempt_id: str
    queue: str
    factory_id: str
    unsent: bool
    resent: bool
    """It was handed out more than once: nobody knows what became of the message before."""


def withdraw(connection: Connection, reasons: Mapping[str, str]) -> set[str]:
    """End these attempts (id → why) as withdrawn and let their missions wait, due at once; who was is returned.

    The missions must be locked. Left alone is an attempt that is not queued any more or was sent more than once; so
    calling twice changes nothing.
    """
    if not reasons:
        return set()
    values = {"attempt_ids": list(reasons), "reasons": list(reasons.values())}
    return {str(row.attempt_id) for row in connection.execute(WITHDRAW, values)}


def holders(connection: Connection) -> list[Holder]:
    """The factories for which attempts are queued that nobody received, by what lies there; few however many lie."""
    return [
        Holder(
            row.factory_id,
            row.orders,
            row.registered,
            *((row.registration_status, row.paused, row.draining) if row.registered else ()),
            quarantined=row.quarantined,
            silent_seconds=float(row.silent_seconds or 0.0),
        )
        for row in connection.execute(HOLDERS)
    ]


def take_lying(connection: Connection, of: Sequence[Holder], limit: int, *, sent_too: bool) -> list[Lying]:
    """Up to `limit` attempts that are queued for these factories, their missions locked in the order of all.

    The queues take turns, so that none has more than its share while another has some left. Without `sent_too` only
    those whose message is still in the outbox.
    """
    holding = {"factory_ids": [one.factory_id for one in of], "orders": [one.orders for one in of]}
    values = {**holding, "limit": limit, "sent_too": sent_too}
    rows = connection.execute(TAKE, values)
    return [Lying(str(row.id), row.queue, row.factory_id, row.unsent, row.resent) for row in rows]


def unsend(connection: Connection, attempt_ids: Collection[str]) -> set[str]:
    """Those of these attempts whose message was in the outbox, and is not sent any more."""
    rows = connection.execute(UNSEND, {"attempt_ids": list(attempt_ids)})
    return {str(row.attempt_id) for row in rows}
