"""Late results that are taken after all: what there is to take, and the success it becomes, in one statement."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, text

from corporation.missions.store import cancelling
from corporation.strict_json import dump

ATTEMPTS = text("""
    SELECT a.id, a.number, a.factory_id, a.state, a.started_at, a.adopted, a.outcome IS NOT NULL AS late,
           CASE WHEN a.number = :number THEN a.outcome END AS outcome,
           CAST(a.outcome ->> 'outcome' AS text) AS said, m.job_id AS adopted_as
      FROM corporation.attempts a LEFT JOIN corporation.missions m ON m.adopted_from = a.id
     WHERE a.mission_id = :mission_id ORDER BY a.number
""")

STANDING = text("SELECT state, attempt FROM corporation.missions WHERE id = :id FOR NO KEY UPDATE")

# The mission is locked and named with the state and the attempt it leaves. Its live attempt, which is another one, is
# over with it; only what is over has a late result.
SUCCEED = text("""
    WITH late AS (
      UPDATE corporation.attempts SET adopted = true
       WHERE id = CAST(:attempt_id AS uuid) AND NOT adopted AND finished_at IS NOT NULL
      RETURNING id, number, factory_id, started_at
    ), ended AS (
      UPDATE corporation.missions m
         SET state = 'succeeded', state_reason = NULL, error = NULL, result = CAST(:result AS json),
             adopted_from = late.id, factory_id = late.factory_id, next_attempt_at = NULL, finished_at = now(),
             started_at = coalesce(m.started_at, CASE WHEN m.attempt > 0 THEN late.started_at END),
             updated_at = now(), event_seq = m.event_seq + 2
        FROM late
       WHERE m.id = :mission_id AND m.state = :state AND m.attempt = :attempt
         AND m.state IN ('waiting', 'queued', 'claimed', 'running')
      RETURNING m.id, m.event_seq, m.factory_id, CASE WHEN m.attempt > 0 THEN late.number END AS number
    ), closed AS (
      UPDATE corporation.attempts a
         SET state = 'cancelled', finished_at = now(),
             error = 'the late result of attempt ' || e.number || ' was adopted'
        FROM ended e WHERE a.mission_id = e.id AND a.state IN ('queued', 'claimed', 'running')
      RETURNING a.id
    ), told AS (
      INSERT INTO corporation.mission_events (mission_id, seq, type, attempt, factory_id, detail)
      SELECT id, event_seq - 1, 'adopted', number, factory_id, CAST(:detail AS json) FROM ended
      UNION ALL
      SELECT id, event_seq, 'succeeded', number, factory_id, json_build_object('adopted', true) FROM ended
    )
    SELECT (SELECT count(*) FROM ended) AS ended, (SELECT array_agg(id) FROM closed) AS closed
""")

TELL = text("""
    WITH counted AS (
      UPDATE corporation.missions SET event_seq = event_seq + 1 WHERE id = :mission_id RETURNING id, event_seq
    )
    INSERT INTO corporation.mission_events (mission_id, seq, type, attempt, factory_id, detail)
    SELECT c.id, c.event_seq, 'adopted', a.number, a.factory_id, CAST(:detail AS json)
      FROM counted c, corporation.attempts a WHERE a.id = CAST(:attempt_id AS uuid)
""")

CLOSE_LETTER = text("""
    UPDATE corporation.dead_letters
       SET status = 'replayed', resolved_at = now(), resolved_why = :why, replay_job_id = :job_id
     WHERE mission_id = :mission_id AND cause IN ('failed', 'timed_out') AND status = 'open'
""")


@dataclass(frozen=True)
class Attempt:
    """An attempt of a locked mission, as far as adopting its result needs to know."""

    attempt_id: str
    number: int
    state: str
    is_late: bool
    """Whether it reported after it had been given up."""
    said: str | None
    """The outcome that it reported then, if that was one of ours."""
    report: Mapping[str, Any] | None
    """That report, of the attempt asked for only."""
    adopted_as: str | None
    """The mission that has its result already."""


def read_attempts(connection: Connection, mission_id: int, number: int) -> list[Attempt]:
    """The attempts of this mission, the first one first; attempt `number` with its late report."""
    rows = connection.execute(ATTEMPTS, {"mission_id": mission_id, "number": number})
    return [_attempt(row) for row in rows]


def read_standing(connection: Connection, mission_id: int) -> tuple[str, int]:
    """The state and the attempt of the mission, which is locked until the commit."""
    row = connection.execute(STANDING, {"id": mission_id}).one()
    return row.state, row.attempt


def succeed(
    connection: Connection,
    mission_id: int,
    leaves: tuple[str, int],
    attempt_id: str,
    result: str,
    detail: Mapping[str, Any],
) -> bool:
    """The mission has succeeded with this attempt's late `result` (JSON text); what else runs for it is to stop.

    False, and nothing changed, when it is no longer in the state and attempt that it `leaves`, or was adopted before.
    """
    state, attempt = leaves
    values = {"mission_id": mission_id, "state": state, "attempt": attempt, "attempt_id": attempt_id, "result": result}
    row = connection.execute(SUCCEED, {**values, "detail": dump(dict(detail))}).one()
    held = [str(one) for one in row.closed or ()]
    if held:
        connection.execute(cancelling.UNSEND, {"attempt_ids": held})
        cancelling.order_stop(connection, held)
    return bool(row.ended)


def tell(connection: Connection, mission_id: int, attempt_id: str, detail: Mapping[str, Any]) -> None:
    """The history of the mission that made this attempt says who adopted its result, and why."""
    connection.execute(TELL, {"mission_id": mission_id, "attempt_id": attempt_id, "detail": dump(dict(detail))})


def close_letter(connection: Connection, mission_id: int, job_id: str, why: str) -> None:
    """The open dead letter of this mission, if there is one, is `replayed`: `job_id` did what it asked for."""
    connection.execute(CLOSE_LETTER, {"mission_id": mission_id, "job_id": job_id, "why": why})


def _attempt(row: Row[Any]) -> Attempt:
    return Attempt(
        attempt_id=str(row.id),
        number=row.number,
        state=row.state,
        is_late=row.late,
        said=row.said,
        report=row.outcome,
        adopted_as=row.adopted_as,
    )
