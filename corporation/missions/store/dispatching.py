"""From waiting to queued: the factories as routing sees them, the missions that are due, and the attempts made."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Row, text

from corporation.missions.routing import QUEUE_SECONDS, Assigned, FactoryView
from corporation.roles import control_queue, private_queue

DISPATCH_LOCK = 7_203_114_901_553
"""One dispatcher routes at a time: two would both fill the same free slots."""

OVER_HTTPS: Final = "transport:http"
"""The label of a factory that asks for its missions over HTTPS: nothing is sent to it over Redis."""

TRY_LOCK = text("SELECT pg_try_advisory_xact_lock(:lock)")

# Orders to the factory itself take no slot: they lie in its control queue.
READ_FACTORIES = text("""
    WITH held AS (
      SELECT a.factory_id, count(*) AS n, sum(a.order_bytes) AS size
        FROM corporation.attempts a JOIN corporation.factories f USING (factory_id)
       WHERE a.state IN ('queued', 'claimed', 'running') AND a.queue <> f.slug || '.control' GROUP BY a.factory_id
    ), lately AS (
      SELECT factory_id, count(*) AS n FROM corporation.attempts
       WHERE finished_at > now() - CAST(:window AS double precision) * interval '1 second' GROUP BY factory_id
    )
    SELECT f.factory_id, f.registration_status, f.paused, f.draining, f.capabilities, f.known_labels, f.slots, f.queues,
           access.quarantined_at IS NOT NULL AS quarantined,
           extract(epoch FROM now() - f.last_seen_at) AS silent_seconds,
           coalesce(held.n, 0) AS held, coalesce(held.size, 0) AS held_bytes, coalesce(lately.n, 0) AS finished
      FROM corporation.factories f
      LEFT JOIN held USING (factory_id) LEFT JOIN lately USING (factory_id)
      LEFT JOIN corporation.factory_access access USING (factory_id)
""")

# Only missions that somebody with room could take are read, so that a crowd nobody can run never hides one that could.
# Where a mission failed before is read for those alone that had an attempt.
_DUE = """
    SELECT m.id, m.mission_kind, m.target_factory_id, m.attempt,
           CASE WHEN m.attempt > 0 THEN
             (SELECT array_agg(DISTINCT a.factory_id) FROM corporation.attempts a
               WHERE a.mission_id = m.id AND a.state IN ('failed', 'timed_out', 'lost')) END AS avoid,
           -- Asked for apart, so that it is read of those that are taken, and not of all that are sorted.
           (SELECT octet_length(own.envelope::text) FROM corporation.missions own WHERE own.id = m.id) AS size
      FROM corporation.missions m
     WHERE m.state = 'waiting'
       AND (m.next_attempt_at IS NULL OR m.next_attempt_at <= now())
       AND (m.deadline_at IS NULL OR m.deadline_at > now())
"""
_FIRST_COME = """
     ORDER BY m.broker_priority, m.created_at, m.place, m.id
     LIMIT :limit
       FOR NO KEY UPDATE OF m SKIP LOCKED
"""
_THEIRS = """(m.target_factory_id, m.mission_kind) IN
              (SELECT * FROM unnest(CAST(:able_ids AS text[]), CAST(:able_kinds AS text[])))"""

TAKE_DUE = text(f"""
    {_DUE} AND m.mission_kind = ANY(CAST(:kinds AS text[]))
       AND (m.target_factory_id IS NULL OR {_THEIRS})
    {_FIRST_COME}
""")

# The condition of the index `missions_orders` to the letter: it is asked at every tick, however many missions wait.
_ORDERS = "m.state = 'waiting' AND m.target_factory_id IS NOT NULL AND m.mission_kind LIKE 'system:%'"

TARGETS_OF_ORDERS = text(f"SELECT DISTINCT m.target_factory_id FROM corporation.missions m WHERE {_ORDERS}")  # noqa: S608

# On their own, since a crowd of missions that nobody has room for must not hide them.
TAKE_ORDERS = text(f"""
    {_DUE} AND {_ORDERS} AND {_THEIRS}
    {_FIRST_COME}
""")

# One statement, so that mission, attempt, event, mailbox row and outbox row exist together or not at all. The outbox is
# filled in the order of urgency, which is the order in which the sender empties it.
ASSIGN = text("""
    WITH given AS (
      SELECT * FROM unnest(CAST(:mission_ids AS bigint[]), CAST(:attempts AS integer[]), CAST(:attempt_ids AS uuid[]),
                           CAST(:factory_ids AS text[]), CAST(:queues AS text[]), CAST(:sizes AS integer[]))
             WITH ORDINALITY AS t(mission_id, attempt, attempt_id, factory_id, queue, size, place)
    ), moved AS (
      UPDATE corporation.missions m
         SET state = 'queued', state_reason = NULL, attempt = m.attempt + 1, attempt_id = g.attempt_id,
             factory_id = g.factory_id, next_attempt_at = NULL, updated_at = now(), event_seq = m.event_seq + 1
        FROM given g
       WHERE m.id = g.mission_id AND m.state = 'waiting' AND m.attempt = g.attempt
      RETURNING m.id, m.attempt, m.attempt_id, m.factory_id, m.mission_kind, m.event_seq, g.queue, g.size,
                g.place
    ), tried AS (
      INSERT INTO corporation.attempts (id, mission_id, number, factory_id, queue, order_bytes, lease_expires_at)
      SELECT attempt_id, id, attempt, factory_id, queue, size,
             now() + CAST(:lease_seconds AS double precision) * interval '1 second' FROM moved
    ), told AS (
      INSERT INTO corporation.mission_events (mission_id, seq, type, attempt, factory_id, detail)
      SELECT id, event_seq, 'queued', attempt, factory_id, json_build_object('queue', queue) FROM moved
    ), boxed AS (
      INSERT INTO mailbox.celery_taskmeta (task_id, name, queue, factory)
      SELECT attempt_id, 'mission.' || mission_kind, queue, factory_id FROM moved
    )
    INSERT INTO corporation.outbox (topic, attempt_id) SELECT 'attempt', attempt_id FROM moved ORDER BY place
""")

WAITING_GROUPS = text("""
    SELECT DISTINCT mission_kind, target_factory_id FROM corporation.missions
     WHERE state = 'waiting' AND (next_attempt_at IS NULL OR next_attempt_at <= now())
       AND (target_factory_id IS NULL OR target_factory_id = ANY(CAST(:known AS text[])))
""")

EXPLAIN_UNKNOWN = text("""
    UPDATE corporation.missions SET state_reason = 'target_unknown'
     WHERE id IN (SELECT id FROM corporation.missions
                   WHERE state = 'waiting' AND (next_attempt_at IS NULL OR next_attempt_at <= now())
                     AND target_factory_id <> ALL(CAST(:known AS text[]))
                     AND state_reason IS DISTINCT FROM 'target_unknown'
                     FOR NO KEY UPDATE SKIP LOCKED)
""")

# A mission that somebody else is changing is left for the next time: waiting for it could close a ring of waits.
EXPLAIN_GROUP = text("""
    UPDATE corporation.missions SET state_reason = :reason
     WHERE id IN (SELECT id FROM corporation.missions
                   WHERE state = 'waiting' AND (next_attempt_at IS NULL OR next_attempt_at <= now())
                     AND mission_kind = :kind AND target_factory_id IS NOT DISTINCT FROM :target
                     AND state_reason IS DISTINCT FROM :reason
                     FOR NO KEY UPDATE SKIP LOCKED)
""")

# A broadcast that was spread has no deadline of its own any more: its children have it, and it ends with the last one.
EXPIRE = text("""
    WITH over AS (
      UPDATE corporation.missions
         SET state = 'timed_out', state_reason = NULL, finished_at = now(), updated_at = now(),
             event_seq = event_seq + 1, next_attempt_at = NULL,
             error = 'the deadline passed while the mission was waiting (' || coalesce(state_reason, 'queue') || ')'
       WHERE id IN (SELECT id FROM corporation.missions
                     WHERE state = 'waiting' AND deadline_at <= now() AND children IS NULL
                     LIMIT 500 FOR NO KEY UPDATE SKIP LOCKED)
         AND state = 'waiting'
      RETURNING id, event_seq, error
    ), told AS (
      INSERT INTO corporation.mission_events (mission_id, seq, type, detail)
      SELECT id, event_seq, 'timed_out', json_build_object('error', error) FROM over
    )
    SELECT count(*) FROM over
""")


@dataclass(frozen=True)
class Due:
    """A waiting mission that may be sent now; `attempt` is how many it has had."""

    mission_id: int
    kind: str
    target: str | None
    attempt: int
    avoid: frozenset[str] = frozenset()
    """The factories where an attempt of it failed or was lost."""
    size: int = 0
    """Bytes of its order."""


@dataclass(frozen=True)
class Assignment:
    """The next attempt of a mission: its fresh id, and where it goes."""

    due: Due
    attempt_id: str
    to: Assigned


@dataclass(frozen=True)
class FactoryRow:
    """A factory as stored, with the numbers routing needs; `view` judges it."""

    view: FactoryView
    silent_seconds: float
    paused: bool
    """HQ's flag, as `draining` is."""
    draining: bool = False


def take_dispatch_lock(connection: Connection) -> bool:
    """Whether this transaction is the one that routes; the lock goes with the transaction."""
    return bool(connection.execute(TRY_LOCK, {"lock": DISPATCH_LOCK}).scalar())


def read_factories(connection: Connection) -> list[FactoryRow]:
    """Every registered factory, with what it holds now and how fast it finished lately."""
    rows = connection.execute(READ_FACTORIES, {"window": QUEUE_SECONDS})
    return [FactoryRow(_view(row), float(row.silent_seconds), row.paused, row.draining) for row in rows]


def _view(row: Row[Any]) -> FactoryView:
    labels, listens = frozenset(str(label) for label in row.capabilities), control_queue(row.factory_id)
    return FactoryView(
        factory_id=row.factory_id,
        status=row.registration_status,
        labels=labels,
        known_labels=frozenset(str(label) for label in row.known_labels),
        slots=row.slots,
        held=row.held,
        held_bytes=row.held_bytes,
        finished_per_second=row.finished / QUEUE_SECONDS,
        queue=private_queue(row.factory_id),
        control_queue=listens if listens in row.queues else None,
        takes_messages=OVER_HTTPS not in labels,
        quarantined=row.quarantined,
    )


def take_due(connection: Connection, able: Sequence[tuple[str, str]], limit: int) -> list[Due]:
    """Lock up to `limit` missions that are due, the most urgent first; `able` says which (factory, kind) could run."""
    if not able:
        return []
    return _due(connection.execute(TAKE_DUE, _able(able, limit) | {"kinds": list({kind for _, kind in able})}))


def targets_of_orders(connection: Connection) -> set[str]:
    """The factories for which orders to themselves wait, whether due or not."""
    return set(connection.execute(TARGETS_OF_ORDERS).scalars())


def take_orders(connection: Connection, able: Sequence[tuple[str, str]], limit: int) -> list[Due]:
    """The same for orders to factories themselves; `able` says which (factory, kind) can be sent now."""
    return _due(connection.execute(TAKE_ORDERS, _able(able, limit))) if able else []


def _able(able: Sequence[tuple[str, str]], limit: int) -> dict[str, Any]:
    return {"able_ids": [name for name, _ in able], "able_kinds": [kind for _, kind in able], "limit": limit}


def _due(rows: Iterable[Row[Any]]) -> list[Due]:
    return [
        Due(row.id, row.mission_kind, row.target_factory_id, row.attempt, frozenset(row.avoid or ()), row.size)
        for row in rows
    ]


def assign(connection: Connection, assignments: Sequence[Assignment], lease_seconds: float) -> None:
    """Give each mission its next attempt, leased and in the outbox; one that is no longer waiting is left alone."""
    connection.execute(
        ASSIGN,
        {
            "mission_ids": [a.due.mission_id for a in assignments],
            "attempts": [a.due.attempt for a in assignments],
            "attempt_ids": [a.attempt_id for a in assignments],
            "factory_ids": [a.to.factory_id for a in assignments],
            "queues": [a.to.queue for a in assignments],
            "sizes": [a.due.size for a in assignments],
            "lease_seconds": lease_seconds,
        },
    )


def waiting_groups(connection: Connection, known: Sequence[str]) -> list[tuple[str, str | None]]:
    """The distinct (kind, target) pairs of missions that wait and are due, without targets but the `known` factories.

    They are few, however many missions wait.
    """
    rows = connection.execute(WAITING_GROUPS, {"known": list(known)})
    return [(row.mission_kind, row.target_factory_id) for row in rows]


def explain_unknown_targets(connection: Connection, known: Sequence[str]) -> None:
    """Every due waiting mission whose target is not one of the `known` factories says so."""
    connection.execute(EXPLAIN_UNKNOWN, {"known": list(known)})


def explain_group(connection: Connection, kind: str, target: str | None, reason: str) -> None:
    """Write `reason` on every due waiting mission of this kind and target that does not say so already."""
    connection.execute(EXPLAIN_GROUP, {"kind": kind, "target": target, "reason": reason})


def expire(connection: Connection) -> int:
    """End up to 500 waiting missions whose deadline passed as `timed_out` (S-26), and return how many it were."""
    return int(connection.execute(EXPIRE).scalar_one())
