"""Queued attempts whose message is lost, handed out again; and what the ledger knows of messages found in queues."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, text

from corporation.missions.store.leases import LOCK

# Never what a factory has spoken of or reported, or what is still to be sent. The mailbox is asked last, after the
# queue and `unacked`, as a message goes: whoever took it meanwhile and is done has reported.
_MISSING = """
      FROM corporation.attempts a JOIN corporation.missions m ON m.attempt_id = a.id
     WHERE a.id = ANY(CAST(:ids AS uuid[])) AND a.state = 'queued' AND m.state = 'queued'
       AND (CAST(:most_sends AS integer) IS NULL OR a.sends < CAST(:most_sends AS integer))
       AND NOT EXISTS (SELECT 1 FROM corporation.outbox o WHERE o.attempt_id = a.id AND o.topic = 'attempt')
       AND NOT EXISTS (SELECT 1 FROM mailbox.celery_taskmeta t WHERE t.task_id = a.id::text
                          AND t.status IN ('SUCCESS', 'FAILURE', 'REVOKED'))
"""

MISSING = text(f"SELECT a.id {_MISSING}")

# The outbox is filled in the order of urgency, as the dispatcher fills it: that is the order in which it is emptied.
SEND_AGAIN = text(f"""
    WITH missing AS (
      SELECT a.id, row_number() OVER (ORDER BY m.broker_priority, m.created_at, m.place, m.id) AS turn {_MISSING}
    ), again AS (
      UPDATE corporation.attempts a
         SET sends = a.sends + 1,
             lease_expires_at = now() + CAST(:lease_seconds AS double precision) * interval '1 second'
        FROM missing WHERE a.id = missing.id
      RETURNING a.id, missing.turn
    )
    INSERT INTO corporation.outbox (topic, attempt_id) SELECT 'attempt', id FROM again ORDER BY turn
    RETURNING attempt_id
""")  # noqa: S608

FACTORIES = text("""
    SELECT factory_id FROM corporation.factories WHERE factory_id > :after ORDER BY factory_id
     LIMIT CAST(:limit AS bigint)
""")

KNOWN = text("""
    SELECT id, state IN ('queued', 'claimed', 'running') AS live FROM corporation.attempts
     WHERE id = ANY(CAST(:ids AS uuid[]))
""")


@dataclass(frozen=True)
class Known:
    """Which of some attempts the ledger knows, by whether they are live; nobody knows the rest."""

    live: frozenset[str]
    ended: frozenset[str]


def missing_attempts(connection: Connection, attempt_ids: Collection[str], most_sends: int | None) -> set[str]:
    """Those of these attempts, whose messages lie nowhere, that `send_again` would hand out again; nothing changes."""
    rows = connection.execute(MISSING, {"ids": list(attempt_ids), "most_sends": most_sends})
    return {str(row.id) for row in rows}


def send_again(
    connection: Connection, attempt_ids: Collection[str], lease_seconds: float, most_sends: int | None
) -> set[str]:
    """Put these attempts back into the outbox under their own ids, with a fresh lease; who was put back is returned.

    Left alone are those of which a factory spoke or reported meanwhile, and those that were sent `most_sends` times
    (None: however often). Calling twice sends once: what is in the outbox is not missing.
    """
    if not attempt_ids:
        return set()
    ids = list(attempt_ids)
    connection.execute(LOCK, {"ids": ids})
    rows = connection.execute(SEND_AGAIN, {"ids": ids, "lease_seconds": lease_seconds, "most_sends": most_sends})
    return {str(row.attempt_id) for row in rows}


def known_factories(connection: Connection, after: str = "", limit: int | None = None) -> list[str]:
    """Up to `limit` factories that ever registered, by rising id from right `after` one; None is all of them."""
    return list(connection.execute(FACTORIES, {"after": after, "limit": limit}).scalars())


def known_attempts(connection: Connection, attempt_ids: Sequence[str]) -> Known:
    """What the ledger knows of the attempts whose messages were found; an attempt that has ended stays ended."""
    rows = [(str(row.id), row.live) for row in connection.execute(KNOWN, {"ids": list(attempt_ids)})]
    return Known(frozenset(one for one, live in rows if live), frozenset(one for one, live in rows if not live))
