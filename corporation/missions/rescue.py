"""Queued attempts that are looked after, and missions whose factory fell silent: tried again or failed as lost."""

from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from corporation.missions.collect import apply, settle
from corporation.missions.finish import Again, Standing
from corporation.missions.outbox import BrokerUnavailableError
from corporation.missions.outcomes import Lost
from corporation.missions.queues import Queues
from corporation.missions.retry import RetryPolicy
from corporation.missions.store import cancelling, leases, resending, withdrawing
from corporation.missions.store.finishing import Ended
from corporation.wakeups import DISPATCH, SEND, wake

SAFE_SECONDS = 30.0
"""How long before the end of its lease a queued attempt is looked for in the broker.

The message may be taken the moment after we looked; then a beat or a progress report has this long to say so."""

MOST_SENDS = 3
"""How often a message may vanish without a word before its attempt is lost with it: whatever swallows three of them
(measured: about one message in two SIGKILLs of a busy worker, notes on reliability §2) is no accident any more."""


@dataclass(frozen=True)
class LookedAfter:
    """What became of the queued attempts that were looked for: how many still lie there, and how many go out again."""

    lying: int
    resent: int
    unread: tuple[str, ...] = ()
    """The queues in which more lies than a factory of ours can hold, or into which nobody looked this time."""


@dataclass(frozen=True)
class Back:
    """What came of taking messages back: who is over as withdrawn, and whose queue could not be asked this time."""

    withdrawn: Collection[str]
    unasked: Collection[str] = frozenset()
    """One factory's queue may be slow to answer; that takes nothing away from the others, whose turn comes again."""

    @property
    def settled(self) -> set[str]:
        """Who is not to be given up now."""
        return {*self.withdrawn, *self.unasked}


def look_after_queued(
    connection: Connection,
    queues: Queues,
    lease_seconds: float,
    silent_seconds: float,
    *,
    everything: bool = False,
    most_sends: int | None = MOST_SENDS,
) -> LookedAfter:
    """Every queued attempt whose message still lies in its queue has a fresh lease; one whose message is gone too, and
    it is in the outbox again under the same id.

    A busy factory may leave a message for hours: it is not lost, and its attempt must not be used up. A message that a
    worker took and did not acknowledge renews nothing: the factory has to speak of it. Looked for is what was neither
    renewed nor sent for SAFE_SECONDS, or `everything`; a factory that was silent for `silent_seconds`, or that runs no
    mission worker any more, is not waited for: its leases end, and what lies in its queue goes elsewhere. So do
    those of a factory that put more into its keys than is read. Safe at any time, also twice at once
    (ops/decisions/0014). Raises BrokerUnavailableError when the broker cannot be asked.
    """
    within = None if everything else lease_seconds - min(SAFE_SECONDS, lease_seconds / 4)
    lying: set[str] = set()
    gone: set[str] = set()
    unread: list[str] = []
    for queue, expected in leases.queued_attempts(connection, within, silent_seconds).items():
        found = queues.look_into(queue)
        lying |= expected & found.lying
        if found.whole:
            gone |= expected - found.lying - found.held
        else:
            unread.append(queue)
    leases.lock(connection, lying | gone)
    leases.renew_queued(connection, sorted(lying), lease_seconds)
    again = hand_out_again(connection, gone, lease_seconds, most_sends)
    return LookedAfter(len(lying), len(again), tuple(unread))


def hand_out_again(
    connection: Connection, gone: set[str], lease_seconds: float, most_sends: int | None = None
) -> set[str]:
    """Put queued attempts whose messages are nowhere back into the outbox, and wake the sender; who was is returned."""
    again = resending.send_again(connection, gone, lease_seconds, most_sends)
    if again:
        wake(connection, SEND)
    return again


def rescue_some(
    connection: Connection,
    queues: Queues,
    policy: RetryPolicy,
    chance: Callable[[], float],
    limit: int,
    lease_seconds: float,
    *,
    queued_too: bool = True,
) -> int:
    """Give up on up to `limit` attempts whose lease is over by the database's clock; how many is returned.

    What was received by a factory that is heard of and does not name it any more took its worker with it. A factory
    that fell silent altogether may be asleep: that proves nothing about the mission.

    Where the message was taken back before anybody received it, the mission waits again and nothing is used up. Each
    other mission is tried again or, with no attempts left, failed as lost, and its factory is told to stop. What that
    reports later is kept and changes nothing. Without `queued_too` an attempt that still waits in a queue is left
    alone: nobody could look whether it lies there.
    """
    silent = leases.lapsed(connection, limit, queued_too=queued_too)
    back = take_back(connection, queues, silent)
    unnamed = leases.unnamed(connection, [standing.attempt_id for standing in silent], lease_seconds)
    lost = [
        _waited(settle(standing, _lost(standing, standing.attempt_id in unnamed), {}, policy, chance()), lease_seconds)
        for standing in silent
        if standing.attempt_id not in back.settled
    ]
    give_up(connection, lost)
    if back.withdrawn:
        wake(connection, DISPATCH)
    return len(silent) - len(back.unasked)


def give_up(connection: Connection, lost: Sequence[Ended]) -> None:
    """These attempts are over, and whoever comes back with one of them hears at once that nobody counts on it."""
    apply(connection, lost)
    if lost:
        cancelling.order_stop(connection, [one.standing.attempt_id for one in lost])
        wake(connection, SEND)


def _lost(standing: Standing, unnamed: bool) -> Lost:
    return Lost(f"{standing.factory_id} was silent for longer than its lease", took_worker=unnamed)


def _waited(ended: Ended, lease_seconds: float) -> Ended:
    """The lease that nobody renewed counts towards the wait before the next attempt: so long nobody worked on it."""
    if not isinstance(ended.verdict, Again):
        return ended
    delay = max(0.0, ended.verdict.delay_seconds - lease_seconds)
    return replace(ended, verdict=replace(ended.verdict, delay_seconds=delay))


def give_up_at_once(
    connection: Connection,
    reasons: Sequence[tuple[Standing, str]],
    policy: RetryPolicy,
    chance: Callable[[], float],
) -> None:
    """These attempts are lost, each for its reason and without a worker that is known to have died with it.

    Their missions are tried again without a wait: that is for what may have broken, and they have broken nothing.
    """
    ended = [settle(one, Lost(why, took_worker=False), {}, policy, chance()) for one, why in reasons]
    give_up(connection, [_without_delay(one) for one in ended])


def _without_delay(ended: Ended) -> Ended:
    if not isinstance(ended.verdict, Again):
        return ended
    return replace(ended, verdict=replace(ended.verdict, delay_seconds=0.0))


def take_back(connection: Connection, queues: Queues, silent: Sequence[Standing]) -> Back:
    """Take the messages of these attempts out of their queues, so that a factory that returns does not run them.

    Who was certainly never received is over as withdrawn. Before the commit: if that fails, a message is gone whose
    attempt is still queued; it is handed out again, or given up at the next sweep.
    """
    unreceived: set[str] = set()
    waiting = leases.queues_of(connection, [standing.attempt_id for standing in silent])
    unasked = {attempt for attempts in waiting.values() for attempt in attempts}
    # A broker that is away is not asked for each queue: our locks hold up the beats of these factories.
    with suppress(BrokerUnavailableError):
        for queue, lapsed in waiting.items():
            unreceived |= queues.withdraw(queue, lapsed).unreceived
            unasked -= lapsed
    reasons = {
        standing.attempt_id: f"{standing.factory_id} did not come for it; it was taken back before anybody received it"
        for standing in silent
        if standing.attempt_id in unreceived
    }
    return Back(withdrawing.withdraw(connection, reasons), unasked)
