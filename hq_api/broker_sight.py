"""Whether the broker is there, for requests that only mention it: asked for one second, remembered for three."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Final

from fastapi import Depends, Request

from corporation import clock

LIMIT_SECONDS: Final = 1.0
REMEMBERED_SECONDS: Final = 3.0


class BrokerSight:
    """What `ask` said lately; for the event loop of one process only."""

    def __init__(self, ask: Callable[[], Awaitable[bool]], now: Callable[[], float] = clock.monotonic) -> None:
        self._ask = ask
        self._now = now
        self._seen: tuple[float, bool] | None = None

    async def answers(self) -> bool:
        """Whether the broker answered, at most three seconds ago; one that takes a second to do so is away."""
        if self._seen is None or self._now() - self._seen[0] >= REMEMBERED_SECONDS:
            try:
                answers = await asyncio.wait_for(self._ask(), LIMIT_SECONDS)
            except TimeoutError:
                answers = False
            self._seen = (self._now(), answers)
        return self._seen[1]


async def broker_answers(request: Request) -> bool:
    """Whether the broker of this node is there."""
    sight: BrokerSight = request.app.state.broker_sight
    return await sight.answers()


BrokerAnswers = Annotated[bool, Depends(broker_answers)]
