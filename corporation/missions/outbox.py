"""Handing committed attempts, orders to stop and echoes to the broker: nothing else in the project sends anything."""

from collections.abc import Sequence
from typing import Protocol

from sqlalchemy import Connection

from corporation.errors import CorporationError
from corporation.missions.queues import Queues
from corporation.missions.store import sending
from corporation.missions.store.sending import AttemptMessage, EchoMessage, StopMessage


class BrokerUnavailableError(CorporationError):
    """The broker did not take the messages; they stay in the outbox, and the next try sends them."""

    code = "broker_unavailable"


class Broker(Queues, Protocol):
    """What the engine needs of a message broker; `factory_tasks/broker.py` is the one on Celery."""

    def send(self, messages: Sequence[AttemptMessage]) -> None:
        """Put each message on its queue, or raise BrokerUnavailableError; then some of them may have been put."""
        ...

    def stop(self, messages: Sequence[StopMessage]) -> None:
        """Take back what still lies in its queue, and tell the factories that listen to stop the rest.

        Raises BrokerUnavailableError; then some of it may be done, and doing it again is safe.
        """
        ...

    def echo(self, messages: Sequence[EchoMessage]) -> None:
        """Each queue has this echo, and no earlier one, behind what lies there.

        Raises BrokerUnavailableError; then some may be there, and doing it again is safe.
        """
        ...


def send_some(connection: Connection, broker: Broker, limit: int) -> int:
    """Send up to `limit` messages of the outbox, the oldest first, and return how many.

    The rows go with the commit that follows the sending. A crash in between sends a message twice, and the factory's
    spool drops the second copy. Orders to stop and echoes that cannot be sent hold up no attempt: they wait for the
    next time.
    """
    messages = sending.take_unsent(connection, limit)
    attempts = [message for message in messages if isinstance(message, AttemptMessage)]
    stops = [message for message in messages if isinstance(message, StopMessage)]
    echoes = [message for message in messages if isinstance(message, EchoMessage)]
    if attempts:
        broker.send(attempts)
        sending.mark_sent(connection, [message.outbox_id for message in attempts])
    try:
        if stops:
            broker.stop(stops)
            sending.mark_sent(connection, [message.outbox_id for message in stops])
        if echoes:
            broker.echo([message for message in echoes if message.echo_id is not None])
            sending.mark_sent(connection, [message.outbox_id for message in echoes])
    except BrokerUnavailableError:
        if not attempts:
            raise
    return len(messages)
