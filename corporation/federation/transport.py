"""How missions reach a factory: over Redis while that answers, else over HTTPS; pure."""

from dataclasses import dataclass, replace
from typing import Final

from corporation.federation.notes import HTTPS, REDIS

AWAY_SECONDS: Final = 10.0
"""How long Redis must not have answered before missions are asked for elsewhere: a restart takes less."""
BACK_SECONDS: Final = 5.0
"""How long it must have answered again before it is believed."""


@dataclass(frozen=True)
class Way:
    """The way that is used now, and since when (monotonic) Redis has been as it is."""

    transport: str
    answers: bool
    since: float


def first_way(answers: bool, now: float, *, wanted: bool) -> Way:
    """The way of a factory that has just started; `wanted` is whether Redis is meant to be used here at all."""
    return Way(REDIS if wanted and answers else HTTPS, answers, now)


def next_way(way: Way, answers: bool, now: float, *, wanted: bool) -> Way:
    """The way after Redis was looked at: it changes only when Redis has been away, or back, for long enough."""
    seen = way if answers == way.answers else replace(way, answers=answers, since=now)
    if not wanted:
        return replace(seen, transport=HTTPS)
    if not seen.answers and now - seen.since >= AWAY_SECONDS:
        return replace(seen, transport=HTTPS)
    if seen.answers and now - seen.since >= BACK_SECONDS:
        return replace(seen, transport=REDIS)
    return seen
