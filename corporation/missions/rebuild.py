"""`corporation rebuild-queues`: after Redis lost its data, the queues are filled again from the ledger."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from sqlalchemy import Connection

from corporation.missions.orphans import orphans_among
from corporation.missions.outbox import BrokerUnavailableError
from corporation.missions.queues import Queues
from corporation.missions.rescue import hand_out_again
from corporation.missions.store import leases, rebuild_wishes, resending
from corporation.missions.store.rebuild_wishes import Answer, Wish
from corporation.roles import control_queue, private_queue
from corporation.trust import audit

COUNTS: Final = ("resent", "lying", "held", "orphans_removed")
"""What is summed up over all queues."""


@dataclass(frozen=True)
class Rebuilt:
    """What there is for one queue, and what was (or would be) done; the first three count attempts in `queued`."""

    queue: str
    resent: int
    """Their message lay nowhere, and they are handed out again."""
    lying: int
    """Their message lies in the queue."""
    held: int
    """A worker took the message and has not acknowledged it."""
    orphans_removed: int
    """Messages of attempts that are over."""
    foreign: int
    """Entries that are no messages of this ledger; they are left where they lie. All of a queue too full to be read."""
    unread: bool = False
    """More lies there, or among what its factory took, than is read: nothing was handed out or removed for it, and its
    missions go elsewhere when their leases end."""


@dataclass(frozen=True)
class _Found:
    queue: str
    gone: frozenset[str]
    lying: int
    held: int
    orphans: frozenset[str]
    foreign: int
    unread: bool


def carry_out_one(connection: Connection, queues: Queues, lease_seconds: float) -> bool:
    """The oldest wish for a rebuild that somebody waits for is done, written down and answered; False without one.

    A broker that is away is an answer too, and then nothing was handed out.
    """
    wish = rebuild_wishes.take(connection)
    if wish is None:
        return False
    rebuild_wishes.answer(connection, wish.id, _carried_out(connection, queues, lease_seconds, wish))
    return True


def _carried_out(connection: Connection, queues: Queues, lease_seconds: float, wish: Wish) -> Answer:
    try:
        # The wish stays ours, whatever became of the rest.
        with connection.begin_nested():
            rows = rebuild_queues(connection, queues, lease_seconds, dry_run=wish.dry_run)
    except BrokerUnavailableError as error:
        return Answer(None, str(error))
    document = document_of(rows)
    if not wish.dry_run:
        counts = {name: document[name] for name in COUNTS}
        audit.write(connection, audit.Act(wish.asked_by, "queues.rebuild", None, wish.origin, detail=counts))
    return Answer(document, None)


def document_of(rows: Sequence[Rebuilt]) -> dict[str, Any]:
    """What is answered to who asked: the sums, and every queue."""
    return {"ok": True, **{name: total(rows, name) for name in COUNTS}, "queues": [asdict(row) for row in rows]}


def rebuild_queues(connection: Connection, queues: Queues, lease_seconds: float, *, dry_run: bool) -> list[Rebuilt]:
    """Every sent attempt that is still queued and whose message lies nowhere is in the outbox again, however often it
    was sent; messages of attempts that are over are removed. One row is returned for each queue of ours.

    A `dry_run` only looks and counts. Safe while everything works, twice, and several at once: what was handed out
    again lies in the outbox or in its queue. Raises BrokerUnavailableError; then nothing was handed out.
    """
    # Also where no queue is known: a broker that is away is not one that lost nothing.
    queues.incarnation()
    found = [_look(connection, queues, *one) for one in _expected(connection).items()]
    if dry_run:
        again = resending.missing_attempts(connection, {attempt for one in found for attempt in one.gone}, None)
        return [_row(one, again, len(one.orphans)) for one in found]
    removed = [len(queues.withdraw(one.queue, one.orphans).removed) if one.orphans else 0 for one in found]
    again = hand_out_again(connection, _still_gone(connection, queues, found), lease_seconds)
    return [_row(one, again, count) for one, count in zip(found, removed, strict=True)]


def _expected(connection: Connection) -> dict[str, set[str]]:
    """Both queues of all factories that ever registered and of all queued attempts, each with its queued attempts."""
    factories = resending.known_factories(connection)
    known = {of(factory_id): set[str]() for factory_id in factories for of in (private_queue, control_queue)}
    return dict(sorted((known | leases.queued_attempts(connection)).items()))


def _look(connection: Connection, queues: Queues, queue: str, expected: set[str]) -> _Found:
    there = queues.look_into(queue)
    orphans, strangers = orphans_among(connection, sorted(there.lying))
    return _Found(
        queue,
        gone=frozenset(expected - there.lying - there.held) if there.whole else frozenset(),
        lying=len(expected & there.lying),
        held=len(expected & there.held - there.lying),
        orphans=orphans,
        foreign=there.foreign + strangers,
        unread=not there.whole,
    )


def _still_gone(connection: Connection, queues: Queues, found: Sequence[_Found]) -> set[str]:
    """What nobody sent meanwhile, another rebuild and the engine included; their missions are locked from now on.

    With the locks nobody puts them into the outbox any more, so it is asked first: what has left it lies in its queue,
    or was taken, when that is looked into for a second time.
    """
    gone = {attempt_id for one in found for attempt_id in one.gone}
    leases.lock(connection, gone)
    unsent = resending.missing_attempts(connection, gone, None)
    for one in found:
        if missing := one.gone & unsent:
            there = queues.look_into(one.queue)
            unsent -= missing & (there.lying | there.held) if there.whole else missing
    return unsent


def _row(found: _Found, again: set[str], removed: int) -> Rebuilt:
    return Rebuilt(found.queue, len(found.gone & again), found.lying, found.held, removed, found.foreign, found.unread)


def total(rows: Sequence[Rebuilt], name: str) -> int:
    """The sum of one of the counts over all queues."""
    return sum(int(getattr(row, name)) for row in rows)
