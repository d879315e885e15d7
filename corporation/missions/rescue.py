"""Missions whose factory fell silent: the attempt is given up, and the mission tried again or failed as lost."""

from collections.abc import Callable, Sequence
from contextlib import suppress

from sqlalchemy import Connection

from corporation.missions.collect import apply, settle
from corporation.missions.outbox import Broker, BrokerUnavailableError
from corporation.missions.outcomes import Lost
from corporation.missions.retry import RetryPolicy
from corporation.missions.store import leases

SAFE_SECONDS = 30.0
"""How long before the end of its lease a queued attempt is looked for in the broker.

The message may be taken the moment after we looked; then a beat or a progress report has this long to say so."""


def renew_what_lies_in_queues(
    connection: Connection, broker: Broker, lease_seconds: float, offline_seconds: float
) -> int:
    """Extend the lease of every queued attempt whose message still lies in its queue; how many is returned.

    A busy factory may leave a message for hours: it is not lost, and its attempt must not be used up. One that was
    silent for `offline_seconds`, or that runs no mission worker any more, is not waited for. Raises
    BrokerUnavailableError when the broker cannot be asked.
    """
    within = lease_seconds - min(SAFE_SECONDS, lease_seconds / 4)
    queues = leases.queued_attempts(connection, within, offline_seconds)
    lying = [one for queue, expected in queues.items() for one in broker.lying_in(queue) & expected]
    leases.renew_queued(connection, lying, lease_seconds)
    return len(lying)


def rescue_some(
    connection: Connection,
    broker: Broker,
    policy: RetryPolicy,
    chance: Callable[[], float],
    limit: int,
    *,
    queued_too: bool = True,
) -> int:
    """Give up on up to `limit` attempts whose lease is over by the database's clock; how many is returned.

    Each mission is then tried again or, with no attempts left, failed as lost. What the factory reports later is kept
    and changes nothing. Without `queued_too` an attempt that still waits in a queue is left alone: nobody could look
    whether it lies there.
    """
    silent = leases.lapsed(connection, limit, queued_too=queued_too)
    _withdraw(connection, broker, [standing.attempt_id for standing in silent])
    lost = [
        settle(standing, Lost(f"{standing.factory_id} was silent for longer than its lease"), {}, policy, chance())
        for standing in silent
    ]
    apply(connection, lost)
    return len(lost)


def _withdraw(connection: Connection, broker: Broker, attempt_ids: Sequence[str]) -> None:
    """Take the messages of these attempts out of their queues, so that a factory that returns does not run them.

    Before the commit: if that fails, a message is gone whose attempt is then given up at the next sweep.
    """
    for queue, lost in leases.queues_of(connection, attempt_ids).items():
        with suppress(BrokerUnavailableError):
            broker.withdraw(queue, lost)
