"""What became of missions, who works on what, and what happened to a factory (contract http §10), for operators."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query
from sqlalchemy.exc import SQLAlchemyError
from starlette.responses import Response

from corporation.clock import iso
from corporation.db import transaction
from corporation.errors import LedgerUnavailableError
from corporation.factories.events import read_events
from corporation.factories.staleness import Thresholds
from corporation.missions.history import STATES_OF, HistoryFilter, read_history, read_one
from corporation.missions.workload import read_workload
from hq_api.access import Principal
from hq_api.dependencies import Ledger, ReadSettings, principal_with
from hq_api.gates import Headquarters
from hq_api.paging import Text
from hq_api.responses import Json, Refusal

MOST_ROWS: Final = 100
FURTHEST: Final = 10_000_000
MOST_EVENTS: Final = 200
Operator = Annotated[Principal, Depends(principal_with())]

router = APIRouter(prefix="/api/v1/ops", tags=["delegation"])


@router.get("/delegation/history")
def history(
    _: Operator,
    __: Headquarters,
    ledger: Ledger,
    limit: int = 20,
    offset: int = 0,
    status: Text | None = None,
    factory_id: Text | None = None,
    mission_kind: Text | None = None,
) -> Response:
    """One page of missions, newest created first; `total` counts all that match. `limit` is clamped to 1..100."""
    word = (status or "").strip().lower()
    if word and word not in STATES_OF:
        raise Refusal(422, "unknown_status", f"status is one of {', '.join(sorted(STATES_OF))}")
    page = min(max(limit, 1), MOST_ROWS), min(max(offset, 0), FURTHEST)
    wanted = HistoryFilter(*page, word or None, factory_id or None, mission_kind or None)
    try:
        with transaction(ledger) as connection:
            rows, total = read_history(connection, wanted)
    except SQLAlchemyError as error:
        raise LedgerUnavailableError(f"The ledger does not tell its history ({type(error).__name__})") from error
    return Json({"missions": rows, "total": total})


@router.get("/delegation/history/{job_id:path}")
def one(_: Operator, __: Headquarters, ledger: Ledger, job_id: str) -> Response:
    """All about one mission, with its envelope, its result once it is final, and its attempts."""
    with transaction(ledger) as connection:
        mission = read_one(connection, job_id) if "\0" not in job_id else None
    if mission is None:
        raise Refusal(404, "unknown_mission", "no mission has this job_id")
    return Json({"mission": mission})


@router.get("/delegation/workload")
def workload(_: Operator, __: Headquarters, ledger: Ledger, settings: ReadSettings) -> Response:
    """Every factory with what it runs now, and what nobody has yet."""
    thresholds = Thresholds(settings.factory_stale_seconds, settings.factory_offline_seconds)
    with transaction(ledger) as connection:
        return Json(read_workload(connection, thresholds))


@router.get("/factory/{factory_id:path}/events")
def events(
    _: Operator,
    __: Headquarters,
    ledger: Ledger,
    factory_id: str,
    limit: Annotated[int, Query(ge=1, le=MOST_EVENTS)] = 50,
) -> Response:
    """What happened to the factory and by whom, newest first; nothing for one that was never known."""
    with transaction(ledger) as connection:
        rows = read_events(connection, factory_id, limit) if "\0" not in factory_id else []
    return Json({"factory_id": factory_id, "events": [_event(row) for row in rows]})


def _event(row: Any) -> dict[str, Any]:
    return {"id": row.id, "at": iso(row.at), "type": row.type, "by": row.by, "detail": row.detail}
