"""What a factory in quarantine holds is given to others at once: nothing that it says of it will ever count."""

from collections.abc import Callable

from sqlalchemy import Connection

from corporation.missions.queues import Queues
from corporation.missions.rescue import give_up_at_once, take_back
from corporation.missions.retry import RetryPolicy
from corporation.missions.store import leases
from corporation.wakeups import DISPATCH, wake


def evict_some(
    connection: Connection,
    queues: Queues,
    policy: RetryPolicy,
    chance: Callable[[], float],
    limit: int,
    *,
    queued_too: bool = True,
) -> int:
    """Up to `limit` attempts that factories in quarantine hold are over; how many is returned.

    Their leases are not waited for. Where the message was taken back before anybody received it, nothing is used up;
    each other attempt is lost, its mission is tried elsewhere without a wait or, with no attempts left, failed as lost.
    Nobody's worker is counted as taken down. The factory is told to stop, which it hears once it is released. Safe to
    call twice. Without `queued_too` what waits in a queue is left alone: nobody could look whether it lies there.
    """
    held = leases.of_quarantined(connection, limit, queued_too=queued_too)
    back = take_back(connection, queues, held)
    lost = [(one, f"{one.factory_id} was put into quarantine") for one in held if one.attempt_id not in back.settled]
    give_up_at_once(connection, lost, policy, chance)
    if held:
        wake(connection, DISPATCH)
    return len(held) - len(back.unasked)
