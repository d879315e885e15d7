"""`POST /api/v1/ops/queues/rebuild`: after Redis lost its data, the queues are filled again from the ledger."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, StrictBool
from starlette.responses import Response

from corporation.missions.outbox import BrokerUnavailableError
from hq_api.access import Principal
from hq_api.auditing import act_of
from hq_api.body import read_optional_object
from hq_api.dependencies import Ledger, principal_with
from hq_api.described_routes import reads
from hq_api.gates import Headquarters
from hq_api.rebuild_waiting import rebuilt
from hq_api.responses import RETRY_AFTER_SECONDS, Json, Refusal
from hq_api.validation import checked

REBUILD: Final = "/api/v1/ops/queues/rebuild"

router = APIRouter(tags=["queues"])


class RebuildForm(BaseModel):
    """Whether to look only; a field with another name is a slip that must not change anything."""

    model_config = ConfigDict(extra="forbid")

    dry_run: StrictBool = False


Operator = Annotated[Principal, Depends(principal_with())]
Document = Annotated[dict[str, Any], Depends(read_optional_object)]


@router.post(REBUILD, openapi_extra=reads(RebuildForm, required=False))
async def rebuild(
    request: Request, operator: Operator, _: Headquarters, document: Document, ledger: Ledger
) -> Response:
    """Attempts that were sent, that nobody received and whose message lies nowhere are handed out again at once.

    Safe to repeat, and while everything works. Messages whose attempt is over are removed. With `dry_run` the counts
    are what would be done. HQ's engine does it: this process may look into no queue.
    """
    form = checked(RebuildForm, document)
    act = act_of(request, operator, "queues.rebuild", None)
    patience = request.app.state.rebuild_patience
    answer = await rebuilt(ledger, act, patience, request.is_disconnected, dry_run=form.dry_run)
    if answer.document is None:
        message = f"{answer.error}; nothing was handed out, send the same request again"
        raise Refusal(503, BrokerUnavailableError.code, message, {"Retry-After": str(RETRY_AFTER_SECONDS)})
    return Json(answer.document)
