"""What factories reported: the mailbox's rows that nobody has collected yet, and the attempts they speak of."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, text

from corporation.missions.finish import Standing

TAKE = text("""
    SELECT id, task_id, status, result FROM mailbox.celery_taskmeta
     WHERE collected_at IS NULL AND status IN ('SUCCESS', 'FAILURE', 'REVOKED')
     ORDER BY id LIMIT :limit
       FOR UPDATE SKIP LOCKED
""")

MARK_COLLECTED = text("""
    UPDATE mailbox.celery_taskmeta SET collected_at = now() WHERE id = ANY(CAST(:ids AS bigint[]))
""")

# The missions are locked here, in one order, so that two collectors never wait for each other.
STANDINGS = text("""
    SELECT a.id AS attempt_id, a.number, a.factory_id, m.id AS mission_id, m.job_id, m.mission_kind,
           m.attempts_total, m.attempts_before, m.cancel_reason,
           a.state IN ('queued', 'claimed', 'running') AND m.attempt_id = a.id
             AND m.state IN ('queued', 'claimed', 'running') AS current,
           a.state IN ('claimed', 'running') AS received, others.withdrawn, others.workers_lost,
           EXISTS (SELECT FROM corporation.factory_access x
                    WHERE x.factory_id = a.factory_id AND x.quarantined_at IS NOT NULL) AS quarantined
      FROM corporation.attempts a JOIN corporation.missions m ON m.id = a.mission_id,
           LATERAL (SELECT count(*) FILTER (WHERE o.state = 'withdrawn') AS withdrawn,
                           count(*) FILTER (WHERE o.took_worker) AS workers_lost
                      FROM corporation.attempts o WHERE o.mission_id = m.id) AS others
     WHERE a.id = ANY(CAST(:ids AS uuid[]))
     ORDER BY m.id
       FOR NO KEY UPDATE OF m
""")


@dataclass(frozen=True)
class Letter:
    """One uncollected row of the mailbox: hostile bytes from a factory until proven otherwise."""

    letter_id: int
    attempt_id: str
    status: str
    body: bytes


def take_letters(connection: Connection, limit: int) -> list[Letter]:
    """Lock up to `limit` reports, the oldest first; another collector skips them until this transaction ends."""
    rows = connection.execute(TAKE, {"limit": limit})
    return [Letter(row.id, row.task_id, row.status, bytes(row.result or b"")) for row in rows]


def mark_collected(connection: Connection, letter_ids: Sequence[int]) -> None:
    """Nobody reads these letters again."""
    connection.execute(MARK_COLLECTED, {"ids": list(letter_ids)})


def read_standings(connection: Connection, attempt_ids: Sequence[str]) -> dict[str, Standing]:
    """Where each attempt and its mission stand now, by attempt id; the missions stay locked until the commit."""
    return {
        str(row.attempt_id): Standing(
            mission_id=row.mission_id,
            job_id=row.job_id,
            mission_kind=row.mission_kind,
            attempt_id=str(row.attempt_id),
            attempt=row.number,
            factory_id=row.factory_id,
            attempts_total=row.attempts_total,
            attempts_before=row.attempts_before,
            current=row.current,
            received=row.received,
            withdrawn=row.withdrawn,
            workers_lost=row.workers_lost,
            cancel_requested=row.cancel_reason,
            quarantined=row.quarantined,
        )
        for row in connection.execute(STANDINGS, {"ids": list(attempt_ids)})
    }
