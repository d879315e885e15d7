"""All that an explanation rests on, read in one snapshot and along indexes: never a scan of history."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection, Row, text

from corporation.factories.staleness import Thresholds
from corporation.missions.broadcast import Child, is_broadcast
from corporation.missions.collect import read_letter
from corporation.missions.dispatch import judged, need_of
from corporation.missions.explanation import (
    MOST_AHEAD,
    AdoptedFacts,
    AttemptFacts,
    FactoryFacts,
    Facts,
    MissionFacts,
    QueuePlace,
    RepeatFacts,
    Restraint,
)
from corporation.missions.kinds import KINDS
from corporation.missions.outcomes import Later, Outcome, Stop
from corporation.missions.queries import find_id
from corporation.missions.states import State
from corporation.missions.store.dispatching import read_factories
from corporation.missions.store.reporting import Letter

MOST_LOOKED_AT: Final = 10_000
"""Waiting missions in front of one that are looked at: by default no more can wait (UA_MISSION_WAITING_LIMIT). Measured
on 200,000 waiting and 1,000,000 final missions: this part of the answer takes 4 ms, the whole with 200 factories 10."""

MOST_ATTEMPTS: Final = 20
MOST_CHILDREN: Final = 20
MOST_LETTERS: Final = 5
"""Of how many attempts, the newest, the reports are read: as many as the evidence shows."""
LARGEST_NOTE: Final = 16 * 1024
"""Bytes of a result that may be the note that the real one was dropped, which a factory leaves in its place."""
DROPPED: Final = "^(its report has [0-9]+ bytes, and may have [0-9]+$|no plain JSON: )"
"""How such a note begins (`factory_tasks/mission_task.py`); a result of one's own may have that key too."""
LARGEST_LETTER: Final = 64 * 1024
"""Bytes of a report that is read for other attempts than the newest: a `Later` brings no result and is small."""

# Several statements, one truth: without it a mission could be queued in one and run in the next.
ONE_SNAPSHOT = text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")

MISSION = text("""
    SELECT m.id, m.job_id, m.mission_kind, m.state, m.target_factory_id, m.priority, m.broker_priority, m.place,
           m.attempt, m.attempt_id, m.attempts_total, m.timeout_seconds, m.created_at, m.factory_id, m.started_at,
           m.finished_at, m.deadline_at, m.next_attempt_at, m.error, m.cancel_requested_at, m.cancel_reason,
           m.children, now() AS now, taken.number AS adopted_attempt, taken.factory_id AS adopted_factory_id,
           (SELECT o.job_id FROM corporation.missions o WHERE o.id = taken.mission_id) AS adopted_job_id,
           (SELECT o.job_id FROM corporation.missions o WHERE o.id = m.replay_of) AS repeats,
           CASE WHEN m.state = 'succeeded' AND octet_length(CAST(m.result AS text)) < :note AND
                     json_typeof(m.result) = 'object' AND m.result ->> 'dropped' ~ :dropped
                THEN m.result ->> 'dropped' END AS dropped,
           (SELECT count(*) FROM corporation.attempts w WHERE w.mission_id = m.id AND w.state = 'withdrawn')
             AS withdrawn,
           (SELECT count(*) FROM corporation.attempts w WHERE w.mission_id = m.id AND w.took_worker) AS workers_lost,
           (SELECT d.id FROM corporation.dead_letters d
             WHERE d.mission_id = m.id AND d.cause IN ('failed', 'timed_out') AND d.status = 'open') AS dead_letter
      FROM corporation.missions m LEFT JOIN corporation.attempts taken ON taken.id = m.adopted_from
     WHERE m.id = :id
""")

ATTEMPTS = text("""
    SELECT id, number, factory_id, state, created_at, lease_expires_at, claimed_at, started_at, finished_at, progress,
           error, took_worker, sends, outcome IS NOT NULL AND NOT adopted AS late_result,
           coalesce(outcome ->> 'outcome', '') = 'done'
             AND NOT EXISTS (SELECT 1 FROM corporation.attempts o WHERE o.mission_id = :id AND o.adopted) AS adoptable
      FROM corporation.attempts WHERE mission_id = :id ORDER BY number DESC LIMIT :most
""")

# What the factory reported: the mailbox keeps it after it was collected, and nobody can fill the row a second time.
LETTERS = text("""
    SELECT id, task_id, status, result FROM mailbox.celery_taskmeta
     WHERE task_id = ANY(CAST(:attempt_ids AS text[])) AND collected_at IS NOT NULL
       AND (task_id = :newest OR octet_length(result) <= :largest)
""")

REPEAT = text("""
    SELECT job_id, state, adopted_from IS NOT NULL AS adopted FROM corporation.missions
     WHERE replay_of = :id ORDER BY id DESC LIMIT 1
""")

# Not in the statement that routing asks: the dispatcher has no use for it.
PACES = text("""
    SELECT f.factory_id, f.interval_seconds, f.last_seen_at + patience.span AS stale_at
      FROM corporation.factories f,
           (SELECT CAST(:stale_seconds AS double precision) * interval '1 second' AS span) patience
     WHERE f.last_seen_at > now() - patience.span
""")

# The order of TAKE_DUE (`dispatching.py`), backwards from the mission: who is nearest is looked at first, and a crowd
# with another need costs no more than a look at its nearest part.
AHEAD = text("""
    SELECT count(*) AS seen,
           count(*) FILTER (WHERE mission_kind = ANY(CAST(:kinds AS text[]))
                              AND target_factory_id IS NOT DISTINCT FROM :target
                              AND (next_attempt_at IS NULL OR next_attempt_at <= now())
                              AND (deadline_at IS NULL OR deadline_at > now())) AS ahead
      FROM (SELECT mission_kind, target_factory_id, next_attempt_at, deadline_at
              FROM corporation.missions
             WHERE state = 'waiting'
               AND (broker_priority, created_at, place, id) <
                   (CAST(:broker_priority AS smallint), CAST(:created_at AS timestamptz), CAST(:place AS bigint),
                    CAST(:id AS bigint))
             ORDER BY broker_priority DESC, created_at DESC, place DESC, id DESC
             LIMIT :most) AS nearest
""")

# A factory takes its messages in the order in which they were sent: by attempt, and those of one moment as TAKE_DUE.
PLACE_IN_QUEUE = text("""
    SELECT count(*) AS of,
           count(*) FILTER (WHERE (a.created_at, m.broker_priority, m.created_at, m.place, m.id) <=
                                  (mine.created_at, own.broker_priority, own.created_at, own.place, own.id)) AS place,
           (SELECT extract(epoch FROM now() - o.created_at) FROM corporation.outbox o
             WHERE o.attempt_id = CAST(:attempt_id AS uuid) AND o.topic = 'attempt') AS unsent_seconds
      FROM corporation.attempts mine
      JOIN corporation.missions own ON own.id = mine.mission_id
      JOIN corporation.attempts a ON a.factory_id = mine.factory_id AND a.queue = mine.queue AND a.state = 'queued'
      JOIN corporation.missions m ON m.id = a.mission_id
     WHERE mine.id = CAST(:attempt_id AS uuid)
""")

RUNNING = text("""
    SELECT factory_id, count(*) AS n FROM corporation.attempts WHERE state IN ('claimed', 'running') GROUP BY factory_id
""")

RESTRAINTS = text("""
    SELECT f.factory_id,
           CASE WHEN x.quarantined_at IS NULL THEN f.paused_by ELSE x.quarantined_by END AS by,
           CASE WHEN x.quarantined_at IS NULL THEN f.pause_note ELSE x.quarantine_note END AS note,
           coalesce(x.quarantined_at, f.paused_at) AS since,
           CASE WHEN x.quarantined_at IS NULL THEN f.paused_until END AS until
      FROM corporation.factories f LEFT JOIN corporation.factory_access x USING (factory_id)
     WHERE f.paused OR f.draining OR x.quarantined_at IS NOT NULL
""")

OPEN_CHILDREN = text("""
    SELECT job_id, target_factory_id, state, count(*) OVER () AS n FROM corporation.missions
     WHERE parent_id = :id AND finished_at IS NULL ORDER BY target_factory_id LIMIT :most
""")


def read_facts(
    connection: Connection, job_id: str, thresholds: Thresholds, *, broker_answers: bool = True
) -> Facts | None:
    """What is known of the mission that `job_id` names, also as an alias; None for an unknown one.

    It must be the first that its transaction does, which can change nothing afterwards: all is seen at one moment.
    """
    connection.execute(ONE_SNAPSHOT)
    mission_id = find_id(connection, job_id)
    if mission_id is None:
        return None
    row = connection.execute(MISSION, {"id": mission_id, "note": LARGEST_NOTE, "dropped": DROPPED}).one()
    mission = _mission(row)
    ahead, or_more = _ahead(connection, row, mission)
    children, open_count = _open_children(connection, row)
    return Facts(
        now=row.now,
        mission=mission,
        attempts=_attempts(connection, row),
        factories=_factories(connection, thresholds),
        ahead=ahead,
        ahead_or_more=or_more,
        queue=_place_in_queue(connection, row),
        broker_answers=broker_answers,
        open_children=children,
        open_children_count=open_count,
        dead_letter=f"dl-{row.dead_letter}" if row.dead_letter is not None else None,
        repeat=_repeat(connection, row),
    )


def _mission(row: Row[Any]) -> MissionFacts:
    return MissionFacts(
        job_id=row.job_id,
        kind=row.mission_kind,
        state=row.state,
        need=need_of(row.id, row.mission_kind, row.target_factory_id),
        priority=row.priority,
        attempt=row.attempt,
        attempts_total=row.attempts_total,
        timeout_seconds=row.timeout_seconds,
        created_at=row.created_at,
        withdrawn=row.withdrawn,
        workers_lost=row.workers_lost,
        factory_id=row.factory_id,
        started_at=row.started_at,
        finished_at=row.finished_at,
        deadline_at=row.deadline_at,
        next_attempt_at=row.next_attempt_at,
        error=row.error,
        cancel_requested_at=row.cancel_requested_at,
        cancel_reason=row.cancel_reason,
        broadcast=is_broadcast(row.mission_kind, row.target_factory_id),
        children=row.children,
        adopted=AdoptedFacts(row.adopted_job_id, row.adopted_attempt, row.adopted_factory_id)
        if row.adopted_attempt is not None
        else None,
        dropped=row.dropped,
        repeats=row.repeats,
    )


def _attempts(connection: Connection, mission: Row[Any]) -> list[AttemptFacts]:
    rows = connection.execute(ATTEMPTS, {"id": mission.id, "most": MOST_ATTEMPTS}).all()
    reported = _reported(connection, [row for row in rows[:MOST_LETTERS] if row.state == "failed"])
    return [
        AttemptFacts(
            number=row.number,
            factory_id=row.factory_id,
            state=row.state,
            created_at=row.created_at,
            lease_expires_at=row.lease_expires_at,
            claimed_at=row.claimed_at,
            started_at=row.started_at,
            finished_at=row.finished_at,
            progress=_object(row.progress),
            error=row.error,
            took_worker=row.took_worker,
            sends=row.sends,
            late_result=row.late_result,
            adoptable=row.adoptable,
            permanent=mission.state == State.FAILED
            and row.number == mission.attempt
            and isinstance(reported.get(str(row.id)), Stop),
            put_off=isinstance(reported.get(str(row.id)), Later),
        )
        for row in reversed(rows)
    ]


def _reported(connection: Connection, attempts: Sequence[Row[Any]]) -> dict[str, Outcome]:
    """What the factories reported of these attempts, by attempt: their states alone tell no `Stop` from a `Later`."""
    if not attempts:
        return {}
    ids = [str(one.id) for one in attempts]
    rows = connection.execute(LETTERS, {"attempt_ids": ids, "newest": ids[0], "largest": LARGEST_LETTER})
    return {
        row.task_id: read_letter(Letter(row.id, row.task_id, row.status, bytes(row.result or b"")))[0] for row in rows
    }


def _repeat(connection: Connection, mission: Row[Any]) -> RepeatFacts | None:
    """What was made of a mission that has ended; one that has not is asked for a second time by nobody."""
    if mission.finished_at is None:
        return None
    row = connection.execute(REPEAT, {"id": mission.id}).first()
    return RepeatFacts(row.job_id, row.state, row.adopted) if row else None


def _object(value: object) -> Mapping[str, Any] | None:
    # A factory wrote it, so it may be any JSON.
    return {str(key): item for key, item in value.items()} if isinstance(value, Mapping) else None


def _factories(connection: Connection, thresholds: Thresholds) -> list[FactoryFacts]:
    running = {row.factory_id: int(row.n) for row in connection.execute(RUNNING)}
    restraints = {row.factory_id: Restraint(row.by, row.since, row.note, row.until) for row in _restraints(connection)}
    paces = {
        row.factory_id: (row.interval_seconds, row.stale_at)
        for row in connection.execute(PACES, {"stale_seconds": thresholds.stale_seconds})
    }
    facts = [
        FactoryFacts(
            judged(row, thresholds),
            row.silent_seconds,
            row.paused or row.draining,
            running.get(row.view.factory_id, 0),
            restraints.get(row.view.factory_id),
            *paces.get(row.view.factory_id, (None, None)),
        )
        for row in read_factories(connection)
    ]
    return sorted(facts, key=lambda one: one.view.factory_id)


def _restraints(connection: Connection) -> Sequence[Row[Any]]:
    return connection.execute(RESTRAINTS).all()


def _ahead(connection: Connection, row: Row[Any], mission: MissionFacts) -> tuple[int, bool]:
    """How many due missions with the same need are before it, and whether there may be more of them."""
    if mission.state != State.WAITING or mission.broadcast:
        return 0, False
    values = {
        "kinds": kinds_with_the_need_of(mission.kind),
        "target": row.target_factory_id,
        "broker_priority": row.broker_priority,
        "created_at": row.created_at,
        "place": row.place,
        "id": row.id,
        "most": MOST_LOOKED_AT,
    }
    found = connection.execute(AHEAD, values).one()
    return min(found.ahead, MOST_AHEAD), found.ahead > MOST_AHEAD or found.seen >= MOST_LOOKED_AT


def kinds_with_the_need_of(kind: str) -> Sequence[str]:
    """The kinds that the same factories can run, this one among them."""
    registered = KINDS.get(kind)
    if registered is None or registered.needs is None:
        return [kind]
    return [other.name for other in KINDS.values() if other.needs == registered.needs]


def _place_in_queue(connection: Connection, row: Row[Any]) -> QueuePlace | None:
    if row.state != State.QUEUED:
        return None
    found = connection.execute(PLACE_IN_QUEUE, {"attempt_id": row.attempt_id}).one()
    unsent = float(found.unsent_seconds) if found.unsent_seconds is not None else None
    return QueuePlace(found.place, found.of, unsent)


def _open_children(connection: Connection, row: Row[Any]) -> tuple[list[Child], int]:
    if row.children is None:
        return [], 0
    rows = connection.execute(OPEN_CHILDREN, {"id": row.id, "most": MOST_CHILDREN}).all()
    return [Child(one.job_id, one.target_factory_id, one.state) for one in rows], rows[0].n if rows else 0
