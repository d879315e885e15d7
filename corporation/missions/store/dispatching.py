"""From waiting to queued: the factories as routing sees them, the missions that are due, and the attempts made."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, text

from corporation.missions.routing import QUEUE_SECONDS, Assigned, FactoryView
from corporation.roles import private_queue

DISPATCH_LOCK = 7_203_114_901_553
"""One dispatcher routes at a time: two would both fill the same free slots."""

TRY_LOCK = text("SELECT pg_try_advisory_xact_lock(:lock)")

READ_FACTORIES = text("""
    WITH held AS (
      SELECT factory_id, count(*) AS n FROM corporation.attempts
       WHERE state IN ('queued', 'claimed', 'running') GROUP BY factory_id
    ), lately AS (
      SELECT factory_id, count(*) AS n FROM corporation.attempts
       WHERE finished_at > now() - CAST(:window AS double precision) * interval '1 second' GROUP BY factory_id
    )
    SELECT f.factory_id, f.registration_status, f.paused, f.capabilities, f.slots,
           extract(epoch FROM now() - f.last_seen_at) AS silent_seconds,
           coalesce(held.n, 0) AS held, coalesce(lately.n, 0) AS finished
      FROM corporation.factories f
      LEFT JOIN held USING (factory_id) LEFT JOIN lately USING (factory_id)
""")

# Only missions that somebody with room could take are read, so that a crowd nobody can run never hides one that could.
TAKE_DUE = text("""
    SELECT id, mission_kind, target_factory_id, attempt
      FROM corporation.missions
     WHERE state = 'waiting'
       AND (next_attempt_at IS NULL OR next_attempt_at <= now())
       AND (deadline_at IS NULL OR deadline_at > now())
       AND mission_kind = ANY(CAST(:kinds AS text[]))
       AND (target_factory_id IS NULL OR (target_factory_id, mission_kind) IN
            (SELECT * FROM unnest(CAST(:able_ids AS text[]), CAST(:able_kinds AS text[]))))
     ORDER BY broker_priority, created_at, place, id
     LIMIT :limit
       FOR NO KEY UPDATE SKIP LOCKED
""")

# One statement, so that mission, attempt, event, mailbox row and outbox row exist together or not at all. The outbox is
# filled in the order of urgency, which is the order in which the sender empties it.
ASSIGN = text("""
    WITH given AS (
      SELECT * FROM unnest(CAST(:mission_ids AS bigint[]), CAST(:attempts AS integer[]), CAST(:attempt_ids AS uuid[]),
                           CAST(:factory_ids AS text[]), CAST(:queues AS text[]))
             WITH ORDINALITY AS t(mission_id, attempt, attempt_id, factory_id, queue, place)
    ), moved AS (
      UPDATE corporation.missions m
         SET state = 'queued', state_reason = NULL, attempt = m.attempt + 1, attempt_id = g.attempt_id,
             factory_id = g.factory_id, next_attempt_at = NULL, updated_at = now(), event_seq = m.event_seq + 1
        FROM given g
       WHERE m.id = g.mission_id AND m.state = 'waiting' AND m.attempt = g.attempt
      RETURNING m.id, m.attempt, m.attempt_id, m.factory_id, m.mission_kind, m.event_seq, g.queue, g.place
    ), tried AS (
      INSERT INTO corporation.attempts (id, mission_id, number, factory_id, queue, lease_expires_at)
      SELECT attempt_id, id, attempt, factory_id, queue,
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


def take_dispatch_lock(connection: Connection) -> bool:
    """Whether this transaction is the one that routes; the lock goes with the transaction."""
    return bool(connection.execute(TRY_LOCK, {"lock": DISPATCH_LOCK}).scalar())


def read_factories(connection: Connection) -> list[FactoryRow]:
    """Every registered factory, with what it holds now and how fast it finished lately."""
    rows = connection.execute(READ_FACTORIES, {"window": QUEUE_SECONDS})
    return [
        FactoryRow(
            FactoryView(
                factory_id=row.factory_id,
                status=row.registration_status,
                labels=frozenset(str(label) for label in row.capabilities),
                slots=row.slots,
                held=row.held,
                finished_per_second=row.finished / QUEUE_SECONDS,
                queue=private_queue(row.factory_id),
            ),
            float(row.silent_seconds),
            row.paused,
        )
        for row in rows
    ]


def take_due(connection: Connection, able: Sequence[tuple[str, str]], limit: int) -> list[Due]:
    """Lock up to `limit` missions that are due, the most urgent first; `able` says which (factory, kind) could run."""
    values = {
        "able_ids": [factory_id for factory_id, _ in able],
        "able_kinds": [kind for _, kind in able],
        "kinds": list({kind for _, kind in able}),
        "limit": limit,
    }
    rows = connection.execute(TAKE_DUE, values)
    return [Due(row.id, row.mission_kind, row.target_factory_id, row.attempt) for row in rows]


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
