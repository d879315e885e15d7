"""The rebuilder: whoever asks the API to fill the queues again is answered by the engine, which may look into them."""

from dataclasses import dataclass

from sqlalchemy import Engine

from corporation.db import transaction
from corporation.missions.queues import Queues
from corporation.missions.rebuild import carry_out_one
from corporation.missions.store.rebuild_wishes import forget_unfetched
from corporation.wakeups import REBUILD


@dataclass
class Rebuilder:
    """Does one wish after the other, in a thread of its own: a look into all queues may take long."""

    ledger: Engine
    queues: Queues
    lease_seconds: float
    name: str = "rebuilder"
    channels: tuple[str, ...] = (REBUILD,)
    sweep_seconds: float = 2.0

    def tick(self) -> bool:
        """The oldest wish is done and answered; an engine that dies on the way leaves it to the next tick."""
        with transaction(self.ledger) as connection:
            done = carry_out_one(connection, self.queues, self.lease_seconds)
            if not done:
                forget_unfetched(connection)
        return done
