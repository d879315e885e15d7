"""The dispatcher: waiting missions become attempts in the outbox, broadcasts children, and the rest says why."""

from collections.abc import Callable
from dataclasses import dataclass, field

from sqlalchemy import Engine

from corporation import clock
from corporation.db import transaction
from corporation.missions.dispatch import DispatchRules, dispatch_some, explain_waiting
from corporation.missions.store.broadcasting import end_broadcasts, spread_one
from corporation.missions.store.dispatching import expire
from corporation.wakeups import DISPATCH


@dataclass
class Dispatcher:
    """Routes what waits; the sweep also finds backoffs that are over and deadlines that passed."""

    ledger: Engine
    rules: DispatchRules
    new_id: Callable[[], str]
    monotonic: Callable[[], float] = clock.monotonic
    explain_every_seconds: float = 2.0
    name: str = "dispatcher"
    channels: tuple[str, ...] = (DISPATCH,)
    sweep_seconds: float = 1.0
    _explained_at: float = field(default=float("-inf"), init=False)

    def tick(self) -> bool:
        """Dispatch one batch, and spread one broadcast to the factories.

        At most every two seconds also end what is past its deadline, and broadcasts that nobody ended with their last
        child, and explain what waits.
        """
        with transaction(self.ledger) as connection:
            sent = dispatch_some(connection, self.rules, self.new_id)
        if self.monotonic() - self._explained_at >= self.explain_every_seconds:
            with transaction(self.ledger) as connection:
                expire(connection)
                end_broadcasts(connection)
                explain_waiting(connection, self.rules)
            self._explained_at = self.monotonic()
        # Last, so that a broadcast that cannot be spread holds up nothing else.
        with transaction(self.ledger) as connection:
            spread = spread_one(connection, self.rules.thresholds)
        return sent > 0 or spread
