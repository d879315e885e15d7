"""Handing committed attempts to the broker: nothing else in the project sends anything."""

from collections.abc import Sequence
from typing import Protocol

from sqlalchemy import Connection

from corporation.errors import CorporationError
from corporation.missions.queues import Queues
from corporation.missions.store import sending
from corporation.missions.store.sending import AttemptMessage


class BrokerUnavailableError(CorporationError):
    """The broker did not take the messages; they stay in the outbox, and the next try sends them."""

    code = "broker_unavailable"


class Broker(Queues, Protocol):
    """What the engine needs of a message broker; `factory_tasks/broker.py` is the one on Celery."""

    def send(self, messages: Sequence[AttemptMessage]) -> None:
        """Put each message on its queue, or raise BrokerUnavailableError; then some of them may have been put."""
        ...


def send_some(connection: Connection, broker: Broker, limit: int) -> int:
    """Send up to `limit` messages of the outbox, the oldest first, and return how many.

    The rows go with the commit that follows the sending. A crash in between sends a message twice, and the factory's
    spool drops the second copy.
    """
    messages = sending.take_unsent(connection, limit)
    if messages:
        broker.send(messages)
        sending.mark_sent(connection, [message.outbox_id for message in messages])
    return len(messages)
