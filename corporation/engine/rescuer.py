"""The rescuer: attempts that nobody speaks of are given up, but never because HQ itself was away; and what lies with a
factory that does not come for it is taken back."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

import structlog
from sqlalchemy import Connection, Engine

from corporation import clock
from corporation.db import transaction
from corporation.engine.patient_queues import PatientQueues, RestedQueues
from corporation.factories.staleness import Thresholds
from corporation.factories.store import heard_lately
from corporation.missions.evict import evict_some
from corporation.missions.orphans import sweep_orphans
from corporation.missions.outbox import BrokerUnavailableError
from corporation.missions.queues import Queues
from corporation.missions.recall import recall_some
from corporation.missions.rescue import MOST_SENDS, look_after_queued, rescue_some
from corporation.missions.retry import RetryPolicy
from corporation.missions.store.leases import extend_all
from corporation.trust.broker_alarms import alarm
from corporation.wakeups import RECALL

log = structlog.get_logger()

ORPHANS_EVERY_SECONDS = 60.0
"""An orphan harms nobody, it only costs its factory a look; so a look at all queues may be rare."""
QUEUES_AT_ONCE = 100
"""How many queues one such look reads; the next one goes on from there."""


@dataclass
class Rescuer:
    """Sweeps every few seconds; a lease is `lease_seconds` long and judged by the database's clock alone."""

    ledger: Engine
    broker: Queues
    policy: RetryPolicy
    lease_seconds: float
    chance: Callable[[], float]
    monotonic: Callable[[], float] = clock.monotonic
    batch: int = 200
    name: str = "rescuer"
    channels: tuple[str, ...] = (RECALL,)
    sweep_seconds: float = 2.0
    """A dead factory's missions are given to another one this long after the end of their lease, and no later."""
    thresholds: Thresholds = field(default_factory=Thresholds)
    _swept_at: float = field(default=float("-inf"), init=False)
    _incarnation: str | None = field(default=None, init=False)
    _orphans_swept_at: float = field(default=float("-inf"), init=False)
    _after_factory: str = field(default="", init=False)
    _foreign: int = field(default=0, init=False)
    _is_blind: bool = field(default=False, init=False)
    _queues: PatientQueues = field(init=False)

    def __post_init__(self) -> None:
        # Four rests fit into a lease, so none ends while its queue rests.
        self._queues = PatientQueues(self.broker, self.lease_seconds / 4, self.monotonic)

    def tick(self) -> bool:
        """One sweep. After a start or a long gap every lease is first extended: our absence ends no attempt (F-7).

        A queue that takes long to look into is looked into less and less often, and people are told of it.
        """
        self._queues.begin_sweep()
        self._tell_slow()
        if self.monotonic() - self._swept_at > self.lease_seconds / 2:
            with transaction(self.ledger) as connection:
                extend_all(connection, self.lease_seconds)
        could_look = self._look_into_queues()
        recalled = self._recall(sent_too=could_look)
        evicted = self._evict(queued_too=could_look)
        rescued = self._give_up(queued_too=could_look)
        self._swept_at = self.monotonic()
        if could_look and self._swept_at - self._orphans_swept_at >= ORPHANS_EVERY_SECONDS:
            self._sweep_orphans()
        return self.batch in (rescued, recalled, evicted)

    def _look_into_queues(self) -> bool:
        """False while the broker is away: then a message that lies in a queue cannot be told from a lost one.

        When the broker is another one than at the last look, or its data are, all attempts are looked for at once, and
        those that it lost are handed out again however often they were sent: nothing they did made it forget them.
        """
        try:
            incarnation = self._queues.incarnation()
            forgot = self._incarnation not in (None, incarnation)
            with transaction(self.ledger) as connection:
                looked = look_after_queued(
                    connection,
                    self._queues,
                    self.lease_seconds,
                    # Who was silent for a whole lease has lost what it ran, and what lies in its queue goes with it.
                    self.lease_seconds,
                    everything=incarnation != self._incarnation,
                    most_sends=None if forgot else MOST_SENDS,
                )
                _tell_unread(connection, set(looked.unread) - self._queues.passed_by)
        except BrokerUnavailableError as error:
            if not self._is_blind:
                log.warning("queues_not_looked_into", error=str(error))
            self._is_blind = True
            return False
        self._is_blind = False
        self._incarnation = incarnation
        if forgot or looked.resent:
            log.warning("messages_sent_again", count=looked.resent, lying=looked.lying, broker_was_restarted=forgot)
        return True

    def _recall(self, *, sent_too: bool) -> int:
        rested = RestedQueues(self._queues)
        with transaction(self.ledger) as connection:
            recalled = recall_some(
                connection, rested, self.thresholds, self.policy, self.chance, self.batch, sent_too=sent_too
            )
        if recalled:
            log.warning("attempts_recalled", count=recalled)
        return recalled

    def _evict(self, *, queued_too: bool) -> int:
        with transaction(self.ledger) as connection:
            evicted = evict_some(connection, self._queues, self.policy, self.chance, self.batch, queued_too=queued_too)
        if evicted:
            log.warning("attempts_of_quarantined_given_up", count=evicted)
        return evicted

    def _give_up(self, *, queued_too: bool) -> int:
        with transaction(self.ledger) as connection:
            if not heard_lately(connection, self.lease_seconds):
                return 0
            rescued = rescue_some(
                connection,
                self._queues,
                self.policy,
                self.chance,
                self.batch,
                self.lease_seconds,
                queued_too=queued_too,
            )
        if rescued:
            log.warning("attempts_given_up", count=rescued, lease_seconds=self.lease_seconds)
        return rescued

    def _sweep_orphans(self) -> None:
        """Remove messages whose attempt is over, and say how many; foreign entries are only counted."""
        try:
            with transaction(self.ledger) as connection:
                swept = sweep_orphans(connection, self._queues, self._after_factory, QUEUES_AT_ONCE)
                _tell_unread(connection, set(swept.unread) - self._queues.passed_by)
        except BrokerUnavailableError:
            return
        self._orphans_swept_at = self.monotonic()
        self._after_factory = swept.last_factory or ""
        if swept.removed or swept.foreign != self._foreign:
            log.warning("orphans_swept", removed=swept.removed, foreign=swept.foreign)
        self._foreign = swept.foreign

    def _tell_slow(self) -> None:
        if slow := self._queues.slow():
            with transaction(self.ledger) as connection:
                for queue, seconds in sorted(slow.items()):
                    _tell_slow(connection, queue, seconds)


def _tell_slow(connection: Connection, queue: str, seconds: float) -> None:
    """Who fills a queue to just below what is read costs HQ time; an honest one of large orders does so as well."""
    message = f"One look took {seconds:.1f} s. It is looked into less often now, and nobody else waits for it. If its"
    message += " factory puts more there, or keeps more of what it took, than HQ sends, `corporation quarantine NAME`"
    message += " ends it."
    if alarm(connection, "redis_queue_slow", queue, f"{queue} takes long to look into", message):
        log.warning("redis_queue_slow", queue=queue, seconds=round(seconds, 1), what_next="corporation quarantine NAME")


def _tell_unread(connection: Connection, queues: Collection[str]) -> None:
    """Who fills a queue, or what it took from it, loses its missions; people are told."""
    message = "More lies there, or among what its factory took from it, than HQ ever sent. What is sent there counts as"
    message += " lost when its lease ends, and goes elsewhere. `corporation quarantine NAME` ends it."
    for queue in sorted(queues):
        if alarm(connection, "redis_queue_unread", queue, f"{queue} is too full to be read", message):
            log.warning("redis_queue_unread", queue=queue, what_next="corporation quarantine NAME")
