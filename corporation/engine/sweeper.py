"""The sweeper: who fell silent is called so, and a pause whose time is over ends, also where no beat of HQ runs."""

from dataclasses import dataclass

import structlog
from sqlalchemy import Engine

from corporation.db import transaction
from corporation.factories.staleness import Thresholds
from corporation.factories.sweep import sweep

log = structlog.get_logger()


@dataclass
class Sweeper:
    """Looks at the whole fleet every `sweep_seconds`; HQ's beat may do so too, for two sweeps tell people once.

    It asks for no echoes: they are the beat's, and who runs none has no light that depends on them.
    """

    ledger: Engine
    thresholds: Thresholds
    sweep_seconds: float = 60.0
    name: str = "sweeper"
    channels: tuple[str, ...] = ()

    def tick(self) -> bool:
        """One sweep; there is never more at once."""
        with transaction(self.ledger) as connection:
            changes = sweep(connection, self.thresholds)
        for change in changes:
            log.info("factory_status", factory_id=change.factory_id, was=change.was, status=change.status)
        return False
