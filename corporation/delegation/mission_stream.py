"""The mission stream as a member of its consumer group sees it: the Redis commands of the importer, and nothing else.

Bytes all the way: a client that decodes raises on every read of an entry that is not UTF-8, and its neighbours wait.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import redis
from redis.exceptions import ResponseError

from corporation.delegation.exhausted import LAST_ID, is_exhausted, move_aside
from corporation.delegation.keys import StreamKeys

LONGEST_BLOCK_SECONDS: Final = 1.0
"""A blocking read delays the end of the process by that much at most (S-6)."""
Deliveries = Mapping[str, int]
"""How often entries, by their ids, were delivered before."""
NONE_BEFORE: Final[Deliveries] = MappingProxyType({})
RECENT_MS: Final = 15 * 60 * 1000
"""How long ago a member may have read to count as active (S-5)."""


@dataclass(frozen=True)
class Delivered:
    """An entry that was delivered to us for the `deliveries`-th time; without fields it was trimmed meanwhile."""

    entry_id: str
    fields: Mapping[bytes, bytes] | None
    deliveries: int = 1


@dataclass(frozen=True)
class Pending:
    """An entry that a member of the group was given, so and so often, and has not acknowledged."""

    entry_id: str
    deliveries: int


class MissionStream:
    """One stream read as one consumer of one group; every method raises what redis-py raises."""

    def __init__(self, client: redis.Redis, keys: StreamKeys) -> None:
        self._client: Any = client  # the library's types say too little of what a bytes client answers
        self._keys = keys

    @property
    def name(self) -> str:
        """The stream's key."""
        return self._keys.missions

    def create_group(self) -> bool:
        """The group exists, from the first entry on, and the stream with it (S-2); whether it was made just now."""
        try:
            self._client.xgroup_create(self._keys.missions, self._keys.group, id="0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise
            return False
        return True

    def read_new(self, count: int, block_seconds: float = 0.0) -> list[Delivered]:
        """Up to `count` entries that nobody was given yet; without any, the first is waited for `block_seconds`."""
        return self._read(">", count, min(block_seconds, LONGEST_BLOCK_SECONDS))

    def read_own(self, count: int, before: Deliveries) -> list[Delivered]:
        """The oldest `count` entries that this consumer was given before, so often as `before` says."""
        return self._read("0", count, 0.0, before)

    def claim(self, idle_seconds: float, first: str, count: int, before: Deliveries) -> list[Delivered]:
        """Take over up to `count` entries from `first` on that were idle for `idle_seconds`, whoever had them."""
        arguments = (self._keys.missions, self._keys.group, self._keys.consumer, round(idle_seconds * 1000), first)
        _next, entries, *gone = self._client.xautoclaim(*arguments, count=count)
        trimmed = [(entry_id, None) for entry_id in (gone[0] if gone else [])]
        return _delivered([*entries, *trimmed], before)

    def pending(self, count: int, *, own: bool = False, idle_seconds: float = 0.0) -> list[Pending]:
        """The oldest `count` unacknowledged entries, of everybody or our `own`; asking is not a delivery."""
        rows = self._client.xpending_range(
            self._keys.missions,
            self._keys.group,
            "-",
            "+",
            count,
            consumername=self._keys.consumer if own else None,
            idle=round(idle_seconds * 1000) or None,
        )
        return [Pending(_text(row["message_id"]), int(row["times_delivered"])) for row in rows]

    def trimmed(self, waiting: Sequence[Pending]) -> list[Delivered]:
        """Those of `waiting` that are in the stream no more, without text; asking is not a delivery.

        XAUTOCLAIM would take them off the group's list at once, before anybody has written down that they are lost.
        """
        pipeline: Any = self._client.pipeline(transaction=False)
        for one in waiting:
            pipeline.xrange(self._keys.missions, one.entry_id, one.entry_id, count=1)
        found = zip(waiting, pipeline.execute(), strict=True)
        return [Delivered(one.entry_id, None, one.deliveries) for one, entry in found if not entry]

    def acknowledge(self, entry_ids: Sequence[str]) -> None:
        """The group is done with these entries; repeating it does nothing."""
        self._client.xack(self._keys.missions, self._keys.group, *entry_ids)

    def strangers(self) -> list[str]:
        """The group's members that are not ours and were active in the last fifteen minutes (S-5)."""
        members = self._client.xinfo_consumers(self._keys.missions, self._keys.group)
        recent = {_text(one["name"]) for one in members if one["idle"] < RECENT_MS}
        return sorted(recent - {self._keys.consumer})

    def trim(self, length: int) -> int:
        """Remove the oldest entries beyond `length`, but none that the group has not acknowledged (S-42); how many.

        Whole nodes of the stream go, about a hundred entries each, so a few more than `length` may stay.
        """
        excess = int(self._client.xlen(self._keys.missions)) - length
        if excess <= 0:
            return 0
        bound = self._first_unacknowledged()
        return int(self._client.xtrim(self._keys.missions, minid=bound, approximate=True, limit=excess))

    def set_aside_if_exhausted(self, suffix: str) -> str | None:
        """Rename a stream that took the largest id, once all of it is acknowledged; its new name, or None.

        Nothing could ever be added to it again (a producer may choose its ids); the next `create_group` makes another.
        """
        if not is_exhausted(self._client, self._keys.missions):
            return None
        group = self._group()
        if group is None or group["pending"] or self._has_more(group["last-delivered-id"]):
            return None
        return move_aside(self._client, self._keys.missions, suffix)

    def close(self) -> None:
        """Let the connection go."""
        self._client.close()

    def _read(self, after: str, count: int, block_seconds: float, before: Deliveries = NONE_BEFORE) -> list[Delivered]:
        block = max(1, round(block_seconds * 1000)) if block_seconds else None
        streams = {self._keys.missions: after}
        answer = self._client.xreadgroup(self._keys.group, self._keys.consumer, streams, count=count, block=block)
        return _delivered(answer[0][1], before) if answer else []

    def _group(self) -> Mapping[str, Any] | None:
        groups = self._client.xinfo_groups(self._keys.missions)
        return next((one for one in groups if _text(one["name"]) == self._keys.group), None)

    def _has_more(self, last: bytes) -> bool:
        """Whether an entry lies behind the last one that was delivered."""
        return last != LAST_ID and bool(self._client.xrange(self._keys.missions, min=f"({_text(last)}", count=1))

    def _first_unacknowledged(self) -> str:
        """Everything before this id is acknowledged. Read in this order, what is delivered meanwhile lies behind it."""
        group = self._group()
        if group is None:
            return "0-0"
        pending = self.pending(1)
        return pending[0].entry_id if pending else _following(_text(group["last-delivered-id"]))


def _delivered(entries: Sequence[tuple[bytes, Mapping[bytes, bytes] | None]], before: Deliveries) -> list[Delivered]:
    # By its id: what comes back need not be what was asked about, when somebody else reads under our name too.
    return [
        Delivered(name, fields or None, before.get(name, 0) + 1)
        for name, fields in ((_text(entry_id), fields) for entry_id, fields in entries)
    ]


def _following(entry_id: str) -> str:
    milliseconds, _, number = entry_id.partition("-")
    return f"{milliseconds}-{min(int(number) + 1, 2**64 - 1)}"


def _text(name: bytes) -> str:
    return name.decode(errors="replace")
