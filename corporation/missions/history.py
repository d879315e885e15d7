"""What became of the missions, in the words of those who gave them away (contract http §10); read from the ledger."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Row, text

from corporation.clock import iso
from corporation.missions import queries
from corporation.missions.kinds import KINDS, stored_kind
from corporation.missions.store.naming import NAMED

SHOWN: Final = {
    "waiting": "queued",
    "queued": "queued",
    "claimed": "claimed",
    "running": "running",
    "succeeded": "completed",
    "failed": "failed",
    "timed_out": "failed",
    "cancelled": "cancelled",
}
"""The status that is shown for each state of the ledger."""
DEAD: Final = "dlq"
"""Found by this: missions whose dead letter is still open."""
STATES_OF: Final = {
    **{status: tuple(state for state, shown in SHOWN.items() if shown == status) for status in set(SHOWN.values())},
    "published": ("waiting", "queued"),
    "consumed": ("claimed",),
    DEAD: ("failed", "timed_out"),
}
"""The states that each word of the filter `status` finds."""
ELSEWHERE: Final = "factory"
"""Who runs a kind that only a factory knows."""

_MATCHING = """
      FROM corporation.missions m
     WHERE (CAST(:states AS text[]) IS NULL OR m.state = ANY(CAST(:states AS text[])))
       AND (CAST(:factory_id AS text) IS NULL OR m.factory_id = :factory_id)
       AND (CAST(:kind AS text) IS NULL OR m.mission_kind = :kind)
       AND (NOT CAST(:dead AS boolean) OR EXISTS
            (SELECT 1 FROM corporation.dead_letters d WHERE d.mission_id = m.id AND d.status = 'open'))
"""
_COLUMNS = """
    m.job_id, m.mission_kind, m.envelope, m.state, m.source, m.created_at, m.updated_at, m.idempotency_key,
    m.target_factory_id, m.factory_id, m.priority, m.started_at, m.finished_at, m.error, m.result,
    (SELECT a.claimed_at FROM corporation.attempts a WHERE a.mission_id = m.id ORDER BY a.number DESC LIMIT 1)
      AS consumed_at
"""

LIST = text(f"SELECT {_COLUMNS} {_MATCHING} ORDER BY m.created_at DESC, m.job_id LIMIT :limit OFFSET :offset")
COUNT = text(f"SELECT count(*) {_MATCHING}")
FIND = text(f"SELECT {_COLUMNS} FROM corporation.missions m WHERE m.id = ({NAMED})")  # noqa: S608 - texts from above


@dataclass(frozen=True)
class HistoryFilter:
    """Which missions, and which part of them; None means any."""

    limit: int
    offset: int
    status: str | None = None
    factory_id: str | None = None
    kind: str | None = None


def read_history(connection: Connection, wanted: HistoryFilter) -> tuple[list[dict[str, Any]], int]:
    """The rows of this page, newest created first, and how many match in all."""
    status = wanted.status
    values = {
        "states": None if status is None else list(STATES_OF[status]),
        "factory_id": wanted.factory_id,
        "kind": None if wanted.kind is None else stored_kind(wanted.kind),
        "dead": status == DEAD,
    }
    page = {"limit": wanted.limit, "offset": wanted.offset}
    rows = connection.execute(LIST, values | page).all()
    return [_row(row) for row in rows], int(connection.execute(COUNT, values).scalar_one())


def read_one(connection: Connection, job_id: str) -> dict[str, Any] | None:
    """All about the mission that `job_id` names, also as an alias; None when there is none."""
    row = connection.execute(FIND, {"job_id": job_id}).first()
    mission = queries.find_mission(connection, job_id)
    if row is None or mission is None:
        return None
    return {
        **_row(row),
        "envelope_json": row.envelope,
        "result_json": _result(row),
        "attempts": mission["attempts"],
    }


def _row(row: Row[Any]) -> dict[str, Any]:
    payload = row.envelope.get("payload", {}) if isinstance(row.envelope, dict) else {}
    kind = KINDS.get(row.mission_kind)
    return {
        "mission_id": row.job_id,
        "vp_id": kind.executor if kind else ELSEWHERE,
        "mission_type": row.mission_kind,
        "objective": payload.get("task", ""),
        "status": SHOWN[row.state],
        "source": row.source,
        "created_at": iso(row.created_at),
        "updated_at": iso(row.updated_at),
        "job_id": row.job_id,
        "idempotency_key": row.idempotency_key,
        "mission_kind": row.mission_kind,
        "target_factory_id": row.target_factory_id,
        "factory_id": row.factory_id,
        "priority": row.priority,
        "published_at": iso(row.created_at),
        "consumed_at": _time(row.consumed_at),
        "started_at": _time(row.started_at),
        "completed_at": _time(row.finished_at),
        "duration_seconds": _seconds(row.started_at, row.finished_at),
        "error": row.error,
    }


def _result(row: Row[Any]) -> dict[str, Any] | None:
    """As the results stream tells it (contract streams §7); None until the mission is final."""
    if row.finished_at is None:
        return None
    status = "SUCCESS" if row.state == "succeeded" else "FAILED"
    return {"job_id": row.job_id, "status": status, "result": row.result or {}, "error": row.error}


def _seconds(began: datetime | None, ended: datetime | None) -> float | None:
    if began is None or ended is None:
        return None
    return round((ended - began).total_seconds(), 6)


def _time(moment: datetime | None) -> str | None:
    return iso(moment) if moment else None
