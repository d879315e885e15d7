"""`POST /api/v1/ops/queues/rebuild`: after Redis lost its data, the queues are filled again from the ledger."""

from dataclasses import asdict
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, StrictBool
from starlette.responses import Response

from corporation.db import transaction
from corporation.missions.brokers import load_broker
from corporation.missions.outbox import BrokerUnavailableError
from corporation.missions.queues import Queues
from corporation.missions.rebuild import rebuild_queues, total
from corporation.trust import audit
from hq_api.access import Principal
from hq_api.auditing import act_of
from hq_api.body import read_optional_object
from hq_api.dependencies import Ledger, ReadSettings, principal_with
from hq_api.described_routes import reads
from hq_api.gates import Headquarters
from hq_api.responses import RETRY_AFTER_SECONDS, Json, Refusal
from hq_api.validation import checked

REBUILD: Final = "/api/v1/ops/queues/rebuild"
COUNTS: Final = ("resent", "lying", "held", "orphans_removed")

router = APIRouter(tags=["queues"])


class RebuildForm(BaseModel):
    """Whether to look only; a field with another name is a slip that must not change anything."""

    model_config = ConfigDict(extra="forbid")

    dry_run: StrictBool = False


def queues_of(request: Request) -> Queues:
    """A look at the broker's queues: all that this process may do with it. It is loaded when it is first needed."""
    state = request.app.state
    if not hasattr(state, "queues"):
        state.queues = load_broker(state.settings)
    return state.queues


Operator = Annotated[Principal, Depends(principal_with())]
Document = Annotated[dict[str, Any], Depends(read_optional_object)]
TheQueues = Annotated[Queues, Depends(queues_of)]


@router.post(REBUILD, openapi_extra=reads(RebuildForm, required=False))
def rebuild(
    request: Request,
    operator: Operator,
    _: Headquarters,
    document: Document,
    ledger: Ledger,
    settings: ReadSettings,
    queues: TheQueues,
) -> Response:
    """Attempts that were sent, that nobody received and whose message lies nowhere are handed out again at once.

    Safe to repeat, and while everything works. Messages whose attempt is over are removed. With `dry_run` the counts
    are what would be done.
    """
    form = checked(RebuildForm, document)
    try:
        with transaction(ledger) as connection:
            rows = rebuild_queues(connection, queues, float(settings.attempt_lease_seconds), dry_run=form.dry_run)
            counts = {name: total(rows, name) for name in COUNTS}
            if not form.dry_run:
                audit.write(connection, act_of(request, operator, "queues.rebuild", None, detail=counts))
    except BrokerUnavailableError as error:
        message = f"{error}; nothing was handed out, send the same request again"
        raise Refusal(503, error.code, message, {"Retry-After": str(RETRY_AFTER_SECONDS)}) from None
    return Json({"ok": True, **counts, "queues": [asdict(row) for row in rows]})
