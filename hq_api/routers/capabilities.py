"""What this node may do and whether its broker is there, for operators (contract http §5)."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from corporation.clock import iso, utc_now
from corporation.db import transaction
from corporation.missions.store.handed_over import HandedOver, read_handed_over
from hq_api.access import Principal
from hq_api.dependencies import Ledger, ReadSettings, principal_with
from hq_api.gates import KeepsLedger
from hq_api.own_node import DelegationLink, factory_block, look_at_delegation
from hq_api.responses import Json

router = APIRouter(tags=["factories"])


@router.get("/api/v1/factory/capabilities")
def capabilities(
    request: Request,
    _: Annotated[Principal, Depends(principal_with())],
    __: KeepsLedger,
    ledger: Ledger,
    settings: ReadSettings,
) -> Response:
    """The policy as it acts, and the broker as it is now: it is asked anew each time, for at most about a second."""
    link = look_at_delegation(request.app.state.redis, settings)
    with transaction(ledger) as connection:
        handed = read_handed_over(connection)
    return Json({"factory": factory_block(settings, link, utc_now()), "delegation": _delegation(link, handed)})


def _delegation(link: DelegationLink, handed: HandedOver) -> dict[str, Any]:
    return {
        "redis_enabled": link.wanted,
        "connected": link.connected,
        "last_error": link.last_error,
        "last_publish_at": iso(handed.last_at) if handed.last_at else None,
        "published_total": handed.total,
    }
