"""Orders to factories themselves that wait, and whether HQ has said something of a factory since one was given."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, text

from corporation.factories.sweep import AUTOMATIC
from corporation.missions.kinds import SYSTEM_ORDERS
from corporation.missions.store.dispatching import OVER_HTTPS

LOCK_FACTORIES = text("""
    SELECT factory_id FROM corporation.factories WHERE factory_id = ANY(CAST(:factory_ids AS text[]))
     ORDER BY factory_id FOR NO KEY UPDATE
""")

# A factory that has no row cannot be locked by it: its name is, until the commit.
LOCK_NAME = text("SELECT pg_advisory_xact_lock(hashtextextended('order to ' || CAST(:factory_id AS text), 0))")

# It is asked at every beat: orders have the priority 0 (S-11), which keeps the search away from most that waits.
_WAITS: Final = """m.state = 'waiting' AND m.target_factory_id = :factory_id AND m.mission_kind LIKE 'system:%'
       AND m.mission_kind = ANY(CAST(:kinds AS text[])) AND m.broker_priority = 0"""

NEWEST = text(f"""
    SELECT m.id, m.mission_kind, m.source, m.envelope FROM corporation.missions m
     WHERE {_WAITS}
     ORDER BY m.created_at DESC, m.place DESC, m.id DESC LIMIT 1
""")  # noqa: S608 - put in is our own condition

# What was said before a factory was removed went with it; that a pause came to its own end is nobody's word.
SAID_SINCE = text("""
    SELECT DISTINCT e.factory_id FROM corporation.factory_events e, corporation.missions m
     WHERE m.id = :mission_id AND e.factory_id = ANY(CAST(:factory_ids AS text[]))
       AND e.type IN ('paused', 'draining', 'resumed') AND e.by IS DISTINCT FROM :automatic AND e.at >= m.created_at
       AND NOT EXISTS (SELECT 1 FROM corporation.factory_events gone
                        WHERE gone.factory_id = e.factory_id AND gone.type = 'removed' AND gone.id > e.id)
""")

# Those of a factory that is sent none: what a control worker takes from its queue is left to it, and for such a factory
# nothing is searched. One that somebody else is changing is left for the next beat: waiting for it could close a ring.
TAKE_UNSENT = text(f"""
    WITH unsent AS MATERIALIZED (
      SELECT 1 FROM corporation.factories f
       WHERE f.factory_id = :factory_id AND f.registration_status <> 'offline'
         AND (CAST(f.capabilities AS jsonb) ? :over_https OR NOT CAST(f.queues AS jsonb) ? (f.slug || '.control'))
         AND NOT EXISTS (SELECT 1 FROM corporation.factory_access x
                          WHERE x.factory_id = f.factory_id AND x.quarantined_at IS NOT NULL)
    )
    SELECT m.id, m.attempt, m.mission_kind, m.source, m.envelope FROM corporation.missions m
     WHERE {_WAITS} AND EXISTS (SELECT 1 FROM unsent)
       AND (m.next_attempt_at IS NULL OR m.next_attempt_at <= now())
       AND (m.deadline_at IS NULL OR m.deadline_at > now())
     ORDER BY m.id LIMIT :limit
       FOR NO KEY UPDATE OF m SKIP LOCKED
""")  # noqa: S608 - put in is our own condition

_KINDS: Final = sorted(SYSTEM_ORDERS)


@dataclass(frozen=True)
class WaitingOrder:
    """An order that waits, as it was given; `attempt` is how many it has had."""

    mission_id: int
    kind: str
    source: str
    envelope: Mapping[str, Any]
    attempt: int = 0


def lock(connection: Connection, factory_ids: Collection[str]) -> set[str]:
    """Nobody else says something of these factories, or enters one of them, before the commit; which of them HQ knows.

    The rows by rising id, and then the names that have none: before any lock on missions.
    """
    known = _lock_rows(connection, factory_ids)
    if not (nameless := sorted(set(factory_ids) - known)):
        return known
    for factory_id in nameless:
        lock_name(connection, factory_id)
    # Who came while we waited for its name has its row now.
    return known | _lock_rows(connection, nameless)


def lock_name(connection: Connection, factory_id: str) -> None:
    """No order for this factory is stored, nor its first beat taken, by anybody else before the commit."""
    connection.execute(LOCK_NAME, {"factory_id": factory_id})


def newest(connection: Connection, factory_id: str) -> WaitingOrder | None:
    """The last order that waits for this factory."""
    row = connection.execute(NEWEST, {"factory_id": factory_id, "kinds": _KINDS}).first()
    return WaitingOrder(row.id, row.mission_kind, row.source, row.envelope) if row else None


def said_since(connection: Connection, mission_id: int, factory_ids: Sequence[str]) -> set[str]:
    """Of which of these factories somebody has said something in or after the transaction that stored the mission."""
    values = {"mission_id": mission_id, "factory_ids": list(factory_ids), "automatic": AUTOMATIC}
    return set(connection.execute(SAID_SINCE, values).scalars())


def take_unsent(connection: Connection, factory_id: str, limit: int) -> list[WaitingOrder]:
    """Lock up to `limit` orders that wait for this factory, if it is one that HQ sends none to; the oldest first."""
    values = {"factory_id": factory_id, "kinds": _KINDS, "over_https": OVER_HTTPS, "limit": limit}
    rows = connection.execute(TAKE_UNSENT, values)
    return [WaitingOrder(row.id, row.mission_kind, row.source, row.envelope, row.attempt) for row in rows]


def _lock_rows(connection: Connection, factory_ids: Collection[str]) -> set[str]:
    return set(connection.execute(LOCK_FACTORIES, {"factory_ids": list(factory_ids)}).scalars())
