"""The same log over a WebSocket, as JSON messages `{"id", "event", "data"}`; `?after=<id>` resumes it (H-15, H-28).

| close code | when |
|---|---|
| 1000 | the mission is final: `end` was sent |
| 1001 | the longest time is over; come again with `?after=` |
| 1003 | the client sent something; this socket only tells |
| 1008 | the client did not read for ten seconds |
| 1011 | no token could ever be accepted here, or the ledger does not answer |
| 4000 | no mission has this job_id |
| 4401 | no good token, or one that ended or was revoked meanwhile |
| 4403 | a good token without the scope, or not headquarters; on a health-only node any socket |
"""

import asyncio
import json
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final

import structlog
from fastapi import APIRouter, WebSocket, WebSocketDisconnect
from starlette.concurrency import run_in_threadpool

from corporation.errors import LedgerUnavailableError
from hq_api.access import PUBLISH, Unauthorized, accepts_tokens
from hq_api.dependencies import authenticate, bearer, valid_principal
from hq_api.gates import SURFACE_IS_CLOSED, headquarters
from hq_api.log_events import LogEvent, find, follow, read_position
from hq_api.responses import Refusal

UNKNOWN_ID: Final = 4000
BAD_AUTH: Final = 4401
SEND_SECONDS: Final = 10.0
"""How long a client may leave one message unread; what it has read it can skip with `?after=`."""

router = APIRouter()
log = structlog.get_logger()


@dataclass(frozen=True)
class Close:
    """Why a socket ends: the code of the table above, and words for whoever looks."""

    code: int
    reason: str


@router.websocket("/api/v1/missions/{job_id:path}/log")
async def follow_log(websocket: WebSocket, job_id: str) -> None:
    """`log` and `state` messages until `end`; the socket is closed with a code that says why.

    It is accepted first, since a refused handshake carries no code. Only headers carry the token, so no page of
    another site can open it in its visitor's name.
    """
    await websocket.accept()
    admitted = await run_in_threadpool(_admit, websocket, job_id)
    close = admitted if isinstance(admitted, Close) else await _until_either_ends(websocket, admitted)
    if close is not None:
        # Who does not read does not get the code either; then the server drops the connection.
        with suppress(TimeoutError, WebSocketDisconnect):
            async with asyncio.timeout(SEND_SECONDS):
                await websocket.close(close.code, close.reason)


def _admit(websocket: WebSocket, job_id: str) -> int | Close:
    """The mission to be told about, or why there is none for this caller."""
    if not accepts_tokens(websocket.app.state.settings):
        return Close(1011, "no token is configured here; set UA_OPS_JWT_SECRET")
    try:
        if not authenticate(websocket).may(PUBLISH):
            return Close(SURFACE_IS_CLOSED, "this needs the scope ops or publish")
    except Unauthorized:
        return Close(BAD_AUTH, "Unauthorized")
    except Refusal as refusal:
        return Close(BAD_AUTH, refusal.code)
    except LedgerUnavailableError:
        return Close(1011, "ledger_unavailable")
    try:
        headquarters(websocket)
        mission_id = find(websocket.app.state.ledger, job_id)
    except Refusal as refusal:
        return Close(SURFACE_IS_CLOSED, refusal.message)
    except LedgerUnavailableError:
        return Close(1011, "ledger_unavailable")
    return Close(UNKNOWN_ID, "no mission has this job_id") if mission_id is None else mission_id


async def _until_either_ends(websocket: WebSocket, mission_id: int) -> Close | None:
    """Tell until there is no more to tell, nobody listens, or nobody should; None when the client is gone."""
    teller = asyncio.create_task(_tell(websocket, mission_id))
    listener = asyncio.create_task(websocket.receive())
    try:
        await asyncio.wait((teller, listener), return_when=asyncio.FIRST_COMPLETED)
        if teller.done():
            return teller.result()
        gone = listener.result()["type"] == "websocket.disconnect"
        return None if gone else Close(1003, "this socket only tells; send nothing")
    finally:
        teller.cancel()
        listener.cancel()
        await asyncio.gather(teller, listener, return_exceptions=True)


async def _tell(websocket: WebSocket, mission_id: int) -> Close | None:
    position = read_position(websocket.query_params.get("after"))
    judge_again = partial(valid_principal, websocket, bearer(websocket))
    try:
        async for events in follow(websocket.app.state.ledger, mission_id, position, judge_again):
            for event in events:
                async with asyncio.timeout(SEND_SECONDS):
                    await websocket.send_text(_message(event))
            if events and events[-1].kind == "end":
                return Close(1000, "the mission is final")
    except TimeoutError:
        return Close(1008, "the client does not read")
    except Unauthorized:
        return Close(BAD_AUTH, "Unauthorized")
    except LedgerUnavailableError:
        return Close(1011, "ledger_unavailable")
    except WebSocketDisconnect:
        return None
    return Close(1001, "come again with ?after= and the last id")


def _message(event: LogEvent) -> str:
    return json.dumps({"id": event.id, "event": event.kind, "data": event.data})
