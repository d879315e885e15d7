"""The only place that looks at the wall clock, at chance and for fresh identities; the rest takes them as arguments."""

import random
import time
import uuid
from datetime import UTC, datetime


def utc_now() -> datetime:
    """The current time, aware, in UTC."""
    return datetime.now(UTC)


def monotonic() -> float:
    """Seconds that never go backwards, for measuring how long something took."""
    return time.monotonic()


def pause(seconds: float) -> None:
    """Let `seconds` pass."""
    time.sleep(seconds)


def new_id() -> str:
    """A fresh random UUID4 as text."""
    return str(uuid.uuid4())


def chance() -> float:
    """A fresh number in [0, 1), for jitter."""
    return random.random()


def iso(moment: datetime) -> str:
    """`moment` as the wire writes it: ISO-8601, UTC, microseconds, `+00:00` (contract H-2)."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")
