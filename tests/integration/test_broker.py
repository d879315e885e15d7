"""Sending on real Valkey: Celery's own message format, one list per queue, and honest errors."""

import base64
import json
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
import redis
from kombu.connection import Connection

import celeryconfig
from corporation.embedded.ports import free_port
from corporation.embedded.valkey import start_valkey
from corporation.missions.outbox import BrokerUnavailableError
from corporation.missions.queues import TakenBack, Whereabouts
from corporation.missions.store.sending import AttemptMessage, EchoMessage, StopMessage
from corporation.settings import load_settings
from factory_tasks.broker import ECHO_TASK, CeleryBroker

QUEUE = "factory.desk-7"


def message(number: int, queue: str = "local_factory") -> AttemptMessage:
    envelope = {"job_id": f"m-{number}", "payload": {"task": "private words", "context": {"mission_kind": "noop"}}}
    return AttemptMessage(number, str(uuid4()), 1, queue, "desk-7", f"m-{number}", "noop", 60, envelope)


@pytest.fixture
def broker(redis_url: str) -> CeleryBroker:
    return CeleryBroker(load_settings({"UA_REDIS_URL": redis_url}))


def test_a_message_is_a_celery_task_named_after_its_kind(broker: CeleryBroker, redis_url: str) -> None:
    sent = message(1)
    broker.send([sent])

    with redis.Redis.from_url(redis_url) as client:
        [raw] = client.lrange("local_factory", 0, -1)
    headers: dict[str, Any] = json.loads(raw)["headers"]
    assert headers["task"] == "mission.noop"
    assert headers["id"] == sent.attempt_id
    assert headers["timelimit"] == [60 + 30 + 15, 60]


def test_what_the_mission_says_is_not_in_the_headers_that_flower_and_logs_show(
    broker: CeleryBroker, redis_url: str
) -> None:
    broker.send([message(1)])

    with redis.Redis.from_url(redis_url) as client:
        [raw] = client.lrange("local_factory", 0, -1)
    assert "private words" not in json.dumps(json.loads(raw)["headers"])


def stop(attempt: AttemptMessage, control_queue: str | None = "desk-7.control") -> StopMessage:
    return StopMessage(9, attempt.attempt_id, attempt.queue, attempt.factory_id, control_queue, "not needed")


def test_what_is_to_stop_and_still_lies_there_is_taken_back_and_nobody_is_told(
    broker: CeleryBroker, redis_url: str
) -> None:
    unwanted, wanted = message(1, QUEUE), message(2, QUEUE)
    broker.send([unwanted, wanted])
    broker.stop([stop(unwanted)])

    assert broker.look_into(QUEUE).lying == {wanted.attempt_id}
    with redis.Redis.from_url(redis_url) as client:
        assert client.llen("desk-7.control") == 0


def test_a_factory_that_took_it_is_told_by_a_task_on_its_control_queue(broker: CeleryBroker, redis_url: str) -> None:
    taken = message(1, QUEUE)
    broker.stop([stop(taken), stop(message(2, QUEUE), control_queue=None)])

    with redis.Redis.from_url(redis_url) as client:
        [raw] = client.lrange("desk-7.control", 0, -1)
    document = json.loads(raw)
    assert document["headers"]["task"] == celeryconfig.STOP_TASK
    [_, arguments, _] = json.loads(base64.b64decode(document["body"]))
    assert arguments == {"attempt_id": taken.attempt_id, "reason": "not needed"}
    assert "not needed" not in json.dumps(document["headers"])


def test_stopping_while_redis_is_away_says_so(tmp_path: Path) -> None:
    away = CeleryBroker(load_settings({"UA_REDIS_URL": f"redis://127.0.0.1:{free_port(0)}/0"}))

    with pytest.raises(BrokerUnavailableError):
        away.stop([stop(message(1, QUEUE))])


def test_a_batch_keeps_its_order_and_what_lies_in_the_queue_can_be_seen(broker: CeleryBroker, redis_url: str) -> None:
    batch = [message(number) for number in range(200)]
    broker.send(batch)

    with redis.Redis.from_url(redis_url) as client:
        oldest_first = [json.loads(raw)["headers"]["id"] for raw in reversed(client.lrange("local_factory", 0, -1))]
    assert oldest_first == [one.attempt_id for one in batch]
    assert broker.look_into("local_factory").lying == set(oldest_first)


def test_a_mission_of_ten_years_is_limited_to_a_day(broker: CeleryBroker, redis_url: str) -> None:
    sent = message(1)
    broker.send([replace(sent, timeout_seconds=315_360_000)])

    with redis.Redis.from_url(redis_url) as client:
        [raw] = client.lrange("local_factory", 0, -1)
    assert json.loads(raw)["headers"]["timelimit"][1] == 86_400


def test_bytes_that_are_no_message_of_ours_are_counted_and_not_seen_as_attempts(
    broker: CeleryBroker, redis_url: str
) -> None:
    entries = [b"\xff not json", b"[]", b'{"headers": 1}', b'{"headers": {"id": "x"}}', b'{"headers": {"id": 1}}']
    with redis.Redis.from_url(redis_url) as client:
        client.lpush("local_factory", *entries, b"[" * 100_000)
        client.hset("unacked:local_factory", mapping={"1": b"[", "2": b"[1]", "3": b"{}", "4": b"[]"})

    assert broker.look_into("local_factory") == Whereabouts(foreign=6)


def test_a_key_that_somebody_spoilt_is_no_queue_and_stops_no_look(broker: CeleryBroker, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.set(QUEUE, "x")
        client.set("unacked:desk-7", "x")

    assert broker.look_into(QUEUE) == Whereabouts()
    assert broker.withdraw(QUEUE, {str(uuid4())}) == TakenBack()


@contextmanager
def worker(redis_url: str) -> Generator[Callable[[], Any]]:
    """What kombu does in a worker of desk-7: each call takes the next message, and acknowledges nothing."""
    options = celeryconfig.configuration(load_settings({"UA_REDIS_URL": redis_url, "UA_FACTORY_ID": "desk-7"}))
    taken: list[Any] = []
    with (
        Connection(redis_url, transport_options=options["broker_transport_options"]) as connection,
        connection.Consumer([celeryconfig.direct_queue(QUEUE)], on_message=taken.append, prefetch_count=0),
    ):

        def take() -> Any:
            connection.drain_events(timeout=10)
            return taken.pop()

        yield take


def test_what_a_worker_took_and_did_not_acknowledge_is_held_by_its_factory(
    broker: CeleryBroker, redis_url: str
) -> None:
    """kombu's own entry in `unacked:<factory>`; a factory of another name holds nothing."""
    first, second = message(1, QUEUE), message(2, QUEUE)
    broker.send([first, second])
    with worker(redis_url) as take:
        taken = take()
        found = broker.look_into(QUEUE)
        elsewhere = broker.look_into("factory.desk-70")
        taken.ack()
        afterwards = broker.look_into(QUEUE)

    assert found == Whereabouts(lying=frozenset({second.attempt_id}), held=frozenset({first.attempt_id}))
    assert elsewhere == Whereabouts()
    assert afterwards == Whereabouts(lying=frozenset({second.attempt_id}))


def test_what_is_taken_back_was_in_the_queue_and_nobody_had_it(broker: CeleryBroker, redis_url: str) -> None:
    first, second, third = (message(number, QUEUE) for number in range(3))
    broker.send([first, second, third])
    with worker(redis_url) as take:
        taken = take()
        wanted = {first.attempt_id, second.attempt_id, str(uuid4())}
        back = broker.withdraw(QUEUE, wanted)
        again = broker.withdraw(QUEUE, wanted)
        taken.ack()

    assert back == TakenBack(frozenset({second.attempt_id}), frozenset({second.attempt_id}))
    assert again == TakenBack()
    assert broker.look_into(QUEUE).lying == {third.attempt_id}


def test_what_a_worker_gave_back_or_has_a_copy_of_is_taken_back_as_something_it_had(
    broker: CeleryBroker, redis_url: str
) -> None:
    given_back, copied = message(1, QUEUE), message(2, QUEUE)
    broker.send([given_back, copied, copied])
    with worker(redis_url) as take:
        take().reject(requeue=True)
        assert take().headers["id"] == copied.attempt_id
        back = broker.withdraw(QUEUE, {given_back.attempt_id, copied.attempt_id})

    removed = frozenset({given_back.attempt_id, copied.attempt_id})
    assert back == TakenBack(removed, unreceived=frozenset(), held=frozenset({copied.attempt_id}))


def test_more_than_one_round_trip_of_messages_is_taken_back_whole(broker: CeleryBroker) -> None:
    batch = [message(number, QUEUE) for number in range(250)]
    broker.send(batch)
    ids = frozenset(one.attempt_id for one in batch)

    assert broker.withdraw(QUEUE, ids) == TakenBack(ids, ids)
    assert broker.look_into(QUEUE) == Whereabouts()


def test_a_broker_is_the_same_until_its_data_is_gone(broker: CeleryBroker, redis_url: str) -> None:
    first = broker.incarnation()
    second = CeleryBroker(load_settings({"UA_REDIS_URL": redis_url})).incarnation()
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()

    assert first == second
    assert broker.incarnation() != first


def test_a_server_that_refuses_to_tell_what_it_is_is_known_by_the_rest(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.acl_setuser("narrow", enabled=True, nopass=True, keys=["*"], categories=["+@all"], commands=["-info"])
        try:
            address = urlsplit(redis_url)
            narrow = address._replace(netloc=f"narrow:any@{address.hostname}:{address.port}").geturl()
            broker = CeleryBroker(load_settings({"UA_REDIS_URL": narrow}))
            first = broker.incarnation()
            client.flushall()

            assert first.startswith("- ")
            assert broker.incarnation() != first
        finally:
            client.acl_deluser("narrow")


def test_a_broker_that_was_restarted_is_another_one_even_with_its_data(tmp_path: Path) -> None:
    server = start_valkey(tmp_path)
    try:
        broker = CeleryBroker(load_settings({"UA_REDIS_URL": server.url}))
        before = broker.incarnation()
    finally:
        server.stop()
    again = start_valkey(tmp_path, port=server.port)
    try:
        after = broker.incarnation()
    finally:
        again.stop()

    assert after != before
    assert after.split()[1] == before.split()[1], "the data are the same"


def test_a_redis_that_is_away_is_said_to_be_away() -> None:
    broker = CeleryBroker(load_settings({"UA_REDIS_PORT": str(free_port(None))}))

    with pytest.raises(BrokerUnavailableError):
        broker.send([message(1)])
    with pytest.raises(BrokerUnavailableError):
        broker.look_into("local_factory")
    with pytest.raises(BrokerUnavailableError):
        broker.withdraw("local_factory", {str(uuid4())})
    with pytest.raises(BrokerUnavailableError):
        broker.incarnation()


def test_a_spoilt_control_queue_holds_up_no_other_order(broker: CeleryBroker, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.set("desk-7.control", "spoilt")
        broker.stop([stop(message(1, QUEUE)), stop(message(2, QUEUE), control_queue="desk-9.control")])

        assert client.llen("desk-9.control") == 1
        assert client.get("desk-7.control") == b"spoilt"


def echo(queue: str = QUEUE) -> EchoMessage:
    return EchoMessage(7, str(uuid4()), queue, "desk")


def echoes_in(redis_url: str) -> list[dict[str, Any]]:
    with redis.Redis.from_url(redis_url) as client:
        documents = [json.loads(raw) for raw in client.lrange(QUEUE, 0, -1)]
    return [document for document in documents if document["headers"]["task"] == ECHO_TASK]


def test_an_echo_lies_behind_the_missions_of_its_factory_and_is_no_attempt(
    broker: CeleryBroker, redis_url: str
) -> None:
    attempt, asked = message(1, QUEUE), echo()
    broker.send([attempt])
    broker.echo([asked])

    assert broker.look_into(QUEUE) == Whereabouts(lying=frozenset({attempt.attempt_id}))
    [document] = echoes_in(redis_url)
    [_, arguments, _] = json.loads(base64.b64decode(document["body"]))
    assert arguments == {"echo_id": asked.echo_id}
    assert document["headers"]["ignore_result"]
    assert document["headers"]["expires"]


def test_a_queue_that_nobody_empties_holds_one_echo_the_latest(broker: CeleryBroker, redis_url: str) -> None:
    latest = echo()
    broker.echo([echo()])
    broker.echo([latest])

    [document] = echoes_in(redis_url)
    assert latest.echo_id is not None
    assert latest.echo_id in document["headers"]["kwargsrepr"]


def test_asking_for_an_echo_while_redis_is_away_says_so() -> None:
    away = CeleryBroker(load_settings({"UA_REDIS_URL": f"redis://127.0.0.1:{free_port(0)}/0"}))

    with pytest.raises(BrokerUnavailableError):
        away.echo([echo()])


def test_an_echo_that_redis_refuses_is_logged_and_holds_up_no_other(broker: CeleryBroker, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.set("factory.spoilt", "x")
    broker.echo([echo("factory.spoilt"), echo()])

    assert len(echoes_in(redis_url)) == 1


def test_in_a_control_queue_orders_are_seen_and_what_the_node_took_is_held(
    broker: CeleryBroker, redis_url: str
) -> None:
    order, taken = message(1, "desk-7.control"), message(2, QUEUE)
    broker.send([order, taken])
    broker.stop([stop(message(3, QUEUE))])
    with worker(redis_url) as take:
        take()
        seen = broker.look_into("desk-7.control")

    assert seen == Whereabouts(lying=frozenset({order.attempt_id}), held=frozenset({taken.attempt_id}))
    assert broker.withdraw("desk-7.control", {order.attempt_id}).unreceived == {order.attempt_id}
