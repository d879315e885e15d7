"""Messages whose attempt is over: nobody waits for them, and a factory would only read and drop them."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from corporation.missions.queues import Queues
from corporation.missions.store import resending
from corporation.roles import control_queue, private_queue


@dataclass(frozen=True)
class Swept:
    """What a sweep found: messages that it removed, and entries that are foreign and were left where they lie."""

    removed: int
    foreign: int
    last_factory: str | None
    """Up to whom it came; None when it reached the last one."""
    unread: tuple[str, ...] = ()
    """The queues in which more lies than a factory of ours can hold, or into which nobody looked this time."""


def sweep_orphans(connection: Connection, queues: Queues, after: str, limit: int) -> Swept:
    """Remove the orphans from both queues of up to `limit` factories, by rising id from right `after` one.

    Safe at any time and twice at once. Raises BrokerUnavailableError; then some may be removed.
    """
    factories = resending.known_factories(connection, after, limit)
    removed = foreign = 0
    unread: list[str] = []
    for queue in dict.fromkeys(of(factory_id) for factory_id in factories for of in (private_queue, control_queue)):
        found = queues.look_into(queue)
        orphans, strangers = orphans_among(connection, sorted(found.lying))
        removed += len(queues.withdraw(queue, orphans).removed) if orphans else 0
        foreign += strangers + found.foreign
        unread += [] if found.whole else [queue]
    return Swept(removed, foreign, factories[-1] if len(factories) == limit else None, tuple(unread))


def orphans_among(connection: Connection, attempt_ids: Sequence[str]) -> tuple[frozenset[str], int]:
    """Which of the attempts whose messages were found are over, and how many of the ids this ledger never knew.

    An attempt that is over never lives again, so its message may go. A message is sent only after its attempt was
    committed; an id that is unknown is therefore not ours, or older than this ledger (a backup that was put back).
    What it is nobody can say: it is left to the worker, which refuses what it was not meant to have.
    """
    known = resending.known_attempts(connection, attempt_ids)
    return known.ended, len(attempt_ids) - len(known.ended) - len(known.live)
