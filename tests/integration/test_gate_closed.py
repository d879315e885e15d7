"""A closed gate: nothing is popped, nothing is acknowledged and dropped, and what was popped already is delivered."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from kombu import Connection, Consumer
from malformed_messages import QUEUE, document

import celeryconfig
from corporation.settings import load_settings
from factory_tasks import gated_transport


@pytest.fixture
def connection(redis_url: str) -> Iterator[Connection]:
    gated_transport.install()
    settings = load_settings({"UA_FACTORY_ID": "desk-7", "UA_REDIS_URL": redis_url})
    options = celeryconfig.configuration(settings)["broker_transport_options"]
    with Connection(redis_url, transport_options=options) as connection:
        yield connection
    gated_transport.open_gate()


@pytest.fixture
def client(redis_url: str) -> Iterator["redis.Redis[bytes]"]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


def push(client: "redis.Redis[bytes]", number: int) -> None:
    client.lpush(QUEUE, json.dumps(document(headers={"retries": number})).encode())


class Taken:
    """A consumer of the mission queue, and what it was given."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.numbers: list[int] = []
        queue = celeryconfig.direct_queue(QUEUE)
        self.consumer = Consumer(connection, [queue], on_message=self._take, accept=["json"])

    def _take(self, message: Any) -> None:
        self.numbers.append(message.headers["retries"])
        message.ack()

    def drain(self, seconds: float = 1.5) -> None:
        """Whatever comes within so many seconds; longer than Redis waits for a message."""
        try:
            self.connection.drain_events(timeout=seconds)
        except TimeoutError:
            return


def test_nothing_is_taken_and_nothing_lost_until_it_is_opened(
    connection: Connection, client: "redis.Redis[bytes]"
) -> None:
    taken = Taken(connection)
    gated_transport.close_gate()
    with taken.consumer:
        push(client, 1)
        taken.drain()
        assert (taken.numbers, client.llen(QUEUE)) == ([], 1)

        gated_transport.open_gate()
        taken.drain()

    assert (taken.numbers, client.llen(QUEUE), client.hlen("unacked:desk-7")) == ([1], 0, 0)


def test_a_message_that_was_asked_for_before_is_delivered_and_no_second_one(
    connection: Connection, client: "redis.Redis[bytes]"
) -> None:
    """Redis has popped it for this worker: left in the socket, nobody would ever find it."""
    taken = Taken(connection)
    with taken.consumer:
        channel: Any = connection.default_channel
        connection.transport.cycle.on_poll_start()
        assert channel._in_poll
        gated_transport.close_gate()
        push(client, 1)
        push(client, 2)

        taken.drain()
        taken.drain()

    assert taken.numbers == [1]
    assert client.llen(QUEUE) == 1


def test_it_holds_over_a_reconnect(connection: Connection, client: "redis.Redis[bytes]") -> None:
    gated_transport.close_gate()
    push(client, 1)
    connection.close()
    connection.connect()
    taken = Taken(connection)

    with taken.consumer:
        taken.drain()

    assert (taken.numbers, client.llen(QUEUE)) == ([], 1)
