"""The fleet as HQ shows it (contract http §5): one bounded read, however long the ledger's history is."""

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Row, text

from corporation.clock import iso
from corporation.factories.events import note_event
from corporation.factories.judging import JUDGED, SILENT
from corporation.factories.signs_of_life import NEVER_SECONDS, Signs, WorkerSign, judge_lights
from corporation.factories.staleness import Thresholds
from corporation.factories.store import record_of
from corporation.wakeups import DISPATCH, RECALL, wake

SPLIT_BRAIN_SHOWN_SECONDS: Final = 900.0
"""How long after the last refused beat of another instance the factory still shows it."""
OVER_HTTPS: Final = "transport:http"

# What a factory holds comes from the index of live attempts, once per factory of the page.
LIST = text(f"""
    WITH judged AS (
      SELECT f.*, {SILENT} AS silent_seconds, {JUDGED} AS status
        FROM corporation.factories f WHERE CAST(:only AS text) IS NULL OR f.factory_id = :only
    ), page AS (
      SELECT j.*, count(*) OVER () AS matching FROM judged j
       WHERE CAST(:status AS text) IS NULL OR j.status = :status
       ORDER BY j.last_seen_at DESC, j.factory_id LIMIT :limit
    )
    SELECT p.*, x.quarantined_at, x.quarantined_by, x.quarantine_note,
           u.user_name AS redis_user, u.enabled AS redis_enabled, u.applied_change = u.changed_at AS redis_applied,
           u.rotation_asked_at, u.previous_until, u.refused_commands,
           CAST(extract(epoch FROM now() - e.asked_at) AS double precision) AS echo_asked_seconds,
           CAST(extract(epoch FROM now() - e.heard_at) AS double precision) AS echo_heard_seconds,
           p.split_brain_at > now() - CAST(:split_brain AS double precision) * interval '1 second' AS split_brain,
           live.queued, live.busy, live.running,
           CAST(live.unnamed_seconds AS double precision) AS unnamed_seconds,
           CAST(live.stalled_seconds AS double precision) AS stalled_seconds
      FROM page p
      LEFT JOIN corporation.factory_echoes e USING (factory_id)
      LEFT JOIN corporation.factory_access x USING (factory_id)
      LEFT JOIN corporation.redis_users u ON u.factory_id = p.factory_id AND u.made_here AND u.removed_at IS NULL
     CROSS JOIN LATERAL (
      SELECT count(*) FILTER (WHERE a.state = 'queued') AS queued,
             count(*) FILTER (WHERE a.state <> 'queued') AS busy,
             count(*) FILTER (WHERE a.state = 'running') AS running,
             :lease - extract(epoch FROM min(a.lease_expires_at) FILTER (WHERE a.state = 'running') - now())
               AS unnamed_seconds,
             extract(epoch FROM now() - min(a.progress_at) FILTER (WHERE a.state = 'running')) AS stalled_seconds
        FROM corporation.attempts a
       WHERE a.factory_id = p.factory_id AND a.state IN ('queued', 'claimed', 'running')) live
     ORDER BY p.last_seen_at DESC, p.factory_id
""")  # noqa: S608 - put in are the two expressions of judging.py

# An echo that waits to be sent to it goes with it; what it spent and what happened to it is kept.
REMOVE = text("""
    WITH gone AS (
      DELETE FROM corporation.factories WHERE factory_id = :factory_id RETURNING factory_id
    ), unasked AS (
      DELETE FROM corporation.outbox WHERE topic = 'echo' AND factory_id = :factory_id
    ), unheard AS (
      DELETE FROM corporation.factory_echoes WHERE factory_id = :factory_id
    )
    SELECT count(*) FROM gone
""")


@dataclass(frozen=True)
class Wanted:
    """Which factories: those of one judged status, or only one of them, and how many at most."""

    limit: int
    status: str | None = None
    only: str | None = None


def list_registrations(
    connection: Connection, wanted: Wanted, thresholds: Thresholds, lease_seconds: float
) -> tuple[list[dict[str, Any]], int]:
    """The factories that match, last heard of first, and how many match in all; each judged as it is now."""
    values = {
        "only": wanted.only,
        "status": wanted.status,
        "limit": wanted.limit,
        "stale": thresholds.stale_seconds,
        "offline": thresholds.offline_seconds,
        "lease": lease_seconds,
        "split_brain": SPLIT_BRAIN_SHOWN_SECONDS,
    }
    rows = connection.execute(LIST, values).all()
    return [_shown(row) for row in rows], int(rows[0].matching) if rows else 0


def remove(connection: Connection, factory_id: str, by: str) -> bool:
    """HQ knows no such factory any more, until one beats again; False when it knew none. Safe to call twice.

    Its credential is another matter: whoever calls this revokes it in the same transaction.
    """
    known = bool(connection.execute(REMOVE, {"factory_id": factory_id}).scalar_one())
    if known:
        note_event(connection, factory_id, "removed", by)
        wake(connection, DISPATCH, RECALL)
    return known


def _shown(row: Row[Any]) -> dict[str, Any]:
    return {
        **record_of(row, row.status),
        "local_control_supported": False,
        "local_service_unit": None,
        "local_service_scope": None,
        "local_service_active": None,
        "local_service_state": None,
        "display_name": row.display_name,
        "draining": row.draining,
        "pause": _pause(row),
        "quarantined": row.quarantined_at is not None,
        "quarantine": _quarantine(row),
        "split_brain": {"with": row.split_brain_with, "at": iso(row.split_brain_at)} if row.split_brain else None,
        "version": row.version,
        "slots": row.slots,
        "busy": row.busy,
        "queued": row.queued,
        "queues": row.queues,
        "workers": row.workers,
        "interval_seconds": row.interval_seconds,
        "age_seconds": round(row.silent_seconds, 1) if row.silent_seconds < NEVER_SECONDS else None,
        "transport": _transport(row),
        "redis_user": _redis_user(row),
        "lights": judge_lights(_signs(row)).shown(),
    }


def _pause(row: Row[Any]) -> dict[str, Any] | None:
    """Who set HQ's flag, `paused` or `draining`; None while neither is set."""
    if not (row.paused or row.draining):
        return None
    since, until = row.paused_at, row.paused_until
    return {
        "who": row.paused_by,
        "note": row.pause_note,
        "since": iso(since) if since else None,
        "until": iso(until) if until else None,
    }


def _quarantine(row: Row[Any]) -> dict[str, Any] | None:
    if row.quarantined_at is None:
        return None
    return {"who": row.quarantined_by, "note": row.quarantine_note, "since": iso(row.quarantined_at)}


def _redis_user(row: Row[Any]) -> dict[str, Any] | None:
    """Its user of the broker, None while it has none of its own; `applied` once the broker follows the last change."""
    if row.redis_user is None:
        return None
    return {
        "name": row.redis_user,
        "enabled": row.redis_enabled,
        "applied": bool(row.redis_applied),
        "rotation_asked_at": iso(row.rotation_asked_at) if row.rotation_asked_at else None,
        "previous_until": iso(row.previous_until) if row.previous_until else None,
        "refused_commands": row.refused_commands,
    }


def _transport(row: Row[Any]) -> str | None:
    """How missions travel to it now, as its labels say; None when they say nothing of it."""
    if OVER_HTTPS in row.capabilities:
        return "https"
    return "redis" if "delegation_redis" in row.capabilities or "transport:redis" in row.capabilities else None


def _signs(row: Row[Any]) -> Signs:
    return Signs(
        status=row.status,
        silent_seconds=row.silent_seconds,
        left=row.registration_status == "offline",
        interval_seconds=row.interval_seconds,
        over_https=_transport(row) == "https",
        slots=row.slots,
        busy=row.busy,
        running=row.running,
        unnamed_seconds=row.unnamed_seconds,
        stalled_seconds=row.stalled_seconds,
        workers=[WorkerSign.from_stored(one) for one in row.workers],
        echo_asked_seconds=row.echo_asked_seconds,
        echo_heard_seconds=row.echo_heard_seconds,
    )
