"""A mission's log as it grows: server-sent events that can be resumed (H-28)."""

import asyncio
import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Header
from sqlalchemy import Engine
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from corporation import clock
from corporation.db import transaction
from corporation.missions import queries
from corporation.missions.states import FINAL
from hq_api.access import PUBLISH, Principal
from hq_api.dependencies import Ledger, headquarters_only, principal_with
from hq_api.responses import Refusal

LINES_AT_ONCE: Final = 500
LOOK_EVERY_SECONDS: Final = 0.5
COMMENT_EVERY_SECONDS: Final = 10.0
"""Below the 15 s of H-28; proxies cut connections that say nothing."""
LONGEST_STREAM_SECONDS: Final = 600.0
"""Then the client comes again with `Last-Event-ID`; a forgotten browser tab must not hold a connection for ever."""
ATTEMPT_STEP: Final = 10**9
"""An event's id is attempt × this + line number: one rising number per mission, in the order of the lines."""

router = APIRouter(tags=["missions"])


@dataclass(frozen=True)
class Look:
    """What one look at the ledger found: lines after the position, and the mission's state."""

    lines: list[queries.LogLine]
    state: str
    reason: str | None


@router.get("/api/v1/missions/{job_id:path}/log")
def follow_log(
    job_id: str,
    _: Annotated[Principal, Depends(principal_with(PUBLISH))],
    __: Annotated[None, Depends(headquarters_only)],
    ledger: Ledger,
    last_event_id: Annotated[str | None, Header()] = None,
) -> StreamingResponse:
    """`log` and `state` events until `end`, from right after `Last-Event-ID`; nothing is held between two looks."""
    with transaction(ledger) as connection:
        mission_id = queries.find_id(connection, job_id) if "\0" not in job_id else None
    if mission_id is None:
        raise Refusal(404, "unknown_mission", "no mission has this job_id")
    position = (
        int(last_event_id)
        if last_event_id and last_event_id.isascii() and last_event_id.isdecimal() and len(last_event_id) < 19
        else 0
    )
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(_events(ledger, mission_id, position), media_type="text/event-stream", headers=headers)


async def _events(ledger: Engine, mission_id: int, position: int) -> AsyncGenerator[str]:
    began = spoke = clock.monotonic()
    state: str | None = None
    while clock.monotonic() - began < LONGEST_STREAM_SECONDS:
        look = await run_in_threadpool(_look, ledger, mission_id, position)
        said = [_event(_place(line), "log", _line(line)) for line in look.lines]
        position = _place(look.lines[-1]) if look.lines else position
        if look.state != state:
            state = look.state
            said.append(_event(position, "state", {"state": state, "state_reason": look.reason}))
        if state in FINAL and not look.lines:
            yield "".join([*said, _event(position, "end", {"state": state})])
            return
        if not said and clock.monotonic() - spoke > COMMENT_EVERY_SECONDS:
            said.append(": still here\n\n")
        if said:
            spoke = clock.monotonic()
            yield "".join(said)
        await asyncio.sleep(0 if look.lines or state in FINAL else LOOK_EVERY_SECONDS)


def _place(line: queries.LogLine) -> int:
    return line.attempt * ATTEMPT_STEP + line.number


def _line(line: queries.LogLine) -> dict[str, Any]:
    return {"attempt": line.attempt, "at": line.at, "line": line.line}


def _look(ledger: Engine, mission_id: int, position: int) -> Look:
    attempt, number = divmod(position, ATTEMPT_STEP)
    with transaction(ledger) as connection:
        # The state first: lines that came before the end are then never missed.
        mission = queries.read_state(connection, mission_id)
        lines = queries.read_log(connection, mission_id, attempt, number, LINES_AT_ONCE)
    return Look(lines, *mission)


def _event(number: int, kind: str, data: dict[str, Any]) -> str:
    return f"id: {number}\nevent: {kind}\ndata: {json.dumps(data)}\n\n"
