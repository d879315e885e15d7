"""The gate in kombu's transport: where it stands, what it survives, and what fails when kombu moves."""

import hashlib
import inspect
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import redis
from kombu import Connection, Consumer
from kombu.asynchronous.hub import Hub
from kombu.transport import redis as kombu_redis
from kombu.transport.virtual import base
from malformed_messages import QUEUE, document

import celeryconfig
from corporation.settings import load_settings
from factory_tasks import gated_transport


@dataclass
class Recorder:
    """A gate that lets everything in but `b"refuse"`, and remembers."""

    refused: list[bytes] = field(default_factory=list[bytes])
    failed: list[tuple[bytes, str]] = field(default_factory=list[tuple[bytes, str]])

    def admit(self, raw: bytes, queue: str) -> dict[str, Any] | None:
        if raw == b"refuse":
            self.refused.append(raw)
            return None
        return json.loads(raw)

    def admit_broadcast(self, raw: bytes, channel: str) -> bool:
        return self.admit(raw, channel) is not None

    def consumer_failed(self, raw: bytes, queue: str, document: Mapping[str, Any], error: Exception) -> None:
        self.failed.append((raw, type(error).__name__))

    def not_restorable(self, raw: bytes, key: str) -> None:
        self.refused.append(raw)


@pytest.fixture
def gate() -> Iterator[Recorder]:
    recorder = Recorder()
    gated_transport.set_gate(recorder)
    yield recorder
    gated_transport._gates.clear()


@pytest.fixture
def connection(redis_url: str) -> Iterator[Connection]:
    settings = load_settings({"UA_FACTORY_ID": "desk-7", "UA_REDIS_URL": redis_url})
    options = celeryconfig.configuration(settings)["broker_transport_options"]
    with Connection(redis_url, transport_options=options) as connection:
        yield connection


@pytest.fixture
def client(redis_url: str) -> Iterator["redis.Redis[bytes]"]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


def message(**headers: Any) -> bytes:
    return json.dumps(document(headers=headers)).encode()


def consume(connection: Connection, answer: Callable[[Any], Any], times: int = 1) -> None:
    """Take that many messages, refused ones too, and call `answer` with each that kombu built."""
    queue = celeryconfig.direct_queue(QUEUE)
    with Consumer(connection, [queue], on_message=answer, accept=["json"]):
        for _ in range(times):
            connection.drain_events(timeout=5)


def held(client: "redis.Redis[bytes]") -> int:
    return client.hlen("unacked:desk-7") + client.zcard("unacked:desk-7_index")


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("redis://127.0.0.1:1/0", gated_transport.GatedTransport),
        ("rediss://127.0.0.1:1/0?ssl_cert_reqs=required&ssl_ca_certs=/ca.pem", gated_transport.GatedTransport),
        ("sentinel://127.0.0.1:1/0", gated_transport.GatedSentinelTransport),
    ],
)
def test_every_address_of_redis_has_the_gate(url: str, wanted: type) -> None:
    gated_transport.install()

    assert Connection(url).get_transport_cls() is wanted


def test_the_gate_survives_a_failover_to_another_address() -> None:
    connection = Connection("redis://127.0.0.1:1/0;redis://127.0.0.1:2/0")

    connection.switch("redis://127.0.0.1:2/0")

    assert connection.get_transport_cls() is gated_transport.GatedTransport


def test_tls_is_read_from_the_address_as_before() -> None:
    connection = Connection("rediss://127.0.0.1:1/0?ssl_cert_reqs=required&ssl_ca_certs=/ca.pem")

    assert connection.ssl["ssl_ca_certs"] == "/ca.pem"


def test_the_repair_of_kombu_holds_for_the_gated_channels_too() -> None:
    for channel in (gated_transport.GatedChannel, gated_transport.GatedSentinelChannel):
        assert channel._connparams is kombu_redis.Channel._connparams


def test_without_a_gate_kombu_does_as_it_always_did(connection: Connection, client: "redis.Redis[bytes]") -> None:
    """The engine, beat and Flower."""
    seen: list[str] = []
    client.lpush(QUEUE, message())

    consume(connection, lambda one: (seen.append(one.headers["task"]), one.ack()))

    assert seen == ["mission.noop"]
    assert held(client) == 0


def test_what_is_refused_is_gone_and_the_next_is_taken(
    connection: Connection, client: "redis.Redis[bytes]", gate: Recorder
) -> None:
    seen: list[str] = []
    client.lpush(QUEUE, b"refuse")
    client.lpush(QUEUE, message())

    consume(connection, lambda one: (seen.append(one.headers["task"]), one.ack()))

    assert (gate.refused, seen) == ([b"refuse"], ["mission.noop"])
    assert held(client) + client.llen(QUEUE) == 0


@pytest.mark.parametrize("error", [ValueError("x"), TypeError("x"), KeyError("x"), RecursionError(), AttributeError()])
def test_a_consumer_that_fails_on_a_message_takes_the_next(
    connection: Connection, client: "redis.Redis[bytes]", gate: Recorder, error: Exception
) -> None:
    """KeyError above all: kombu takes it for a lost connection and would hand the message out for ever."""
    poison, good, seen = message(retries=7), message(), list[int]()
    client.lpush(QUEUE, poison)
    client.lpush(QUEUE, good)

    def answer(one: Any) -> None:
        seen.append(one.headers["retries"])
        if one.headers["retries"]:
            raise error
        one.ack()

    consume(connection, answer, times=2)

    assert seen == [7, 0]
    assert gate.failed == [(poison, type(error).__name__)]
    assert held(client) + client.llen(QUEUE) == 0


def test_a_lost_connection_in_the_consumer_is_not_blamed_on_the_message(
    connection: Connection, client: "redis.Redis[bytes]", gate: Recorder
) -> None:
    client.lpush(QUEUE, message())

    def answer(_: Any) -> None:
        raise redis.exceptions.ConnectionError("gone")

    with pytest.raises(redis.exceptions.ConnectionError):
        consume(connection, answer)
    assert gate.failed == []
    assert held(client) == 2


def test_a_reservation_of_a_message_that_the_consumer_failed_on_is_given_back(
    connection: Connection, client: "redis.Redis[bytes]", gate: Recorder
) -> None:
    """Else the worker would count a slot as taken for ever, and with one slot consume nothing any more."""
    from celery.worker import state

    class Request:
        id = ""

    request = Request()
    client.lpush(QUEUE, message())

    def answer(one: Any) -> None:
        request.id = one.headers["id"]
        state.task_reserved(request)
        raise ValueError

    consume(connection, answer)

    assert request not in state.reserved_requests
    assert request.id not in state.requests


def test_what_was_held_in_a_form_that_kombu_never_wrote_does_not_stop_the_others(
    connection: Connection, client: "redis.Redis[bytes]", gate: Recorder
) -> None:
    good = document()
    for tag, raw in (("a", b"not json"), ("b", b"[1]"), ("c", b"\xff"), ("d", json.dumps([good, "", QUEUE]).encode())):
        client.hset("unacked:desk-7", tag, raw)
        client.zadd("unacked:desk-7_index", {tag: 1.0})

    with connection.channel() as channel:
        channel.qos.restore_visible(num=100, interval=1)

    assert sorted(gate.refused) == [b"[1]", b"not json", b"\xff"]
    assert held(client) == 0
    [back] = client.lrange(QUEUE, 0, -1)
    assert json.loads(back)["headers"]["id"] == good["headers"]["id"]


@pytest.fixture
def full(client: "redis.Redis[bytes]") -> Iterator[None]:
    """Redis takes no writes."""
    client.config_set("maxmemory", "1")
    yield
    client.config_set("maxmemory", "0")


@pytest.mark.usefixtures("full")
def test_a_worker_gets_its_connection_to_a_redis_that_takes_no_writes(connection: Connection) -> None:
    """Celery forgets one that fails here without closing it, and makes the next: Redis runs out of clients as well."""
    hub = Hub()

    with connection.channel():
        connection.transport.register_with_event_loop(connection.connection, hub)

    assert len(hub.timer) > 0


def test_kombu_is_the_one_whose_methods_were_replaced() -> None:
    """If this fails, kombu has changed: read these methods again, and what calls them, before the new one is pinned."""
    replaced = (
        kombu_redis.Channel._brpop_read,
        kombu_redis.Channel._receive_one,
        kombu_redis.Channel._handle_message,
        kombu_redis.Channel._deliver_fanout_message,
        kombu_redis.QoS.restore_by_tag,
        kombu_redis.QoS.restore_visible,
        kombu_redis.QoS.restore_unacked,
        kombu_redis.QoS._remove_from_indices,
        base.Transport._deliver,
    )
    source = "".join(inspect.getsource(one) for one in replaced)

    assert hashlib.sha256(source.encode()).hexdigest()[:16] == "b18778681fce7e4d"
