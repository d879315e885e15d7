"""Whether the loop of a worker's consumer still turns: a timer in that loop says so, and the pulse's thread reads it.

A worker whose loop stands still lives, beats and takes nothing (celery#8030, #8091). While Redis is away it may stand:
connecting again is what it waits for.
"""

from dataclasses import dataclass
from typing import Any, Final, Literal

from celery import bootsteps
from celery.worker.consumer.tasks import Tasks

from corporation import clock

TICK_SECONDS: Final = 1.0
DEAD_SECONDS: Final = 60.0
"""A loop that did not turn for so long, with Redis there, takes nothing any more (architecture §5)."""
LONGEST_WAIT_SECONDS: Final = 600.0
"""How long what runs may finish before its dead worker is restarted all the same."""
RESTART_STATUS: Final = 75
"""EX_TEMPFAIL: whoever supervises the worker starts it again."""

Verdict = Literal["turns", "waits", "restart"]


@dataclass(frozen=True)
class LoopSigns:
    """What the pulse sees of its worker; all in seconds."""

    loop_age: float
    connected_for: float
    """For how long Redis has answered without a break; 0 while it does not."""
    running: int


def judge_loop(signs: LoopSigns) -> Verdict:
    """Whether the worker works, should be left in peace for now, or must be restarted."""
    if signs.loop_age <= DEAD_SECONDS or signs.connected_for <= DEAD_SECONDS:
        return "turns"
    if signs.running and signs.loop_age <= LONGEST_WAIT_SECONDS:
        return "waits"
    return "restart"


class LoopWatch(bootsteps.StartStopStep):
    """Turns a little clock in the consumer's loop; Celery starts it anew with every connection."""

    requires = (Tasks,)
    _turned_at: float | None = None

    def start(self, parent: Any) -> None:
        """The loop says once a second that it turns."""
        LoopWatch.turn()
        parent.timer.call_repeatedly(TICK_SECONDS, LoopWatch.turn)

    def stop(self, parent: Any) -> None:
        """Celery clears the timers of a loop that it leaves."""

    @classmethod
    def turn(cls) -> None:
        """The loop has turned now."""
        cls._turned_at = clock.monotonic()

    @classmethod
    def age(cls) -> float | None:
        """Seconds since the loop last turned; None before it first did."""
        return None if cls._turned_at is None else clock.monotonic() - cls._turned_at
