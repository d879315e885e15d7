"""Missions that somebody wants stopped: ended at once where nobody works on them, marked where a factory does."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Row, text

from corporation.missions.finish import Finish
from corporation.missions.store.naming import NAMED
from corporation.strict_json import dump

COLUMNS: Final = """
    m.id, m.job_id, m.mission_kind, m.state, m.attempt, m.attempt_id, m.children,
    m.attempt - (SELECT count(*) FROM corporation.attempts a
                  WHERE a.mission_id = m.id AND a.state = 'withdrawn') AS used
"""

TAKE = text(f"""
    SELECT {COLUMNS} FROM corporation.missions m WHERE m.id = ({NAMED}) FOR NO KEY UPDATE
""")  # noqa: S608 - put in are the columns above and how a mission is looked up

# By rising id, as everybody locks: a child is younger than its parent, which is locked already.
TAKE_CHILDREN = text(f"""
    SELECT {COLUMNS} FROM corporation.missions m WHERE m.parent_id = :mission_id AND m.finished_at IS NULL
     ORDER BY m.id FOR NO KEY UPDATE
""")  # noqa: S608

# What waits has no attempt, and what is queued or claimed is held by one that has not begun.
END = text("""
    WITH given AS (
      SELECT * FROM unnest(CAST(:mission_ids AS bigint[]), CAST(:states AS text[]), CAST(:attempts AS integer[]),
                           CAST(:reasons AS text[]), CAST(:results AS text[]))
      AS t(mission_id, state, attempt, reason, result)
    ), ended AS (
      UPDATE corporation.missions m
         SET state = 'cancelled', state_reason = NULL, error = g.reason, result = CAST(g.result AS json),
             cancel_requested_at = now(), cancel_reason = g.reason, next_attempt_at = NULL,
             finished_at = now(), updated_at = now(), event_seq = m.event_seq + 1
        FROM given g
       WHERE m.id = g.mission_id AND m.state = g.state AND m.attempt = g.attempt
         AND m.state IN ('waiting', 'queued', 'claimed')
      RETURNING m.id, m.event_seq, m.error, m.attempt, m.attempt_id, m.factory_id, g.state AS was
    ), closed AS (
      UPDATE corporation.attempts a SET state = 'cancelled', finished_at = now(), error = e.error
        FROM ended e WHERE a.id = e.attempt_id AND a.state IN ('queued', 'claimed')
    ), told AS (
      INSERT INTO corporation.mission_events (mission_id, seq, type, attempt, factory_id, detail)
      SELECT id, event_seq, 'cancelled', CASE WHEN was <> 'waiting' THEN attempt END,
             CASE WHEN was <> 'waiting' THEN factory_id END,
             json_strip_nulls(json_build_object('error', error, 'by', CAST(:by AS text))) FROM ended
    )
    SELECT id, attempt_id FROM ended
""")

# A mission is asked to stop once; the first reason stays. A broadcast is never run: it waits for what its children do.
REQUEST = text("""
    WITH given AS (
      SELECT * FROM unnest(CAST(:mission_ids AS bigint[]), CAST(:states AS text[]), CAST(:attempts AS integer[]))
      AS t(mission_id, state, attempt)
    ), asked AS (
      UPDATE corporation.missions m
         SET cancel_requested_at = now(), cancel_reason = :reason, updated_at = now(), event_seq = m.event_seq + 1
        FROM given g
       WHERE m.id = g.mission_id AND m.state = g.state AND m.attempt = g.attempt AND m.cancel_requested_at IS NULL
         AND (m.state = 'running' OR m.children IS NOT NULL)
      RETURNING m.id, m.event_seq, m.attempt, m.factory_id
    )
    INSERT INTO corporation.mission_events (mission_id, seq, type, attempt, factory_id, detail)
    SELECT id, event_seq, 'cancel_requested', nullif(attempt, 0), factory_id,
           json_strip_nulls(json_build_object('reason', CAST(:reason AS text), 'by', CAST(:by AS text))) FROM asked
""")

# What was not sent is not sent any more; what a sender holds this moment is. The order to stop goes out in any case: a
# sender that died may have sent the message before, and a factory keeps an order that means nothing to it for nothing.
UNSEND = text("""
    DELETE FROM corporation.outbox
     WHERE id IN (SELECT id FROM corporation.outbox
                   WHERE topic = 'attempt' AND attempt_id = ANY(CAST(:attempt_ids AS uuid[]))
                     FOR UPDATE SKIP LOCKED)
""")

STOP = text("""
    INSERT INTO corporation.outbox (topic, attempt_id)
    SELECT 'stop', id FROM unnest(CAST(:attempt_ids AS uuid[])) AS given(id) ORDER BY id
        ON CONFLICT DO NOTHING
""")

OF_FACTORY = text("""
    SELECT a.id, m.job_id, m.cancel_reason
      FROM corporation.attempts a JOIN corporation.missions m ON m.attempt_id = a.id
     WHERE a.factory_id = :factory_id AND a.state IN ('queued', 'claimed', 'running')
       AND m.state = 'running' AND m.cancel_requested_at IS NOT NULL
     ORDER BY m.cancel_requested_at, a.id LIMIT :limit
""")

REASONS = text("""
    SELECT a.id, m.cancel_reason FROM corporation.attempts a JOIN corporation.missions m ON m.id = a.mission_id
     WHERE a.id = ANY(CAST(:attempt_ids AS uuid[])) AND a.factory_id = :factory_id AND m.cancel_reason IS NOT NULL
""")


@dataclass(frozen=True)
class Cancellable:
    """A mission that is locked, as far as cancelling it needs to know."""

    mission_id: int
    job_id: str
    mission_kind: str
    state: str
    attempt: int
    attempt_id: str | None
    used: int
    """How many of its attempts are used up: those that were not taken back unreceived."""
    spread: bool
    """Whether it is a broadcast that has children."""


@dataclass(frozen=True)
class ToStop:
    """A live attempt whose mission is to be cancelled."""

    attempt_id: str
    job_id: str
    reason: str


def take(connection: Connection, job_id: str) -> Cancellable | None:
    """The mission that `job_id` names, also as an alias, locked until the commit; None when there is none."""
    row = connection.execute(TAKE, {"job_id": job_id}).first()
    return _cancellable(row) if row else None


def take_children(connection: Connection, mission_id: int) -> list[Cancellable]:
    """The children of a locked broadcast that have not ended, locked as well."""
    return [_cancellable(row) for row in connection.execute(TAKE_CHILDREN, {"mission_id": mission_id})]


def end(connection: Connection, ends: Sequence[tuple[Cancellable, Finish]], by: str | None) -> None:
    """Each of these missions is cancelled with its attempt, whose message is not sent any more, or is called back.

    Its history says by whom. One that is no longer in the state and attempt given is left alone; calling again changes
    nothing.
    """
    if not ends:
        return
    values = {
        "mission_ids": [one.mission_id for one, _ in ends],
        "states": [one.state for one, _ in ends],
        "attempts": [one.attempt for one, _ in ends],
        "reasons": [finish.error for _, finish in ends],
        "results": [dump(dict(finish.result)) for _, finish in ends],
        "by": by,
    }
    held = [row.attempt_id for row in connection.execute(END, values) if row.attempt_id]
    connection.execute(UNSEND, {"attempt_ids": held})
    order_stop(connection, [str(attempt_id) for attempt_id in held])


def request(connection: Connection, missions: Sequence[Cancellable], reason: str, by: str | None) -> None:
    """Each of these missions, which run or wait for their children, is to be cancelled, and its factory is told.

    One that was asked to stop before keeps its reason; its factory is told once more.
    """
    if not missions:
        return
    values = {
        "mission_ids": [one.mission_id for one in missions],
        "states": [one.state for one in missions],
        "attempts": [one.attempt for one in missions],
        "reason": reason,
        "by": by,
    }
    connection.execute(REQUEST, values)
    order_stop(connection, [one.attempt_id for one in missions if one.attempt_id is not None])


def order_stop(connection: Connection, attempt_ids: Sequence[str]) -> None:
    """The factories that hold these attempts are told to stop them; once, while the order is not sent yet."""
    if attempt_ids:
        connection.execute(STOP, {"attempt_ids": list(attempt_ids)})


def to_stop(connection: Connection, factory_id: str, limit: int) -> list[ToStop]:
    """Up to `limit` attempts of this factory whose missions are to be cancelled, those that were asked first."""
    rows = connection.execute(OF_FACTORY, {"factory_id": factory_id, "limit": limit})
    return [ToStop(str(row.id), row.job_id, row.cancel_reason) for row in rows]


def reasons(connection: Connection, factory_id: str, attempt_ids: Sequence[str]) -> dict[str, str]:
    """Why the missions of those of these attempts of the factory were cancelled; the others are not in it."""
    values = {"factory_id": factory_id, "attempt_ids": list(attempt_ids)}
    return {str(row.id): row.cancel_reason for row in connection.execute(REASONS, values)}


def _cancellable(row: Row[Any]) -> Cancellable:
    return Cancellable(
        mission_id=row.id,
        job_id=row.job_id,
        mission_kind=row.mission_kind,
        state=row.state,
        attempt=row.attempt,
        attempt_id=str(row.attempt_id) if row.attempt_id else None,
        used=row.used,
        spread=row.children is not None,
    )
