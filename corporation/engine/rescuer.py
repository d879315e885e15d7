"""The rescuer: attempts that nobody speaks of any more are given up, but never because HQ itself was away."""

from collections.abc import Callable
from dataclasses import dataclass, field

import structlog
from sqlalchemy import Connection, Engine

from corporation import clock
from corporation.db import transaction
from corporation.factories.store import heard_lately
from corporation.missions.outbox import Broker, BrokerUnavailableError
from corporation.missions.rescue import renew_what_lies_in_queues, rescue_some
from corporation.missions.retry import RetryPolicy
from corporation.missions.store.leases import extend_all

log = structlog.get_logger()


@dataclass
class Rescuer:
    """Sweeps every few seconds; a lease is `lease_seconds` long and judged by the database's clock alone."""

    ledger: Engine
    broker: Broker
    policy: RetryPolicy
    lease_seconds: float
    chance: Callable[[], float]
    monotonic: Callable[[], float] = clock.monotonic
    batch: int = 200
    name: str = "rescuer"
    channels: tuple[str, ...] = ()
    sweep_seconds: float = 5.0
    offline_seconds: float = 900.0
    """A factory silent for this long holds no queued attempt any more."""
    _swept_at: float = field(default=float("-inf"), init=False)

    def tick(self) -> bool:
        """One sweep. After a start or a long gap every lease is first extended: our absence ends no attempt (F-7)."""
        if self.monotonic() - self._swept_at > self.lease_seconds / 2:
            with transaction(self.ledger) as connection:
                extend_all(connection, self.lease_seconds)
        with transaction(self.ledger) as connection:
            rescued = self._sweep(connection)
        self._swept_at = self.monotonic()
        return rescued == self.batch

    def _sweep(self, connection: Connection) -> int:
        could_look = self._look_into_queues(connection)
        if not heard_lately(connection, self.lease_seconds):
            return 0
        rescued = rescue_some(connection, self.broker, self.policy, self.chance, self.batch, queued_too=could_look)
        if rescued:
            log.warning("attempts_given_up", count=rescued, lease_seconds=self.lease_seconds)
        return rescued

    def _look_into_queues(self, connection: Connection) -> bool:
        """False while the broker is away: then a message that lies in a queue cannot be told from a lost one."""
        try:
            renew_what_lies_in_queues(connection, self.broker, self.lease_seconds, self.offline_seconds)
            return True
        except BrokerUnavailableError:
            return False
