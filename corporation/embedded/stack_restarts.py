"""What follows when a process of the stack ends or never gets ready: again after a pause, or the end of the stack."""

from dataclasses import dataclass
from typing import Final

from corporation.errors import EXIT_CONFIG

FIRST_PAUSE_SECONDS: Final = 1.0
LONGEST_PAUSE_SECONDS: Final = 30.0
# 1 + 2 + 4 + 8 s: half a minute of trying before a process that was never ready ends the stack.
TRIES_TO_GET_READY: Final = 5
READY_WITHIN_SECONDS: Final = 90.0
STEADY_AFTER_SECONDS: Final = 60.0
"""A process that was ready this long has recovered: its next end counts as the first."""


@dataclass(frozen=True)
class Again:
    """Start it again after `pause_seconds`."""

    pause_seconds: float
    why: str


@dataclass(frozen=True)
class GiveUp:
    """Starting it again cannot help; the whole stack ends."""

    why: str


Verdict = Again | GiveUp


def pause_before(failure: int) -> float:
    """Seconds to wait after the `failure`-th failure in a row (from 1): doubled each time, up to the cap."""
    return min(FIRST_PAUSE_SECONDS * 2 ** (min(failure, 16) - 1), LONGEST_PAUSE_SECONDS)


def judge_end(status: int, failures: int, *, was_ready: bool) -> Verdict:
    """What follows when a process ended with `status`; `failures` in a row include this one.

    A wrong configuration (78) never heals by itself. A process that was ready once is started for ever; one that
    never was is given up after a few tries.
    """
    how = ended(status)
    if status == EXIT_CONFIG:
        return GiveUp(f"{how}: its configuration is wrong")
    if not was_ready and failures >= TRIES_TO_GET_READY:
        return GiveUp(f"{how} before it was ready, {failures} times in a row")
    return Again(pause_before(failures), how)


def judge_wait(seconds: float, failures: int, *, was_ready: bool) -> Verdict | None:
    """What follows when a process has been starting for `seconds`: None while that is normal."""
    if seconds < READY_WITHIN_SECONDS:
        return None
    if not was_ready and failures >= 2:
        return GiveUp(f"it was not ready within {seconds:.0f} s, {failures} times in a row")
    return Again(pause_before(failures), f"it was not ready within {seconds:.0f} s")


def ended(status: int) -> str:
    """How a process ended, in words; a negative status is the signal that ended it."""
    return f"it was ended by signal {-status}" if status < 0 else f"it ended with status {status}"
