"""Waiting until HQ's engine has rebuilt the queues, without holding a thread; what nobody waits for is withdrawn."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Engine
from starlette.concurrency import run_in_threadpool

from corporation.clock import monotonic
from corporation.db import transaction
from corporation.missions.store import rebuild_wishes
from corporation.missions.store.rebuild_wishes import Answer
from corporation.trust.audit import Act
from corporation.wakeups import REBUILD, wake
from hq_api.responses import RETRY_AFTER_SECONDS, Refusal

FIRST_LOOK_SECONDS: Final = 0.02
LONGEST_LOOK_SECONDS: Final = 0.5
"""Between two looks for the answer; the pauses between them double."""

_AWAY: Final = (
    "HQ's engine did not do it within {:g} s, and the wish was withdrawn: nothing was handed out, and nothing will be "
    "later. Start the engine (`corporation up`), or see in its log what keeps it, and send the same request again"
)
_UNDERWAY: Final = (
    "HQ's engine is at it for longer than {:g} s, and goes on; send the same request again, which is safe, to see what "
    "is left. If that stays so, see in its log which queue keeps it"
)


@dataclass(frozen=True)
class Patience:
    """How long the engine has to begin, and to be done; the command line waits 30 s for an answer."""

    begin_seconds: float = 5.0
    done_seconds: float = 25.0


async def rebuilt(
    ledger: Engine, act: Act, patience: Patience, is_gone: Callable[[], Awaitable[bool]], *, dry_run: bool
) -> Answer:
    """What the engine answers to who does `act`; it writes `act` down when it does it.

    Raises Refusal (503) when no engine begins, or none is done in time. A wish that nobody waits for any longer, which
    `is_gone` says, is withdrawn; one that is underway is finished.
    """
    wish_id = await run_in_threadpool(_ask, ledger, act, patience.done_seconds, dry_run=dry_run)
    began = monotonic()
    # An engine may first be at a wish that came before; so only who is next is sure that none works.
    for seconds, only_in_turn in ((patience.begin_seconds, True), (patience.done_seconds, False)):
        answer = await _until(ledger, wish_id, began + seconds, is_gone)
        if answer is not None:
            return answer
        if await run_in_threadpool(_withdraw, ledger, wish_id, only_in_turn=only_in_turn):
            raise _refusal("engine_away", _AWAY.format(seconds))
    answer = await run_in_threadpool(_fetch, ledger, wish_id)
    if answer is None:
        raise _refusal("rebuild_underway", _UNDERWAY.format(patience.done_seconds))
    return answer


async def _until(
    ledger: Engine, wish_id: int, deadline: float, is_gone: Callable[[], Awaitable[bool]]
) -> Answer | None:
    pause = FIRST_LOOK_SECONDS
    while monotonic() < deadline and not await is_gone():
        await asyncio.sleep(max(0.0, min(pause, deadline - monotonic())))
        answer = await run_in_threadpool(_fetch, ledger, wish_id)
        if answer is not None:
            return answer
        pause = min(2 * pause, LONGEST_LOOK_SECONDS)
    return None


def _ask(ledger: Engine, act: Act, seconds: float, *, dry_run: bool) -> int:
    with transaction(ledger) as connection:
        wish_id = rebuild_wishes.ask(connection, act.actor, act.origin, seconds, dry_run=dry_run)
        wake(connection, REBUILD)
    return wish_id


def _fetch(ledger: Engine, wish_id: int) -> Answer | None:
    with transaction(ledger) as connection:
        return rebuild_wishes.fetch(connection, wish_id)


def _withdraw(ledger: Engine, wish_id: int, *, only_in_turn: bool) -> bool:
    with transaction(ledger) as connection:
        return rebuild_wishes.withdraw(connection, wish_id, only_in_turn=only_in_turn)


def _refusal(code: str, message: str) -> Refusal:
    return Refusal(503, code, message, {"Retry-After": str(RETRY_AFTER_SECONDS)})
