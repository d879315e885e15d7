"""How a loop runs: tick while there is work, then wait for a wake-up or the next sweep, and never die of an error."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import Event
from typing import Protocol

import structlog

from corporation import clock

log = structlog.get_logger()

LINGER_SECONDS = 0.02
LONGEST_LINGER_SECONDS = 0.15
PATIENT_WAKES = 25
"""A loop rests after a tick, so that a busy system takes many rows at once: 20 ms, and up to 150 ms once it has been
woken at once 25 times in a row. A quiet system answers at once, and a burst fills the factories' queues quickly.
Without it every report was a transaction of its own (`ops/bench/throughput`, 2 cores)."""

LONGEST_BACKOFF_SECONDS = 5.0


class Loop(Protocol):
    """One of HQ's loops; `tick` does one batch in one transaction and says whether there may be more."""

    @property
    def name(self) -> str: ...

    @property
    def channels(self) -> Sequence[str]:
        """The NOTIFY channels that mean work for this loop."""
        ...

    @property
    def sweep_seconds(self) -> float:
        """How long it waits for a wake-up before it looks anyway."""
        ...

    def tick(self) -> bool: ...


@dataclass
class Running:
    """A loop's state between ticks: `wake` starts a tick, `stop` ends the loop.

    `ticked` is set after the first good tick, `healthy` while the last one was good. A process is ready without those
    of its loops that are not `essential`. `good_at` is when the last good tick ended (monotonic; at first: when this
    was made), and `error` the class of what the last tick raised, if it did.
    """

    loop: Loop
    stop: Event
    wake: Event = field(default_factory=Event)
    ticked: Event = field(default_factory=Event)
    healthy: Event = field(default_factory=Event)
    essential: bool = True
    good_at: float = field(default_factory=clock.monotonic)
    error: str = ""

    def went_well(self) -> None:
        """The tick that has just ended was a good one."""
        self.good_at, self.error = clock.monotonic(), ""
        self.ticked.set()
        self.healthy.set()

    def failed(self, error: Exception) -> None:
        """The tick that has just ended was none."""
        self.error = type(error).__name__
        self.healthy.clear()


def run_forever(running: Running) -> None:
    """Tick until `stop` is set; a failing tick is logged and tried again, after 0.2 s at first and 5 s at most."""
    failures = woken = 0
    more = False
    while not running.stop.is_set():
        if not more:
            began = clock.monotonic()
            running.wake.wait(running.loop.sweep_seconds)
            woken = woken + 1 if clock.monotonic() - began < LINGER_SECONDS else 0
        running.wake.clear()
        try:
            more = running.loop.tick()
            failures = 0
            running.went_well()
        except Exception as error:
            failures += 1
            more = False
            running.failed(error)
            _tell(running.loop, error, failures)
            running.stop.wait(backoff_seconds(failures))
        if not more:
            running.stop.wait(linger_seconds(woken))


def linger_seconds(woken: int) -> float:
    """How long a loop rests after a tick, when it was woken at once `woken` times in a row."""
    return min(LINGER_SECONDS * max(1, woken - PATIENT_WAKES), LONGEST_LINGER_SECONDS)


def backoff_seconds(failures: int) -> float:
    """The wait after this many failures in a row (>= 1): 0.2 s doubled each time, 5 s at most."""
    return min(0.2 * 2.0 ** min(failures - 1, 10), LONGEST_BACKOFF_SECONDS)


def _tell(loop: Loop, error: Exception, failures: int) -> None:
    # The first failure and then every tenth: an outage of an hour must not write a log of a gigabyte.
    if failures == 1 or failures % 10 == 0:
        log.warning("loop_failed", loop=loop.name, error=str(error), kind=type(error).__name__, failures=failures)
