"""`GET /api/v1/ops/audit`: who did what to whom, from where and why, the newest first."""

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Query
from starlette.responses import Response

from corporation.db import transaction
from corporation.trust import audit
from hq_api.access import Principal
from hq_api.dependencies import Ledger, principal_with
from hq_api.gates import Headquarters
from hq_api.paging import Moment, Text
from hq_api.responses import Json

AUDIT: Final = "/api/v1/ops/audit"
MOST_SHOWN: Final = 200
LATEST: Final = 2**63 - 1

router = APIRouter(tags=["audit"])


@router.get(AUDIT)
def read_audit(
    _: Annotated[Principal, Depends(principal_with())],
    __: Headquarters,
    ledger: Ledger,
    limit: int = 50,
    before: Annotated[int | None, Query(ge=1, le=LATEST)] = None,
    since: Annotated[Moment, Query()] = None,
    actor: Text | None = None,
    action: Text | None = None,
    target: Text | None = None,
) -> Response:
    """One page of what was done, the newest first; `limit` is clamped to 1..200, and `next_before` leads to the next.

    `action` is a whole one (`factory.quarantine`) or its first word; each other word must be exactly what is written.
    """
    wanted = audit.Selection(
        min(max(limit, 1), MOST_SHOWN), before, since, actor or None, action or None, target or None
    )
    with transaction(ledger) as connection:
        acts = audit.read(connection, wanted)
    more = acts[-1]["id"] if len(acts) == wanted.limit else None
    return Json({"acts": acts, "next_before": more})
