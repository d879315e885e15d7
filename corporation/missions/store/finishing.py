"""The end of an attempt: the mission's end, its next try, or a late report that changes nothing."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, text

from corporation.missions.finish import Again, Finish, Standing, TooLate

# `started_at` is HQ's clock minus the duration the factory measured on its own monotonic clock: no clock is trusted.
# `before` is the row as it was: PostgreSQL older than 18 cannot return the old state of an updated row.
END = text("""
    WITH given AS (
      SELECT * FROM unnest(
        CAST(:mission_ids AS bigint[]), CAST(:attempt_ids AS uuid[]), CAST(:states AS text[]),
        CAST(:results AS text[]), CAST(:errors AS text[]), CAST(:seconds AS double precision[]),
        CAST(:lost AS boolean[]), CAST(:took_worker AS boolean[]))
      AS t(mission_id, attempt_id, state, result, error, seconds, lost, took_worker)
    ), ended AS (
      UPDATE corporation.missions m
         SET state = g.state, state_reason = NULL, result = CAST(g.result AS json), error = g.error,
             finished_at = now(), updated_at = now(),
             started_at = CASE WHEN g.lost THEN m.started_at
                               ELSE coalesce(m.started_at, now() - g.seconds * interval '1 second') END,
             event_seq = m.event_seq + CASE WHEN g.lost OR m.state <> 'running' THEN 2 ELSE 1 END
        FROM given g, corporation.missions before
       WHERE m.id = g.mission_id AND before.id = m.id
         AND m.attempt_id = g.attempt_id AND m.state IN ('queued', 'claimed', 'running')
      RETURNING m.id, m.attempt, m.attempt_id, m.factory_id, m.state, m.error, m.event_seq, m.started_at,
                g.seconds, g.lost, g.took_worker, before.state = 'running' AS was_running
    ), closed AS (
      UPDATE corporation.attempts a
         SET state = CASE WHEN e.lost THEN 'lost' ELSE e.state END, finished_at = now(), error = e.error,
             started_at = e.started_at, claimed_at = coalesce(a.claimed_at, e.started_at),
             took_worker = e.lost AND e.took_worker
        FROM ended e WHERE a.id = e.attempt_id
    )
    INSERT INTO corporation.mission_events (mission_id, seq, type, attempt, factory_id, detail)
    SELECT id, event_seq - 1, CASE WHEN lost THEN 'attempt_lost' ELSE 'started' END, attempt, factory_id,
           CASE WHEN lost THEN json_build_object('error', error) ELSE json_build_object('seconds_ago', seconds) END
      FROM ended WHERE lost OR NOT was_running
    UNION ALL
    SELECT id, event_seq, state, attempt, factory_id,
           CASE WHEN error IS NULL THEN json_build_object() ELSE json_build_object('error', error) END
      FROM ended
""")

TRY_AGAIN = text("""
    WITH given AS (
      SELECT * FROM unnest(
        CAST(:mission_ids AS bigint[]), CAST(:attempt_ids AS uuid[]), CAST(:delays AS double precision[]),
        CAST(:errors AS text[]), CAST(:attempt_states AS text[]), CAST(:seconds AS double precision[]),
        CAST(:took_worker AS boolean[]))
      AS t(mission_id, attempt_id, delay, error, attempt_state, seconds, took_worker)
    ), back AS (
      UPDATE corporation.missions m
         SET state = 'waiting', state_reason = 'backoff', attempt_id = NULL, updated_at = now(), started_at = NULL,
             next_attempt_at = now() + g.delay * interval '1 second',
             event_seq = m.event_seq + CASE WHEN g.attempt_state = 'lost' OR m.state <> 'running' THEN 2 ELSE 1 END
        FROM given g, corporation.missions before
       WHERE m.id = g.mission_id AND before.id = m.id
         AND m.attempt_id = g.attempt_id AND m.state IN ('queued', 'claimed', 'running')
      RETURNING m.id, m.attempt, g.attempt_id, m.factory_id, m.event_seq, g.error, g.delay, g.attempt_state, g.seconds,
                g.took_worker, before.state = 'running' AS was_running, g.attempt_state = 'lost' AS lost
    ), closed AS (
      UPDATE corporation.attempts a
         SET state = b.attempt_state, finished_at = now(), error = b.error, took_worker = b.lost AND b.took_worker,
             started_at = CASE WHEN b.lost THEN a.started_at
                               ELSE coalesce(a.started_at, now() - b.seconds * interval '1 second') END
        FROM back b WHERE a.id = b.attempt_id
    )
    INSERT INTO corporation.mission_events (mission_id, seq, type, attempt, factory_id, detail)
    SELECT id, event_seq - 1, CASE WHEN lost THEN 'attempt_lost' ELSE 'started' END, attempt, factory_id,
           CASE WHEN lost THEN json_build_object('error', error) ELSE json_build_object('seconds_ago', seconds) END
      FROM back WHERE lost OR NOT was_running
    UNION ALL
    SELECT id, event_seq, 'retry_scheduled', attempt, factory_id,
           json_build_object('error', error, 'delay_seconds', delay)
      FROM back
""")

KEEP_LATE = text("""
    WITH given AS (
      SELECT * FROM unnest(CAST(:attempt_ids AS uuid[]), CAST(:outcomes AS text[])) AS t(attempt_id, outcome)
    ), kept AS (
      -- That it died with its worker is evidence also when it comes late, unless it says that it was handed back.
      UPDATE corporation.attempts a
         SET outcome = CASE WHEN a.outcome ->> 'outcome' = 'done' THEN a.outcome ELSE CAST(g.outcome AS json) END,
             took_worker = a.took_worker OR (a.state = 'lost' AND CAST(g.outcome AS json) ->> 'outcome' = 'lost'
               AND CAST(g.outcome AS json) ->> 'took_worker' IS DISTINCT FROM 'false')
        FROM given g WHERE a.id = g.attempt_id RETURNING a.mission_id, a.number, a.factory_id, a.id
    ), counted AS (
      UPDATE corporation.missions m SET event_seq = m.event_seq + k.n
        FROM (SELECT mission_id, count(*) AS n FROM kept GROUP BY mission_id) k
       WHERE m.id = k.mission_id RETURNING m.id, m.event_seq
    )
    INSERT INTO corporation.mission_events (mission_id, seq, type, attempt, factory_id, detail)
    SELECT k.mission_id, c.event_seq + 1 - row_number() OVER (PARTITION BY k.mission_id ORDER BY k.number DESC),
           'late_result', k.number, k.factory_id, json_build_object('attempt_id', k.id)
      FROM kept k JOIN counted c ON c.id = k.mission_id
""")


@dataclass(frozen=True)
class Ended:
    """An attempt with the verdict on it; `report` is the factory's own JSON text, kept when it came too late."""

    standing: Standing
    verdict: Finish | Again | TooLate
    result: str
    report: str
    seconds: float
    """How long the attempt ran, as the factory measured it."""
    attempt_state: str
    """How the attempt ended: `succeeded`, `failed`, `timed_out`, `cancelled` or `lost`."""
    took_worker: bool = False
    """Whether it was lost together with the process that ran it."""


def apply_finishes(connection: Connection, ended: Sequence[Ended]) -> None:
    """End each mission that is still held by its attempt, with its attempt and its events; others are left alone."""
    finishes = [(one, one.verdict) for one in ended if isinstance(one.verdict, Finish)]
    if not finishes:
        return
    connection.execute(
        END,
        {
            "mission_ids": [one.standing.mission_id for one, _ in finishes],
            "attempt_ids": [one.standing.attempt_id for one, _ in finishes],
            "states": [str(verdict.state) for _, verdict in finishes],
            "results": [one.result for one, _ in finishes],
            "errors": [verdict.error for _, verdict in finishes],
            "seconds": [one.seconds for one, _ in finishes],
            "lost": [one.attempt_state == "lost" for one, _ in finishes],
            "took_worker": [one.took_worker for one, _ in finishes],
        },
    )


def apply_retries(connection: Connection, ended: Sequence[Ended]) -> None:
    """Send each mission back to waiting for its next attempt; one that its attempt no longer holds is left alone."""
    retries = [(one, one.verdict) for one in ended if isinstance(one.verdict, Again)]
    if not retries:
        return
    connection.execute(
        TRY_AGAIN,
        {
            "mission_ids": [one.standing.mission_id for one, _ in retries],
            "attempt_ids": [one.standing.attempt_id for one, _ in retries],
            "delays": [verdict.delay_seconds for _, verdict in retries],
            "errors": [verdict.error for _, verdict in retries],
            "attempt_states": [one.attempt_state for one, _ in retries],
            "seconds": [one.seconds for one, _ in retries],
            "took_worker": [one.took_worker for one, _ in retries],
        },
    )


def keep_late(connection: Connection, ended: Sequence[Ended]) -> None:
    """Keep late reports beside their attempts, and say so in the missions' histories (S-32); no state changes."""
    late = [one for one in ended if isinstance(one.verdict, TooLate)]
    if late:
        values = {"attempt_ids": [one.standing.attempt_id for one in late], "outcomes": [one.report for one in late]}
        connection.execute(KEEP_LATE, values)
