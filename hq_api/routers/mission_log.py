"""A mission's log as it grows: server-sent events that can be resumed (H-28)."""

import json
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Request
from sqlalchemy import Engine
from starlette.responses import StreamingResponse

from hq_api.access import PUBLISH, Principal, Unauthorized
from hq_api.addresses import AsWritten
from hq_api.dependencies import Ledger, bearer, principal_with, valid_principal
from hq_api.described_routes import sends
from hq_api.gates import Headquarters
from hq_api.log_events import LogEvent, find, follow, read_position
from hq_api.responses import Refusal

router = APIRouter(tags=["missions"], route_class=AsWritten)


@router.get(
    "/api/v1/missions/{job_id:path}/log",
    response_class=StreamingResponse,
    responses=sends("text/event-stream", "Server-sent events"),
)
def follow_log(
    request: Request,
    job_id: str,
    _: Annotated[Principal, Depends(principal_with(PUBLISH))],
    __: Headquarters,
    ledger: Ledger,
    last_event_id: Annotated[str | None, Header()] = None,
) -> StreamingResponse:
    """`log` and `state` events until `end` or until the token ends, from right after `Last-Event-ID`."""
    mission_id = find(ledger, job_id)
    if mission_id is None:
        raise Refusal(404, "unknown_mission", "no mission has this job_id")
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    judge_again = partial(valid_principal, request, bearer(request))
    stream = _written(ledger, mission_id, read_position(last_event_id), judge_again)
    return StreamingResponse(stream, media_type="text/event-stream", headers=headers)


async def _written(
    ledger: Engine, mission_id: int, position: int, judge_again: Callable[[], object]
) -> AsyncGenerator[str]:
    # Who comes again with a token that ended is told so then.
    with suppress(Unauthorized):
        async for events in follow(ledger, mission_id, position, judge_again):
            yield "".join(map(_event, events)) or ": still here\n\n"


def _event(event: LogEvent) -> str:
    return f"id: {event.id}\nevent: {event.kind}\ndata: {json.dumps(event.data)}\n\n"
