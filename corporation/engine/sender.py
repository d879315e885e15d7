"""The sender: what the outbox holds goes to the broker, as many messages as possible in one round trip."""

from dataclasses import dataclass

from sqlalchemy import Engine

from corporation.db import transaction
from corporation.missions.outbox import Broker, send_some
from corporation.wakeups import SEND


@dataclass
class Sender:
    """Sends until the outbox is empty; while the broker is away the rows wait."""

    ledger: Engine
    broker: Broker
    batch: int = 500
    name: str = "sender"
    channels: tuple[str, ...] = (SEND,)
    sweep_seconds: float = 2.0

    def tick(self) -> bool:
        """Send one batch; raises BrokerUnavailableError when the broker does not take it."""
        with transaction(self.ledger) as connection:
            return send_some(connection, self.broker, self.batch) == self.batch
