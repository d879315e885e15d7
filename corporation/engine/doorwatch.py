"""What the doorkeeper watches: commands that the broker refused a factory, and keys of factories that swell."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import redis.exceptions
import structlog
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from corporation import clock
from corporation.db import transaction
from corporation.errors import CorporationError
from corporation.roles import control_queue, private_queue, slug_of
from corporation.trust.broker_alarms import alarm
from corporation.trust.key_sizes import Key, Kind, Size
from corporation.trust.redis_acl import MOST_READ, Acl, Refused
from corporation.trust.redis_users import RedisUser, count_refused

log = structlog.get_logger()

OURS: Final = "f_"
"""How the names of factories' users begin."""
WRONG_PASSWORD: Final = "auth"  # noqa: S105
NEWS_SECONDS: Final = 3600.0
"""What was refused longer ago when it is first seen was somebody's news before."""
SIZES_EVERY_SECONDS: Final = 10.0
SAY_AGAIN_SECONDS: Final = 60.0
LATE_TIMES: Final = 2
"""So many looks in a row that are not answered in time; the server's log is emptied unread then."""
MOST_ENTRIES: Final = 2_500
"""Entries of one key of a factory. HQ lets 2,000 missions wait at one, beside those in its slots."""
MOST_BYTES: Final = 64 * 1024 * 1024
FULL: Final = 0.6
"""The part of its memory from which on the broker is an alarm: at the whole of it HQ can write nothing either."""


@dataclass(frozen=True)
class Swollen:
    """A key of this factory that holds more than it ever should."""

    factory_id: str
    key: Key
    size: Size


@dataclass
class Doorwatch:
    """Looks whenever the doorkeeper does; `always` also while the ledger knows of no user.

    Each piece of news is told in a transaction of its own, and has been seen when that is committed: one that cannot be
    told is tried again at the next look, and keeps no other from being told.
    """

    always: bool = False
    monotonic: Callable[[], float] = clock.monotonic
    _looked: bool = field(default=False, init=False)
    _late: int = field(default=0, init=False)
    _seen: dict[str, int] = field(default_factory=dict[str, int], init=False)
    _measured_at: float = field(default=float("-inf"), init=False)
    _failed_at: float = field(default=float("-inf"), init=False)

    def look(self, ledger: Engine, acl: Acl, users: Sequence[RedisUser]) -> None:
        """What was refused since the last look, and what is too large now, is logged, counted and told to people.

        Raises redis.RedisError or OSError when the broker does not answer.
        """
        living = [user for user in users if not user.removed]
        if not (living or self.always):
            return
        self._look_at_refusals(ledger, acl)
        if self.monotonic() - self._measured_at >= SIZES_EVERY_SECONDS:
            self._measured_at = self.monotonic()
            self._look_at_sizes(ledger, acl, living)

    def _look_at_refusals(self, ledger: Engine, acl: Acl) -> None:
        try:
            read = acl.read_log()
        except redis.exceptions.TimeoutError:
            self._late += 1
            if self._late == LATE_TIMES:
                # Too much to be answered in time, and not a server that was slow for a moment.
                self._late = 0
                self._forget(ledger, acl, [])
            return
        self._late = 0
        if self._looked and read.is_full and not self._is_old(read.refused[-1:]):
            self._told(ledger, _tell_missed)
        untold = {one.key for one, more in news_in(read.refused, self._seen) if not self._tell(ledger, one, more)}
        self._looked = True
        self._seen = {**counted(read.refused), **{key: self._seen.get(key, 0) for key in untold}}
        if read.is_huge and not untold:
            self._forget(ledger, acl, read.refused)

    def _is_old(self, oldest: Sequence[Refused]) -> bool:
        """Whether the oldest entry is as it was at the last look: then nothing that came since was pushed out."""
        return all(self._seen.get(one.key) == one.count for one in oldest) and bool(oldest)

    def _tell(self, ledger: Engine, refused: Refused, more: int) -> bool:
        return self._told(ledger, lambda connection: _tell_refused(connection, refused, more))

    def _forget(self, ledger: Engine, acl: Acl, refused: Sequence[Refused]) -> None:
        """The server answers with its log no more. With it goes what lay behind the entries that were read: all but
        the last seconds of that was seen at an earlier look."""
        acl.forget_refusals()
        self._seen = {}
        self._told(ledger, lambda connection: _tell_huge(connection, {one.user for one in refused}))

    def _look_at_sizes(self, ledger: Engine, acl: Acl, users: Sequence[RedisUser]) -> None:
        for one in [one for user in users for one in _swollen(acl, user.factory_id)]:
            self._told(ledger, partial(_tell_swollen, one=one))
        filled = acl.filled()
        if filled > FULL:
            self._told(ledger, partial(_tell_filling, filled=filled))

    def _told(self, ledger: Engine, tell: Callable[[Connection], None]) -> bool:
        """Whether `tell` had its transaction; what went wrong is logged, once a minute."""
        try:
            with transaction(ledger) as connection:
                tell(connection)
        except (SQLAlchemyError, CorporationError) as error:
            if self.monotonic() - self._failed_at >= SAY_AGAIN_SECONDS:
                self._failed_at = self.monotonic()
                log.warning("doorwatch_could_not_tell", error=type(error).__name__, what_next="look at the ledger")
            return False
        return True


def _swollen(acl: Acl, factory_id: str) -> list[Swollen]:
    sizes = acl.sizes(keys_of(factory_id), MOST_ENTRIES).items()
    return [
        Swollen(factory_id, key, size) for key, size in sizes if size.entries > MOST_ENTRIES or size.size > MOST_BYTES
    ]


def _tell_refused(connection: Connection, refused: Refused, more: int) -> None:
    if not refused.user.startswith(OURS):
        return
    if refused.reason == WRONG_PASSWORD:
        # One that was shut out knocks for as long as it lives.
        log.info("redis_password_refused", user=refused.user, times=more)
        return
    count_refused(connection, refused.user, more)
    title = f"Redis refused {refused.user} a command"
    message = f"{refused.what}, {more} times. A factory of ours needs nothing that it may not do: look at it."
    alarm(connection, "redis_command_refused", refused.user, title, message)
    log.warning("redis_command_refused", user=refused.user, what=refused.what, times=more)


def _tell_missed(connection: Connection) -> None:
    title = "Redis refuses more than is read"
    message = f"{MOST_READ} things or more between two looks, of which the oldest were not read: wrong passwords too."
    if alarm(connection, "redis_refusals_missed", "log", title, f"{message} See `ACL LOG` and who connects."):
        log.warning("redis_refusals_missed", read=MOST_READ)


def _tell_huge(connection: Connection, users: Collection[str]) -> None:
    whose = ", ".join(sorted(users)[:5]) or "it was too much to be read"
    message = f"Redis keeps each of them whole, so HQ has emptied its log (`ACL LOG RESET`). Whose: {whose}."
    if alarm(connection, "redis_refusals_huge", "log", "Names that Redis refused are huge", message):
        log.warning("redis_refusals_huge", users=whose)


def _tell_swollen(connection: Connection, one: Swollen) -> None:
    key, entries, size = one.key.name, one.size.entries, one.size.size
    title = f"{one.factory_id} fills Redis"
    message = f"{key} has {entries} entries and {size} bytes. `corporation quarantine {one.factory_id}`"
    message += " ends it; what lies there is of no use to anybody else."
    if alarm(connection, "redis_queue_swollen", key, title, message, {"factory_id": one.factory_id}):
        log.warning("redis_queue_swollen", factory_id=one.factory_id, key=key, entries=entries, bytes=size)


def _tell_filling(connection: Connection, filled: float) -> None:
    message = f"{filled:.0%} of its memory is taken; at 100 % no mission is sent any more."
    if alarm(connection, "redis_filling_up", "memory", "Redis is filling up", message):
        log.warning("redis_filling_up", filled=round(filled, 2))


def keys_of(factory_id: str) -> tuple[Key, ...]:
    """The keys that a factory may fill: its queues, and what it keeps of the messages that it took."""
    taken = f"unacked:{slug_of(factory_id)}"
    return (
        Key(private_queue(factory_id), Kind.list),
        Key(control_queue(factory_id), Kind.list),
        Key(taken, Kind.hash),
        Key(f"{taken}_index", Kind.sorted_set),
        Key(f"{taken}_mutex", Kind.text),
    )


def news_in(refusals: Sequence[Refused], seen: dict[str, int]) -> list[tuple[Refused, int]]:
    """What was refused since `seen` was counted, and how often; not what is old when it is first seen."""
    counts = counted(refusals)
    latest = {one.key: one for one in sorted(refusals, key=lambda one: -one.age_seconds)}
    more = {key: counts[key] - seen.get(key, 0) for key in latest}
    return [(one, more[key]) for key, one in latest.items() if more[key] > 0 and one.age_seconds <= NEWS_SECONDS]


def counted(refusals: Sequence[Refused]) -> dict[str, int]:
    """How often each thing was refused, as far as the server remembers."""
    counts: dict[str, int] = {}
    for one in refusals:
        counts[one.key] = counts.get(one.key, 0) + one.count
    return counts
