"""Stopping a mission, whatever state it is in (contract http §7)."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, StringConstraints
from starlette.responses import Response

from corporation.db import transaction
from corporation.missions.cancel import DEFAULT_REASON, CancelRefused, cancel
from corporation.missions.states import State
from corporation.trust import audit
from hq_api.access import Principal
from hq_api.addresses import AsWritten
from hq_api.auditing import act_of
from hq_api.body import read_optional_object
from hq_api.dependencies import Ledger, principal_with
from hq_api.described_routes import also, reads
from hq_api.gates import Headquarters
from hq_api.responses import Json, Refusal
from hq_api.validation import checked, refuse_unstorable

router = APIRouter(tags=["missions"], route_class=AsWritten)

Reason = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500, pattern=r"^[^\x00-\x1f\x7f]*$")
]


class CancelForm(BaseModel):
    """Why the mission is stopped, in one line; people and the factory read it."""

    reason: Reason | None = None


@router.post(
    "/api/v1/missions/{job_id:path}/cancel",
    openapi_extra=reads(CancelForm, required=False),
    responses=also({202: "A factory runs it and was told to stop"}),
)
def cancel_mission(
    request: Request,
    operator: Annotated[Principal, Depends(principal_with())],
    _: Headquarters,
    job_id: str,
    document: Annotated[dict[str, Any], Depends(read_optional_object)],
    ledger: Ledger,
) -> Response:
    """200: it is cancelled, now or before. 202: a factory runs it and was told to stop; the mission ends when it has.

    409 when it ended otherwise before. Calling again changes nothing, and tells the factory once more.
    """
    refuse_unstorable(document)
    reason = checked(CancelForm, document).reason or DEFAULT_REASON
    try:
        with transaction(ledger) as connection:
            done = None if "\0" in job_id else cancel(connection, job_id, reason, operator.subject)
            if done is not None:
                outcome: audit.Outcome = "done" if done.changed else "unchanged"
                audit.write(connection, act_of(request, operator, "mission.cancel", done.job_id, reason, outcome))
    except CancelRefused as refused:
        raise Refusal(409, refused.code, str(refused)) from None
    if done is None:
        raise Refusal(404, "unknown_mission", "no mission has this job_id")
    body = {"ok": True, "job_id": done.job_id, "state": done.state, "cancel_requested": True}
    return Json(body, 200 if done.state == State.CANCELLED else 202)
