"""How often HQ is asked one and the same thing, and how long somebody who only looks is kept waiting."""

from collections.abc import Callable
from typing import Final

import httpx

from corporation import clock
from corporation.cli.answers import MAY_RETRY, seconds_to_wait
from corporation.cli.exits import Refusal

TRIES: Final = 4
LOOK_SECONDS: Final = 10.0
"""After this nobody tries again for who only looks: he is told, and may look again."""


def answered(
    send: Callable[[], httpx.Response], tries: int, pause: Callable[[float], None], limit_seconds: float | None = None
) -> httpx.Response:
    """The answer to `send`, after at most `tries` tries, none of which begins after the limit.

    Raises what the last one raised; before that, a Refusal is a reason to try again.
    """
    began, attempt = clock.monotonic(), 0
    while True:
        attempt += 1
        outcome = _outcome(send)
        response = outcome if isinstance(outcome, httpx.Response) else None
        if response is not None and response.status_code not in MAY_RETRY:
            return response
        wait = seconds_to_wait(response, attempt, clock.utc_now())
        is_late = limit_seconds is not None and clock.monotonic() - began + wait >= limit_seconds
        if attempt >= tries or is_late:
            if isinstance(outcome, Refusal):
                raise outcome
            return outcome
        pause(wait)


def _outcome(send: Callable[[], httpx.Response]) -> httpx.Response | Refusal:
    try:
        return send()
    except Refusal as refusal:
        return refusal
