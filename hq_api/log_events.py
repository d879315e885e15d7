"""What a follower of a mission is told, as values; SSE and WebSocket only write them down (H-28)."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Engine
from starlette.concurrency import run_in_threadpool

from corporation import clock
from corporation.db import transaction
from corporation.missions import queries
from corporation.missions.states import FINAL

LINES_AT_ONCE: Final = 500
LOOK_EVERY_SECONDS: Final = 0.5
SPEAK_EVERY_SECONDS: Final = 10.0
"""Below the 15 s of H-28; proxies cut connections that say nothing."""
JUDGE_EVERY_SECONDS: Final = 5.0
"""How long somebody whose token ended or was revoked is still told, at most."""
LONGEST_STREAM_SECONDS: Final = 600.0
"""Then the client comes again with the last id; a forgotten browser tab must not hold a connection for ever."""
ATTEMPT_STEP: Final = 10**9
"""An event's id is attempt × this + line number: one rising number per mission, in the order of the lines."""


@dataclass(frozen=True)
class LogEvent:
    """One thing that is told: a line (`log`), a new state (`state`), or that nothing follows (`end`)."""

    id: int
    kind: str
    data: dict[str, Any]


@dataclass(frozen=True)
class Look:
    """What one look at the ledger found: lines after the position, and the mission's state."""

    lines: list[queries.LogLine]
    state: str
    reason: str | None


def find(ledger: Engine, job_id: str) -> int | None:
    """The mission that `job_id` names, also as an alias, or None."""
    if "\0" in job_id:
        return None
    with transaction(ledger) as connection:
        return queries.find_id(connection, job_id)


def read_position(word: str | None) -> int:
    """The id after which a follower goes on; anything that is no id of ours is the beginning."""
    known = word is not None and word.isascii() and word.isdecimal() and len(word) < 19
    return int(word) if word is not None and known else 0


async def follow(
    ledger: Engine, mission_id: int, position: int, judge_again: Callable[[], object]
) -> AsyncGenerator[Sequence[LogEvent]]:
    """The mission's events from right after `position` until its `end`, or for LONGEST_STREAM_SECONDS.

    An empty sequence is a sign of life. Nothing is held between two looks. Every JUDGE_EVERY_SECONDS the caller is
    judged again: what `judge_again` raises, Unauthorized when the token is worth nothing any more, ends it (H-11).
    """
    began = spoke = judged = clock.monotonic()
    state: str | None = None
    while clock.monotonic() - began < LONGEST_STREAM_SECONDS:
        if clock.monotonic() - judged >= JUDGE_EVERY_SECONDS:
            await run_in_threadpool(judge_again)
            judged = clock.monotonic()
        look = await run_in_threadpool(_look, ledger, mission_id, position)
        said = [LogEvent(_place(line), "log", _line(line)) for line in look.lines]
        position = said[-1].id if said else position
        if look.state != state:
            state = look.state
            said.append(LogEvent(position, "state", {"state": state, "state_reason": look.reason}))
        if state in FINAL and not look.lines:
            yield [*said, LogEvent(position, "end", {"state": state})]
            return
        if said or clock.monotonic() - spoke > SPEAK_EVERY_SECONDS:
            spoke = clock.monotonic()
            yield said
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
