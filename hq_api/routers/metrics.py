"""`GET /metrics`: for Prometheus, with the ops token as a bearer (contract http §12)."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import Response

from corporation.clock import utc_now
from corporation.db import transaction
from corporation.delegation.keys import keys_of
from corporation.factories.staleness import Thresholds
from hq_api import metrics
from hq_api.access import Principal
from hq_api.dependencies import Ledger, ReadSettings, principal_with
from hq_api.gates import Headquarters

router = APIRouter(tags=["health"])


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
def read_metrics(
    request: Request,
    _: Annotated[Principal, Depends(principal_with())],
    __: Headquarters,
    ledger: Ledger,
    settings: ReadSettings,
) -> Response:
    """The numbers as they are now; those over the whole ledger are up to half a minute old."""
    thresholds = Thresholds(settings.factory_stale_seconds, settings.factory_offline_seconds)
    with transaction(ledger) as connection:
        known = metrics.read_ledger(connection, request.app.state.history_count, thresholds)
    factory_ids = [factory_id for factory_id, _, _ in known.statuses]
    now_ms = round(utc_now().timestamp() * 1000)
    state = request.app.state
    broker = metrics.read_broker(state.redis, state.stream_counting, keys_of(settings), factory_ids, now_ms)
    return Response(metrics.exposition(known, broker), media_type=CONTENT_TYPE_LATEST)
