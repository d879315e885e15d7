"""What the streams look like from outside: how long they are, what waits in them and for how long, and who reads."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import redis
from redis.exceptions import ResponseError

from corporation.delegation.keys import StreamKeys
from corporation.delegation.redis_errors import code_of

MOST_COUNTED: Final = 1000
"""Entries that are counted by hand where Redis does not know the lag; beyond it is unknown."""
COUNTED_AT_ONCE: Final = 50
"""They come with all that is in them, and that is for their producers to say."""
MOST_MEMBERS: Final = 100


@dataclass(frozen=True)
class Member:
    """One consumer of the group; `idle_seconds` since it last read."""

    name: str
    own: bool
    pending: int
    idle_seconds: float


@dataclass(frozen=True)
class Stream:
    """One stream; `problem` is the word of Redis for why it is none, then the rest says nothing."""

    name: str
    length: int = 0
    last_id: str = ""
    problem: str = ""


@dataclass(frozen=True)
class StreamsStatus:
    """All three streams and the group; a lag of None is unknown: entries were removed behind the group's back, or the
    key is no stream.

    `oldest_pending_seconds` is how long ago the oldest unacknowledged entry was delivered, `oldest_waiting_seconds` how
    old the oldest entry is that nobody was given; both None when there is none.
    """

    missions: Stream
    results: Stream
    dead_letters: Stream
    group: str
    group_exists: bool
    lag: int | None
    pending: int
    redelivered: int
    """Pending entries that were delivered more than once, of the oldest hundred."""
    oldest_pending_seconds: float | None
    oldest_waiting_seconds: float | None
    members: tuple[Member, ...]


def look(client: redis.Redis, keys: StreamKeys, now_ms: int) -> StreamsStatus:
    """The streams as they are now; missing ones and keys of another type are states, not errors.

    Raises what redis-py raises when Redis does not answer. Reads only, and a bounded number of commands.
    """
    asked: Any = client
    missions = _stream(asked, keys.missions)
    group = _group(asked, keys) if not missions.problem and missions.last_id else None
    pending = asked.xpending_range(keys.missions, keys.group, "-", "+", 100) if group else []
    return StreamsStatus(
        missions=missions,
        results=_stream(asked, keys.results),
        dead_letters=_stream(asked, keys.dead_letters),
        group=keys.group,
        group_exists=group is not None,
        lag=_lag(asked, keys, group, missions),
        pending=int(group["pending"]) if group else 0,
        redelivered=sum(one["times_delivered"] > 1 for one in pending),
        oldest_pending_seconds=max((one["time_since_delivered"] / 1000 for one in pending), default=None),
        oldest_waiting_seconds=_oldest_waiting(asked, keys, group, now_ms),
        members=_members(asked, keys) if group else (),
    )


def _stream(client: Any, name: str) -> Stream:
    try:
        info = client.xinfo_stream(name)
    except ResponseError as error:
        if "no such key" in str(error):
            return Stream(name)
        return Stream(name, problem=code_of(error))
    return Stream(name, int(info["length"]), _text(info["last-generated-id"]))


def _group(client: Any, keys: StreamKeys) -> Mapping[str, Any] | None:
    groups = client.xinfo_groups(keys.missions)
    return next((one for one in groups if _text(one["name"]) == keys.group), None)


def _lag(client: Any, keys: StreamKeys, group: Mapping[str, Any] | None, missions: Stream) -> int | None:
    if group is None:
        return None if missions.problem else missions.length
    # Redis before 7 has no such word; later ones say nil where they would have to count.
    if group.get("lag") is not None:
        return int(group["lag"])
    return _counted(client, keys.missions, _text(group["last-delivered-id"]))


def _counted(client: Any, stream: str, after: str) -> int | None:
    counted = 0
    while counted < MOST_COUNTED:
        entries = client.xrange(stream, min=f"({after}", count=COUNTED_AT_ONCE)
        counted += len(entries)
        if len(entries) < COUNTED_AT_ONCE:
            return counted
        after = _text(entries[-1][0])
    return None


def _oldest_waiting(client: Any, keys: StreamKeys, group: Mapping[str, Any] | None, now_ms: int) -> float | None:
    if group is None:
        return None
    first = client.xrange(keys.missions, min=f"({_text(group['last-delivered-id'])}", count=1)
    # A producer may have chosen the id, and with it any time.
    return max(0.0, (now_ms - int(_text(first[0][0]).partition("-")[0])) / 1000) if first else None


def _members(client: Any, keys: StreamKeys) -> tuple[Member, ...]:
    members = client.xinfo_consumers(keys.missions, keys.group)[:MOST_MEMBERS]
    return tuple(
        Member(_text(one["name"]), _text(one["name"]) == keys.consumer, int(one["pending"]), one["idle"] / 1000)
        for one in members
    )


def _text(name: bytes | str) -> str:
    return name if isinstance(name, str) else name.decode(errors="replace")
