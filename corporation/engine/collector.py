"""The collector: reports in the mailbox end their missions, or send them round again."""

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Engine

from corporation.db import transaction
from corporation.masking import hide_shapes
from corporation.missions.collect import collect_some
from corporation.missions.retry import RetryPolicy
from corporation.missions.store.broadcasting import end_broadcasts
from corporation.wakeups import COLLECT


@dataclass
class Collector:
    """Reads the mailbox; two of them share the work and never apply one report twice."""

    ledger: Engine
    policy: RetryPolicy
    chance: Callable[[], float]
    batch: int = 500
    name: str = "collector"
    channels: tuple[str, ...] = (COLLECT,)
    sweep_seconds: float = 2.0
    hide: Callable[[str], str] = hide_shapes
    """Takes secrets out of what failures say (S-40)."""

    def tick(self) -> bool:
        """Apply one batch of reports, and end the broadcasts whose last children it ended."""
        with transaction(self.ledger) as connection:
            read = collect_some(connection, self.policy, self.chance, self.batch, self.hide)
        if read:
            # After the commit: two collectors that end the last two children would not see each other's before it.
            with transaction(self.ledger) as connection:
                end_broadcasts(connection)
        return read == self.batch
