"""What the fleet spent (contract http §10)."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from starlette.responses import Response

from corporation.db import transaction
from corporation.factories.costs import cost_summary
from hq_api.access import Principal
from hq_api.dependencies import Ledger, principal_with
from hq_api.gates import Headquarters
from hq_api.paging import Moment
from hq_api.responses import Json

router = APIRouter(tags=["fleet_costs"])


@router.get("/api/v1/ops/fleet/cost-summary")
def summary(
    _: Annotated[Principal, Depends(principal_with())],
    __: Headquarters,
    ledger: Ledger,
    since: Annotated[Moment, Query()] = None,
    until: Annotated[Moment, Query()] = None,
) -> Response:
    """The totals of what factories said they spent, all in all and by factory; a time without a zone is UTC."""
    with transaction(ledger) as connection:
        return Json(cost_summary(connection, since, until))
