"""By which way a bootstrap job can be had: over the broker, or by asking HQ for it over HTTPS (H-34); pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from corporation.missions.routing import LIVE, FactoryView

LABEL: Final = "tutorial_bootstrap_consumer"
REDIS: Final = "redis_stream"
HTTP: Final = "http_queue"
BROKER_DOWN: Final = "redis down"
ONLY_HTTP: Final = "the only live workers ask over HTTP"
LAPSED: Final = "its worker fell silent"


@dataclass(frozen=True)
class Backend:
    """The way, and why it is not the broker."""

    name: str
    reason: str | None = None


@dataclass(frozen=True)
class Sight:
    """What is seen now: whether the broker answers, and which live factories make such repositories by which way."""

    broker_answers: bool
    over_redis: bool
    over_http: bool
    claim_ttl_seconds: int


@dataclass(frozen=True)
class Waiting:
    """A job that nobody holds, waiting or not sent yet: for how long, and whether somebody who held it fell silent."""

    seconds: float
    lapsed: bool


def seen(factories: Iterable[FactoryView], broker_answers: bool, claim_ttl_seconds: int) -> Sight:
    """What these factories are to bootstrap jobs; one without a slot takes nothing from a queue."""
    able = [one for one in factories if LABEL in one.labels and one.status in LIVE and not one.quarantined]
    by_queue = [one for one in able if one.takes_messages and one.slots > 0]
    return Sight(broker_answers, bool(by_queue), len(by_queue) < len(able), claim_ttl_seconds)


def first_backend(sight: Sight) -> Backend:
    """The way of a job that is made now."""
    if not sight.broker_answers:
        return Backend(HTTP, BROKER_DOWN)
    if sight.over_http and not sight.over_redis:
        return Backend(HTTP, ONLY_HTTP)
    return Backend(REDIS)


def backend_now(stored: Backend, waiting: Waiting | None, sight: Sight) -> Backend:
    """The way of a job that was made with `stored`, None while somebody holds it; what went to HTTP stays there."""
    if stored.name == HTTP or waiting is None:
        return stored
    if waiting.lapsed:
        return Backend(HTTP, LAPSED)
    if waiting.seconds >= sight.claim_ttl_seconds:
        return Backend(HTTP, f"nobody claimed it within {sight.claim_ttl_seconds} s")
    return first_backend(sight)
