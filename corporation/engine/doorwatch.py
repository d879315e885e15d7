"""What the doorkeeper watches: commands that the broker refused a factory, and queues that swell."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog
from sqlalchemy import Connection, Engine

from corporation import clock
from corporation.db import transaction
from corporation.roles import control_queue, private_queue, slug_of
from corporation.trust.broker_alarms import alarm
from corporation.trust.redis_acl import Acl, Refused
from corporation.trust.redis_users import RedisUser, count_refused

log = structlog.get_logger()

OURS: Final = "f_"
"""How the names of factories' users begin."""
WRONG_PASSWORD: Final = "auth"  # noqa: S105
NEWS_SECONDS: Final = 3600.0
"""What was refused longer ago when it is first seen was somebody's news before."""
SIZES_EVERY_SECONDS: Final = 10.0
MOST_ENTRIES: Final = 1_000
"""Entries of one key of a factory. HQ puts no more into its queue than it has slots, so it has filled it itself."""
MOST_BYTES: Final = 64 * 1024 * 1024
FULL: Final = 0.6
"""The part of its memory from which on the broker is an alarm: at the whole of it HQ can write nothing either."""


@dataclass(frozen=True)
class Swollen:
    """A key of this factory that holds more than it ever should."""

    factory_id: str
    key: str
    entries: int
    size: int
    """Bytes, as the server estimates them."""


@dataclass
class Doorwatch:
    """Looks whenever the doorkeeper does; `always` also while the ledger knows of no user."""

    always: bool = False
    monotonic: Callable[[], float] = clock.monotonic
    _seen: dict[str, int] = field(default_factory=dict[str, int], init=False)
    _measured_at: float = field(default=float("-inf"), init=False)

    def look(self, ledger: Engine, acl: Acl, users: Sequence[RedisUser]) -> None:
        """What was refused since the last look, and what is too large now, is logged, counted and told to people."""
        living = [user for user in users if not user.removed]
        if not (living or self.always):
            return
        refusals = acl.refusals()
        news, self._seen = news_in(refusals, self._seen), counted(refusals)
        swollen, filled = self._measure(acl, living)
        if not (news or swollen or filled > FULL):
            return
        with transaction(ledger) as connection:
            for refused, more in news:
                _tell_refused(connection, refused, more)
            for one in swollen:
                _tell_swollen(connection, one)
            if filled > FULL:
                _tell_filling(connection, filled)

    def _measure(self, acl: Acl, users: Sequence[RedisUser]) -> tuple[list[Swollen], float]:
        if self.monotonic() - self._measured_at < SIZES_EVERY_SECONDS:
            return [], 0.0
        self._measured_at = self.monotonic()
        swollen: list[Swollen] = []
        for user in users:
            lists, hashes = keys_of(user.factory_id)
            for key, (entries, size) in acl.sizes(lists, hashes).items():
                if entries > MOST_ENTRIES or size > MOST_BYTES:
                    swollen.append(Swollen(user.factory_id, key, entries, size))
        return swollen, acl.filled()


def _tell_refused(connection: Connection, refused: Refused, more: int) -> None:
    if not refused.user.startswith(OURS):
        return
    if refused.reason == WRONG_PASSWORD:
        # One that was shut out knocks for as long as it lives.
        log.info("redis_password_refused", user=refused.user, times=more)
        return
    log.warning("redis_command_refused", user=refused.user, what=refused.what, times=more)
    count_refused(connection, refused.user, more)
    title = f"Redis refused {refused.user} a command"
    message = f"{refused.what}, {more} times. A factory of ours needs nothing that it may not do: look at it."
    alarm(connection, "redis_command_refused", refused.user, title, message)


def _tell_swollen(connection: Connection, one: Swollen) -> None:
    title = f"{one.factory_id} fills Redis"
    message = f"{one.key} has {one.entries} entries and {one.size} bytes. `corporation quarantine {one.factory_id}`"
    message += " ends it; what lies there is of no use to anybody else."
    if alarm(connection, "redis_queue_swollen", one.key, title, message, {"factory_id": one.factory_id}):
        log.warning("redis_queue_swollen", factory_id=one.factory_id, key=one.key, entries=one.entries, bytes=one.size)


def _tell_filling(connection: Connection, filled: float) -> None:
    message = f"{filled:.0%} of its memory is taken; at 100 % no mission is sent any more."
    if alarm(connection, "redis_filling_up", "memory", "Redis is filling up", message):
        log.warning("redis_filling_up", filled=round(filled, 2))


def keys_of(factory_id: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The keys that a factory may fill: its lists, and its hashes."""
    return (private_queue(factory_id), control_queue(factory_id)), (f"unacked:{slug_of(factory_id)}",)


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
