"""A bounded look at what lies in a factory's queue and at what it has taken: it may fill both with what it likes.

What is measured first may have grown when it is read; so the reading is bounded too, in entries, in bytes and in what
there is to parse. Of that race this much remains: one round trip brings at most ENTRIES_AT_ONCE entries, each as large
as the server takes them (`proto-max-bulk-len`): 64 MiB with our servers, half of what is read of a key anyway. How
often a queue that costs time is looked into at all is decided elsewhere (`corporation/engine/patience.py`).
"""

import json
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import redis
import redis.exceptions

from corporation.errors import CorporationError
from corporation.federation.message_frame import LARGEST_MESSAGE_BYTES
from corporation.trust.key_sizes import Key, Kind, measure

MOST_ENTRIES: Final = 10_000
"""Of one key. HQ lets 2,000 missions wait at a factory beside those in its slots, and sends each three times at most:
beyond this nobody but the factory itself can have put it there."""
MOST_BYTES: Final = 128 * 1024 * 1024
"""Of one key: about a hundred of the largest orders that HQ takes (1.4 MB, as they are sent), two thousand of 50 kB;
some three seconds of reading. HQ sends a factory 16 MiB of orders at most (`routing.MOST_HELD_BYTES`), which make 88
MiB of messages at worst, so that an honest one never reaches this."""
MOST_SIGNS: Final = 1_000_000
"""Commas and brackets in one key, each of which costs the parser time: a message of ours has about fifty. Measured,
64 MiB of nothing else take eight seconds, and this many a quarter of one."""
ENTRIES_AT_ONCE: Final = 8
"""How many entries are read in one round trip: at most some 11 MB with the largest orders that HQ takes, and 250
trips for the longest queue that it fills."""
SIGNS: Final = (b",", b"[", b"{")


class OverfullError(CorporationError):
    """More lies there than a factory of ours can hold; nobody has read it, and what it holds is not known."""

    code = "queue_overfull"

    def __init__(self, key: str, entries: int) -> None:
        self.entries = entries
        super().__init__(
            f"{key} holds more than a factory of ours ever does ({entries} entries); quarantine its factory"
        )


@dataclass(frozen=True)
class Entry:
    """What an entry says that is a message: the task it is for, whose attempt it is, and whether it came back."""

    task: str
    attempt_id: str | None
    """None where it names none in its canonical form."""
    came_back: bool
    """Whether a worker had it before."""


def read_entry(body: bytes, *, inside: bool = False) -> Entry | None:
    """The message in an entry of a queue, or `inside` one of `unacked`; None for bytes that are no message.

    What is larger than any message that HQ can send is not parsed.
    """
    if len(body) > LARGEST_MESSAGE_BYTES:
        return None
    try:
        document = json.loads(body)
        headers = (document[0] if inside else document)["headers"]
        # kombu writes `redelivered` into what it puts back, whatever the reason.
        return Entry(str(headers.get("task")), _canonical(headers.get("id")), bool(headers.get("redelivered")))
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
        return None


def _canonical(given: Any) -> str | None:
    try:
        return str(UUID(given))
    except (ValueError, TypeError, AttributeError):
        return None


class QueueLook:
    """The keys of factories on the server behind `client`.

    Every method raises OverfullError where more lies than a factory of ours can hold, and the library's errors when
    the server does not answer. A key of another type is an empty one: one spoilt key must not stop every rescue.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def queue(self, queue: str) -> Iterator[bytes]:
        """The entries of `queue`, the newest first; a few at a time, since each may have a quarter of a megabyte.

        New ones are put before the first and workers take the last, so that none is left out.
        """
        self._check([Key(queue, Kind.list)])
        return _within_bounds(queue, self._pieces(queue))

    def taken(self, nodes: Iterable[str]) -> Iterator[bytes]:
        """What these nodes took and have not acknowledged.

        kombu keeps them as `[message, exchange, routing key]`, in a hash that celeryconfig names after the node, as
        `private_queue` and `control_queue` name its queues. One may be seen twice.
        """
        names = self.check_taken(nodes)
        return (entry for name in names for entry in _within_bounds(name, self._values(name)))

    def check_taken(self, nodes: Iterable[str]) -> list[str]:
        """The names of the hashes in which these nodes keep what they took, none of which is too full to be read."""
        names = [f"unacked:{node}" for node in nodes]
        self._check([Key(name, Kind.hash) for name in names])
        return names

    def _check(self, keys: Iterable[Key]) -> None:
        for key, size in measure(self._client, keys, MOST_ENTRIES).items():
            if size.entries > MOST_ENTRIES or size.size > MOST_BYTES:
                raise OverfullError(key.name, size.entries)

    def _pieces(self, queue: str) -> Iterator[list[bytes]]:
        start = 0
        while bodies := _listed(self._client.lrange, queue, start, start + ENTRIES_AT_ONCE - 1):
            yield bodies
            start += ENTRIES_AT_ONCE

    def _values(self, name: str) -> Iterator[list[bytes]]:
        cursor, is_first = 0, True
        while is_first or cursor:
            is_first = False
            answer = _listed(self._client.hscan, name, cursor, count=ENTRIES_AT_ONCE)
            cursor, fields = (int(answer[0]), answer[1]) if answer else (0, {})
            yield list(fields.values())


@dataclass
class _Bounds:
    """How much of one key was read."""

    key: str
    entries: int = 0
    size: int = 0
    signs: int = 0

    def take(self, body: bytes) -> None:
        """This entry was read as well, or OverfullError."""
        self.entries += 1
        self.size += len(body)
        # What is too large is not parsed, whatever is in it.
        self.signs += sum(map(body.count, SIGNS)) if len(body) <= LARGEST_MESSAGE_BYTES else 0
        if self.entries > MOST_ENTRIES or self.size > MOST_BYTES or self.signs > MOST_SIGNS:
            raise OverfullError(self.key, self.entries)


def _within_bounds(key: str, pieces: Iterable[list[bytes]]) -> Generator[bytes]:
    bounds = _Bounds(key)
    for piece in pieces:
        for body in piece:
            bounds.take(body)
            yield body


def _listed(command: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """What `command` answers; nothing where the key is of another type."""
    try:
        return command(*arguments, **options)
    except redis.exceptions.ResponseError as error:
        if str(error).startswith("WRONGTYPE"):
            return []
        raise
