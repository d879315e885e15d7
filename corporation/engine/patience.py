"""How often HQ looks into a queue that costs it time: one that was slow rests, each time twice as long; pure.

Whoever fills its keys to just below what is still read (`factory_tasks/queue_look.py`) costs a few seconds with each
look. It must not cost them with each sweep, and a hundred of its kind must not hold up the leases of all others.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

SLOW_SECONDS: Final = 0.5
"""What a queue may cost in one sweep. Two thousand usual messages take a tenth of it; 16 MiB of orders, which is the
most that HQ sends to one factory, may take more: such a queue rests as well, and is still looked at in time."""
FIRST_REST_SECONDS: Final = 4.0
SLOW_ONES_SECONDS: Final = 5.0
"""For how long one sweep looks into queues that were slow before."""
SWEEP_SECONDS: Final = 20.0
"""For how long one sweep looks into queues at all; what it did not come to is due at the next one."""


FORGET_SECONDS: Final = 600.0
"""After this long without a look nobody knows any more how slow a queue is."""


@dataclass(frozen=True)
class Pace:
    """What a slow queue cost when it was last looked into, how many times in a row it was slow, and when it is due."""

    seconds: float
    times: int
    due: float


def paced(before: Pace | None, seconds: float, now: float, longest_rest: float) -> Pace | None:
    """The pace of a queue that cost `seconds` until `now`; None once it is not slow any more.

    It rests for FIRST_REST_SECONDS, then twice as long each time, and never longer than `longest_rest`: a queue that is
    due within a quarter of a lease is looked at before the lease of what lies in it ends.
    """
    if seconds <= SLOW_SECONDS:
        return None
    times = before.times + 1 if before else 1
    # More doublings than that say nothing, and the power of a large number would fail.
    rest = min(FIRST_REST_SECONDS * 2.0 ** min(times - 1, 30), longest_rest)
    return Pace(seconds, times, now + rest)


def resting(paces: Mapping[str, Pace], wanted: Collection[str], now: float) -> frozenset[str]:
    """The slow queues that a sweep at `now` passes by: all but those that were `wanted` by the last one, are due, and
    for which others leave time.

    Who has been due for longest comes first, so each has its turn; the first always has.
    """
    left, those = SLOW_ONES_SECONDS, set(paces)
    for name in sorted(set(wanted) & those, key=lambda one: (paces[one].due, one)):
        if paces[name].due > now or left <= 0:
            break
        those.remove(name)
        left -= paces[name].seconds
    return frozenset(those)


def remembered(paces: Mapping[str, Pace], now: float) -> dict[str, Pace]:
    """Those that were not due for too long: a queue that is gone is not kept for ever."""
    return {name: pace for name, pace in paces.items() if now - pace.due < FORGET_SECONDS}
