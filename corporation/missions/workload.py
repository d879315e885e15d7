"""Who works on what, and what nobody has yet (contract http §10): bounded by the fleet, whatever its history."""

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, text

from corporation.clock import iso
from corporation.factories.judging import JUDGED
from corporation.factories.staleness import Thresholds
from corporation.missions.history import SHOWN

# Orders to the factory itself are no work.
FACTORIES = text(f"""
    SELECT f.factory_id, {JUDGED} AS status, f.slots, f.display_name, x.quarantined_at IS NOT NULL AS quarantined,
           (SELECT count(*) FROM corporation.attempts a WHERE a.factory_id = f.factory_id AND a.state = 'queued')
             AS queue_depth,
           last.job_id AS last_job_id, last.state AS last_state, last.finished_at AS last_finished_at
      FROM corporation.factories f
      LEFT JOIN corporation.factory_access x USING (factory_id)
      LEFT JOIN LATERAL (
        SELECT m.job_id, m.state, m.finished_at
          FROM corporation.attempts a JOIN corporation.missions m ON m.attempt_id = a.id
         WHERE a.factory_id = f.factory_id AND a.finished_at IS NOT NULL AND m.finished_at IS NOT NULL
           AND m.mission_kind NOT LIKE 'system:%'
         ORDER BY a.finished_at DESC LIMIT 1) AS last ON true
     ORDER BY f.factory_id
""")  # noqa: S608 - put in is the expression of judging.py

RUNNING = text("""
    SELECT a.factory_id, m.job_id, m.mission_kind, a.started_at, a.progress,
           CAST(extract(epoch FROM now() - a.started_at) AS double precision) AS elapsed
      FROM corporation.attempts a JOIN corporation.missions m ON m.attempt_id = a.id
     WHERE a.state = 'running' AND m.mission_kind NOT LIKE 'system:%'
     ORDER BY a.factory_id, a.started_at, m.job_id
""")

UNASSIGNED = text("""
    SELECT count(*) FILTER (WHERE m.state = 'waiting') AS waiting,
           count(*) FILTER (WHERE m.state = 'queued' AND NOT EXISTS
             (SELECT 1 FROM corporation.factories f WHERE f.factory_id = m.factory_id)) AS queued,
           now() AS moment
      FROM corporation.missions m WHERE m.state IN ('waiting', 'queued')
""")


def read_workload(connection: Connection, thresholds: Thresholds) -> dict[str, Any]:
    """Every factory with what it runs, holds and last ended, by name; and how many missions have no factory yet."""
    limits = {"stale": thresholds.stale_seconds, "offline": thresholds.offline_seconds}
    running: dict[str, list[dict[str, Any]]] = {}
    for row in connection.execute(RUNNING):
        running.setdefault(row.factory_id, []).append(_running(row))
    factories = [_factory(row, running.get(row.factory_id, [])) for row in connection.execute(FACTORIES, limits)]
    left = connection.execute(UNASSIGNED).one()
    return {
        "factories": factories,
        "unassigned": {"waiting": left.waiting, "queued": left.queued},
        "updated_at": iso(left.moment),
    }


def _factory(row: Row[Any], running: list[dict[str, Any]]) -> dict[str, Any]:
    ended: datetime | None = row.last_finished_at
    last = {"job_id": row.last_job_id, "status": SHOWN[row.last_state], "completed_at": iso(ended)} if ended else None
    return {
        "factory_id": row.factory_id,
        "registration_status": row.status,
        "slots": row.slots,
        "queue_depth": row.queue_depth,
        "current_mission": running[0] if running else None,
        "running": running,
        "last_completed": last,
        "display_name": row.display_name,
        "quarantined": row.quarantined,
    }


def _running(row: Row[Any]) -> dict[str, Any]:
    return {
        "job_id": row.job_id,
        "mission_kind": row.mission_kind,
        "started_at": iso(row.started_at) if row.started_at else None,
        "elapsed_seconds": round(row.elapsed, 1) if row.elapsed is not None else None,
        "progress": row.progress,
    }
