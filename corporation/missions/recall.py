"""What lies in the queue of a factory that does not come for it any more is taken back, and waits again (F-21)."""

from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Final

from sqlalchemy import Connection

from corporation.factories.staleness import Thresholds, judge_status
from corporation.missions.finish import Standing
from corporation.missions.outbox import BrokerUnavailableError
from corporation.missions.queues import Queues
from corporation.missions.rescue import give_up_at_once
from corporation.missions.retry import RetryPolicy
from corporation.missions.store import cancelling, withdrawing
from corporation.missions.store.reporting import read_standings
from corporation.missions.store.withdrawing import Holder, Lying
from corporation.wakeups import DISPATCH, SEND, wake

_WHY: Final = {
    "paused": "is paused",
    "draining": "is being drained",
    "offline": "is offline",
}
_STILL_HEARD: Final = frozenset({_WHY["paused"], _WHY["draining"]})


def recall_some(
    connection: Connection,
    queues: Queues,
    thresholds: Thresholds,
    policy: RetryPolicy,
    chance: Callable[[], float],
    limit: int,
    *,
    sent_too: bool = True,
) -> int:
    """Take back up to `limit` attempts that nobody received from factories that do not, or must not, come for them.

    They are over as withdrawn, their missions wait again, and nothing is used up: what has no target goes elsewhere.
    Messages that were not sent yet never are; the others are taken out of their queue, unless a worker has them: then
    they run. One that had come back from a worker, or was handed out more than once, may have begun there, whatever
    the factory has said so far: it is lost, and its mission is tried again at once or, with no attempts left, failed as
    lost (S-30); of a factory that is silent its lease is waited for. Without `sent_too`, or while the broker is away,
    what was sent stays as it is. How many were taken back is returned; calling again takes the rest. Each queue has its
    share of `limit`, so that one of which nothing can be taken back hides nothing that lies in the others.
    """
    why = {one: reason for one in withdrawing.holders(connection) if (reason := why_recalled(one, thresholds))}
    if not why:
        return 0
    lying = withdrawing.take_lying(connection, list(why), limit, sent_too=sent_too)
    reasons = {one.factory_id: reason for one, reason in why.items()}
    unsent = withdrawing.unsend(connection, [one.attempt_id for one in lying if one.unsent])
    heard = {one.factory_id for one, reason in why.items() if reason in _STILL_HEARD}
    unreceived, came_back = _out_of_queues(queues, [one for one in lying if not one.unsent], heard)
    resent = {one.attempt_id: one.factory_id in heard for one in lying if one.resent}
    gone = unsent | unreceived
    taken = gone - resent.keys()
    perhaps_begun = came_back | {one for one in gone & resent.keys() if resent[one]}
    back = withdrawing.withdraw(
        connection,
        {
            one.attempt_id: f"{one.factory_id} {reasons[one.factory_id]}; it was taken back before anybody received it"
            for one in lying
            if one.attempt_id in taken
        },
    )
    # A sender that died may have sent what was still in the outbox; the order takes it from the queue.
    cancelling.order_stop(connection, sorted(back & unsent))
    begun = read_standings(connection, sorted(perhaps_begun)).values()
    lost = [(one, f"{one.factory_id} {reasons[one.factory_id]}, and {_doubt(one, resent)}") for one in begun]
    give_up_at_once(connection, lost, policy, chance)
    if back or lost:
        wake(connection, DISPATCH, SEND)
    return len(back) + len(lost)


def _doubt(standing: Standing, resent: Collection[str]) -> str:
    """Why it may have begun."""
    return "its message was handed out before" if standing.attempt_id in resent else "a worker had it before"


def why_recalled(holder: Holder, thresholds: Thresholds) -> str | None:
    """Why what lies there is taken back, as the end of a sentence about the factory; None while it may come for it.

    Orders to the factory itself reach it also while it takes no missions (F-22).
    """
    if not holder.registered:
        return "is not registered any more"
    if holder.quarantined:
        return "is quarantined"
    status = judge_status(holder.said, holder.silent_seconds, holder.paused, thresholds, draining=holder.draining)
    return None if holder.orders and status != "offline" else _WHY.get(status)


def _out_of_queues(queues: Queues, lying: Collection[Lying], heard: Collection[str]) -> tuple[set[str], set[str]]:
    """Whose messages are gone from their queues now, and with no worker: what nobody ever had, and what came back.

    The second only where the factory is `heard` of: one that fell silent may return with it, within its lease.
    """
    unreceived: set[str] = set()
    came_back: set[str] = set()
    places: dict[tuple[str, bool], set[str]] = {}
    for one in lying:
        places.setdefault((one.queue, one.factory_id in heard), set()).add(one.attempt_id)
    # A broker that is away is not asked for each queue: our locks hold up the beats of these factories.
    with suppress(BrokerUnavailableError):
        for (queue, is_heard), attempt_ids in places.items():
            found = queues.withdraw(queue, attempt_ids)
            unreceived |= found.unreceived
            came_back |= found.removed - found.held - found.unreceived if is_heard else set()
    return unreceived, came_back
