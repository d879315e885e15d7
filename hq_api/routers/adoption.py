"""Taking a late result after all (contract http H-32): an operator says that the work counts."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from corporation.db import transaction
from corporation.missions.adopt import DEFAULT_REASON, AdoptRefused, Wish, adopt
from corporation.missions.replay import ReplayRefused
from corporation.missions.states import State
from corporation.trust import audit
from hq_api.access import Principal
from hq_api.addresses import AsWritten
from hq_api.auditing import act_of
from hq_api.dependencies import JsonObject, Ledger, ReadSettings, principal_with
from hq_api.described_routes import reads
from hq_api.gates import Headquarters
from hq_api.responses import Json, Refusal
from hq_api.routers.cancelling import Reason
from hq_api.routers.missions import location_of
from hq_api.validation import checked, refuse_unstorable

router = APIRouter(tags=["missions"], route_class=AsWritten)

HIGHEST_NUMBER = 2**31 - 1
"""Of an attempt; the ledger counts no further."""


class AdoptForm(BaseModel):
    """Which attempt's late result counts, and why, in one line."""

    attempt: Annotated[int, Field(ge=1, le=HIGHEST_NUMBER, strict=True)]
    reason: Reason | None = None


@router.post("/api/v1/missions/{job_id:path}/adopt", openapi_extra=reads(AdoptForm, required=True))
def adopt_late_result(
    request: Request,
    operator: Annotated[Principal, Depends(principal_with())],
    _: Headquarters,
    job_id: str,
    document: JsonObject,
    ledger: Ledger,
    settings: ReadSettings,
) -> Response:
    """200: the mission named by `job_id` has succeeded with the late result of that attempt, now or before.

    It is the mission itself, or, where that has failed or was cancelled, a new one. 409 when the attempt did not report
    late that its work is done; the answer says which did.
    """
    refuse_unstorable(document)
    form = checked(AdoptForm, document)
    wish = Wish(form.attempt, operator.subject, form.reason or DEFAULT_REASON)
    try:
        with transaction(ledger) as connection:
            done = None if "\0" in job_id else adopt(connection, job_id, wish, settings.default_ttl_seconds)
            if done is not None:
                detail = {"attempt": done.attempt, "became": done.job_id}
                audit.write(connection, act_of(request, operator, "mission.adopt", done.of, form.reason, detail=detail))
    except (AdoptRefused, ReplayRefused) as refused:
        raise Refusal(409, refused.code, str(refused)) from None
    if done is None:
        raise Refusal(404, "unknown_mission", "no mission has this job_id")
    adopted = {"job_id": done.of, "attempt": done.attempt}
    location = location_of(done.job_id)
    body = {"ok": True, "job_id": done.job_id, "state": str(State.SUCCEEDED), "adopted": adopted, "location": location}
    return Json(body, 200, {"Location": location})
