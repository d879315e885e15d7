"""`python -m ops.bench.streams_chaos_consumer MUTANT [arguments]`: the streams' consumer with one mistake built in.

The chaos must notice each of them, or it notices nothing. The product knows nothing of this file.
"""

# pyright: reportPrivateUsage=false
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from sqlalchemy import Connection

from corporation.db import transaction
from corporation.delegation import consumer
from corporation.delegation.codec import LARGEST_RESULT
from corporation.delegation.importer import Importer
from corporation.delegation.mission_stream import Delivered, MissionStream
from corporation.delegation.publisher import RESULTS, Publisher
from corporation.missions.store import telling
from corporation.missions.store.telling import ToldEnd

WIDER_SECONDS: Final = 0.1
"""The wrong moment lasts so long, that the chaos hits it on a busy machine too."""


def acknowledge_before_the_commit() -> None:
    """An entry is acknowledged when it was read; a crash before the commit loses it (S-19)."""
    commit: Any = Importer._import

    def _import(self: Importer, delivered: Sequence[Delivered]) -> None:
        self.stream.acknowledge([one.entry_id for one in delivered])
        time.sleep(WIDER_SECONDS)
        commit(self, delivered)

    Importer._import = _import


def mark_before_telling() -> None:
    """An end counts as told before it is on the stream; a crash between the two loses it (S-33)."""

    def _tell_ends(self: Any) -> bool:
        with transaction(self.ledger) as connection:
            ends = telling.take_ends(connection, RESULTS, LARGEST_RESULT)
            telling.mark_ends(connection, [(end, "0-1") for end in ends])
        self._judge(self.keys.results, self._add(self.keys.results, [self._result(end) for end in ends]))
        return len(ends) == RESULTS

    Publisher._tell_ends = _tell_ends


def never_read_own_again() -> None:
    """What the last life of this consumer had read and not acknowledged is left alone (S-21)."""
    _next: Any = Importer._next

    def next_(self: Any, wait_seconds: float) -> list[Delivered]:
        self._own_are_done = True
        return _next(self, wait_seconds)

    Importer._next = next_


def make_the_group_at_the_end() -> None:
    """The group begins behind the entries that are there already (S-2)."""

    def create_group(self: Any) -> bool:
        try:
            self._client.xgroup_create(self._keys.missions, self._keys.group, id="$", mkstream=True)
        except consumer.REDIS_FAILS as error:
            if "BUSYGROUP" not in str(error):
                raise
            return False
        return True

    MissionStream.create_group = create_group


def trim_what_is_pending() -> None:
    """The stream is cut to its length whatever the group still has to do (S-42)."""

    def trim(self: Any, length: int) -> int:
        return int(self._client.xtrim(self._keys.missions, maxlen=length, approximate=True))

    MissionStream.trim = trim


def never_mark() -> None:
    """An end is told again and again, although nothing crashed (S-33)."""

    def mark_ends(_connection: Connection, _told: Sequence[tuple[ToldEnd, str]]) -> None:
        return

    telling.mark_ends = mark_ends


MUTANTS: Final[dict[str, Callable[[], None]]] = {
    "ack-before-commit": acknowledge_before_the_commit,
    "mark-before-telling": mark_before_telling,
    "no-own-again": never_read_own_again,
    "group-at-end": make_the_group_at_the_end,
    "trim-pending": trim_what_is_pending,
    "never-mark": never_mark,
}


if __name__ == "__main__":
    MUTANTS[sys.argv[1]]()
    raise SystemExit(consumer.main(sys.argv[2:]))
