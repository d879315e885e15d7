"""How much waits in the mission stream, by its counters alone: the API may read no entry of any stream."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import redis
from redis.exceptions import ResponseError

from corporation.delegation.keys import StreamKeys

MOST_PENDING: Final = 100
"""Of the oldest unacknowledged entries the first so many are asked how long ago they were delivered."""


@dataclass(frozen=True)
class StreamCounts:
    """The mission stream; what is None is unknown, and a key that is no stream has nothing that is known."""

    length: int = 0
    lag: int | None = None
    """Entries that nobody was given yet; where some were removed from among them, at most so many."""
    pending: int = 0
    oldest_waiting_seconds: float | None = None
    """At most so old is the oldest entry that nobody was given; 0 when there is none."""
    oldest_pending_seconds: float | None = None


class StreamCounting:
    """Counts for who asks again and again: it remembers when nothing waited, and then nothing can be older."""

    def __init__(self) -> None:
        self._nothing_waited_at_ms = 0

    def count(self, client: redis.Redis, keys: StreamKeys, now_ms: int) -> StreamCounts:
        """The numbers as they are now; raises what redis-py raises when Redis does not answer."""
        asked: Any = client
        try:
            length = int(asked.xlen(keys.missions))
        except ResponseError:
            return StreamCounts()
        group = _group(asked, keys)
        lag = _lag(group, length)
        if lag == 0:
            self._nothing_waited_at_ms = now_ms
        pending = asked.xpending_range(keys.missions, keys.group, "-", "+", MOST_PENDING) if group else []
        return StreamCounts(
            length=length,
            lag=lag,
            pending=int(group["pending"]) if group else 0,
            oldest_waiting_seconds=_oldest_waiting(group, lag, self._nothing_waited_at_ms, now_ms),
            oldest_pending_seconds=max((one["time_since_delivered"] / 1000 for one in pending), default=None),
        )


def _group(client: Any, keys: StreamKeys) -> Mapping[str, Any] | None:
    try:
        groups = client.xinfo_groups(keys.missions)
    except ResponseError as error:
        if "no such key" in str(error):
            return None
        raise
    return next((one for one in groups if _text(one["name"]) == keys.group), None)


def _lag(group: Mapping[str, Any] | None, length: int) -> int | None:
    if group is None:
        return length
    if "lag" not in group:  # Redis before 7
        return None
    # Nil where it would have to count, since entries were removed from among those that wait.
    return length if group["lag"] is None else int(group["lag"])


def _oldest_waiting(
    group: Mapping[str, Any] | None, lag: int | None, nothing_waited_at_ms: int, now_ms: int
) -> float | None:
    """What waits came after the last entry that was delivered, and after the last look at which nothing waited."""
    if not lag:
        return None if lag is None else 0.0
    delivered_ms = int(_text(group["last-delivered-id"]).partition("-")[0]) if group else 0
    not_before = max(delivered_ms, nothing_waited_at_ms)
    # A producer may have chosen the id, and with it any time.
    return max(0.0, (now_ms - not_before) / 1000) if not_before else None


def _text(name: bytes | str) -> str:
    return name if isinstance(name, str) else name.decode(errors="replace")
