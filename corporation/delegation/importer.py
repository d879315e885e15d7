"""The importer: what producers add to the mission stream becomes missions in the ledger, once (contract streams §5)."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog
from sqlalchemy import Engine, text
from sqlalchemy.exc import DataError, IntegrityError

from corporation import clock
from corporation.db import transaction
from corporation.delegation.codec import Readable, Unreadable, poisoned, read_entry, unimportable
from corporation.delegation.importing import Imported, import_some
from corporation.delegation.mission_stream import Delivered, MissionStream, Pending
from corporation.delegation.redis_errors import REDIS_FAILS, code_of, needs_a_person

log = structlog.get_logger()

CHUNK: Final = 50
"""Entries in one read: one of them may be large, and all of a read are in memory at once (notes, security §13)."""
BATCH: Final = 500
"""Entries in one transaction (`ops/bench/streams` compares it)."""
BATCH_BYTES: Final = 4 * 1024 * 1024
MOST_DELIVERIES: Final = 5
"""An entry delivered more often, each time alone, is taken for the cause of what ended the importer (B21)."""
MOST_READS: Final = 8
"""One that was delivered so often ended the importer also when it was only read: it is not read any more."""
RECLAIM_SECONDS: Final = 30.0
"""How often idle entries of other members are looked for (S-21)."""
LOOK_SECONDS: Final = 60.0
"""How often the group's other members are looked at (S-5)."""
# What one entry can be to blame for; everything else is the ledger's state, and waiting for that loses nothing.
_ENTRY_TO_BLAME: Final = (DataError, IntegrityError, UnicodeError, RecursionError)


@dataclass
class Importer:
    """Reads the group as one member; two processes with one name, or with two, harm nothing (S-19).

    An entry is acknowledged after the commit that holds it, never before. While the ledger is away the entries that
    were read are kept here and tried again; while Redis is away nothing is read. Neither ends the loop.
    """

    ledger: Engine
    stream: MissionStream
    default_ttl_seconds: int
    stream_length: int
    """How many entries of the stream are kept at least; 0 keeps all (S-42)."""
    reclaim_idle_seconds: float = 60.0
    poll_seconds: float = 1.0
    """The longest wait for an entry; the next tick goes on waiting."""
    monotonic: Callable[[], float] = clock.monotonic
    stamp: Callable[[], str] = clock.new_id
    name: str = "importer"
    channels: tuple[str, ...] = ()
    sweep_seconds: float = 0.0
    totals: Counter[str] = field(default_factory=Counter[str])
    """Entries by what became of them, since this process began."""
    _held: list[Delivered] = field(default_factory=list[Delivered], init=False)
    _imported: list[str] = field(default_factory=list[str], init=False)
    _connected: bool = field(default=False, init=False)
    _own_are_done: bool = field(default=False, init=False)
    _reclaimed_at: float = field(default=float("-inf"), init=False)
    _looked_at: float = field(default=float("-inf"), init=False)
    _alarm: str | None = field(default=None, init=False)
    _strangers: list[str] = field(default_factory=list[str], init=False)

    def tick(self) -> bool:
        """Import what is there, or wait for it as long as `poll_seconds`; there may always be more.

        Raises what went wrong; nothing that was read is lost by it, nor imported twice.
        """
        try:
            self._tick()
        except REDIS_FAILS as error:
            # An answer that was lost may have delivered entries to us: they are asked for again.
            self._connected = self._own_are_done = False
            self._raise_alarm(code_of(error))
            raise
        self._alarm = None
        return True

    def drain(self) -> None:
        """Import everything that is there now, own and idle entries included, and wait for nothing."""
        waits, self.poll_seconds = self.poll_seconds, 0.0
        try:
            while self._tick():
                pass
        finally:
            self.poll_seconds = waits

    def _tick(self) -> int:
        self._acknowledge()
        first = not self._connected
        if first:
            self._connect()
        self._held = self._held or self._next(0.0 if first else self.poll_seconds)
        count = len(self._held)
        if count:
            self._import(self._held)
            self._imported, self._held = [entry.entry_id for entry in self._held], []
            self._acknowledge()
            if self.stream_length:
                self.stream.trim(self.stream_length)
        if self.monotonic() - self._looked_at >= LOOK_SECONDS:
            self._look_around()
        return count

    def _acknowledge(self) -> None:
        """Acknowledge what is committed; where that fails it is tried again, and not imported again."""
        if self._imported:
            self.stream.acknowledge(self._imported)
            self._imported = []

    def _connect(self) -> None:
        # Asked first: each delivery counts against an entry (B21), and a ledger that is away is not the entry's fault.
        with transaction(self.ledger) as connection:
            connection.execute(text("SELECT 1"))
        if self.stream.create_group():
            log.info("consumer_group_created", stream=self.stream.name)
        self._connected, self._own_are_done = True, False

    def _next(self, wait_seconds: float) -> list[Delivered]:
        """Entries to import: our own unacknowledged ones first, then idle ones, then new ones."""
        if not self._own_are_done:
            if (waiting := self.stream.pending(CHUNK, own=True)) and (again := self._own_again(waiting)):
                return again
            self._own_are_done = True
        if self.monotonic() - self._reclaimed_at >= min(RECLAIM_SECONDS, self.reclaim_idle_seconds):
            if reclaimed := self._reclaimed():
                return reclaimed
            self._reclaimed_at = self.monotonic()
        return self._new(wait_seconds)

    def _own_again(self, waiting: Sequence[Pending]) -> list[Delivered]:
        return _unread(waiting[0]) or self.stream.read_own(_together(waiting), _before(waiting))

    def _reclaimed(self) -> list[Delivered]:
        idle = self.stream.pending(CHUNK, idle_seconds=self.reclaim_idle_seconds)
        if not idle:
            return []
        if trimmed := self.stream.trimmed(idle):
            return trimmed
        first = idle[0]
        again = _together(idle), _before(idle)
        return _unread(first) or self.stream.claim(self.reclaim_idle_seconds, first.entry_id, *again)

    def _new(self, wait_seconds: float) -> list[Delivered]:
        chunk = self.stream.read_new(CHUNK, wait_seconds)
        entries, size = chunk, _size(chunk)
        while len(chunk) == CHUNK and len(entries) < BATCH and size < BATCH_BYTES:
            chunk = self.stream.read_new(CHUNK)
            entries, size = [*entries, *chunk], size + _size(chunk)
        return entries

    def _import(self, delivered: Sequence[Delivered]) -> None:
        """Commit them together; where one of them is to blame for a failure, each alone (S-20)."""
        try:
            self._commit([_read(one) for one in delivered])
        except _ENTRY_TO_BLAME as error:
            if len(delivered) > 1:
                for one in delivered:
                    self._import([one])
            else:
                [one] = delivered
                self._commit([unimportable(one.entry_id, one.fields, type(error).__name__)])

    def _commit(self, entries: Sequence[Readable | Unreadable]) -> None:
        with transaction(self.ledger) as connection:
            imported = import_some(connection, self.stream.name, entries, self.default_ttl_seconds)
        self._count(imported)

    def _count(self, imported: Imported) -> None:
        self.totals.update(imported.outcomes)
        self.totals["dead_letters"] += sum(imported.dead_letters.values())
        if imported.dead_letters or imported.outcomes.get("conflict"):
            conflicts = imported.outcomes.get("conflict", 0)
            log.warning("entries_refused", stream=self.stream.name, conflicts=conflicts, **imported.dead_letters)

    def _look_around(self) -> None:
        self._looked_at = self.monotonic()
        strangers, known = self.stream.strangers(), self._strangers
        self._strangers = strangers
        if strangers and strangers != known:
            log.warning(
                "other_group_members",
                stream=self.stream.name,
                members=strangers,
                why="what they take from the group never reaches this ledger (S-5)",
            )
        if aside := self.stream.set_aside_if_exhausted(self.stamp()):
            self._connected = False
            log.critical("stream_exhausted", stream=self.stream.name, moved_to=aside, why=needs_a_person("EXHAUSTED"))

    def _raise_alarm(self, code: str) -> None:
        if code != self._alarm and (what := needs_a_person(code)):
            log.critical("stream_unusable", stream=self.stream.name, code=code, what=what)
        self._alarm = code


def _together(waiting: Sequence[Pending]) -> int:
    """How many of `waiting`, from the first on, may be read at once.

    One that was delivered twice may be what ended the importer: alone, it takes no neighbour with it, and no neighbour
    makes it look guilty.
    """
    unsuspected = next((at for at, one in enumerate(waiting) if one.deliveries > 1), len(waiting))
    return max(1, unsuspected)


def _before(waiting: Sequence[Pending]) -> dict[str, int]:
    return {one.entry_id: one.deliveries for one in waiting}


def _unread(one: Pending) -> list[Delivered]:
    """The entry as one without text, when to read it again would be too much; nothing otherwise."""
    return [Delivered(one.entry_id, None, one.deliveries)] if one.deliveries >= MOST_READS else []


def _read(one: Delivered) -> Readable | Unreadable:
    if one.deliveries > MOST_DELIVERIES:
        return poisoned(one.entry_id, one.fields, one.deliveries)
    return read_entry(one.entry_id, one.fields)


def _size(entries: Sequence[Delivered]) -> int:
    return sum(len(value) for one in entries for value in (one.fields or {}).values())
