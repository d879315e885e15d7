"""Sending on real Valkey: Celery's own message format, one list per queue, and honest errors."""

import json
from typing import Any
from uuid import uuid4

import pytest
import redis

from corporation.embedded.ports import free_port
from corporation.missions.outbox import BrokerUnavailableError
from corporation.missions.store.sending import AttemptMessage
from corporation.settings import load_settings
from factory_tasks.broker import CeleryBroker


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


def test_a_batch_keeps_its_order_and_what_lies_in_the_queue_can_be_seen(broker: CeleryBroker, redis_url: str) -> None:
    batch = [message(number) for number in range(200)]
    broker.send(batch)

    with redis.Redis.from_url(redis_url) as client:
        oldest_first = [json.loads(raw)["headers"]["id"] for raw in reversed(client.lrange("local_factory", 0, -1))]
    assert oldest_first == [one.attempt_id for one in batch]
    assert broker.lying_in("local_factory") == set(oldest_first)


def test_a_mission_of_ten_years_is_limited_to_a_day(broker: CeleryBroker, redis_url: str) -> None:
    sent = message(1)
    broker.send([AttemptMessage(**{**sent.__dict__, "timeout_seconds": 315_360_000})])

    with redis.Redis.from_url(redis_url) as client:
        [raw] = client.lrange("local_factory", 0, -1)
    assert json.loads(raw)["headers"]["timelimit"][1] == 86_400


def test_bytes_that_are_no_message_of_ours_are_not_seen_as_attempts(broker: CeleryBroker, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.lpush("local_factory", b"\xff not json", b"[]", b'{"headers": 1}')

    assert broker.lying_in("local_factory") == set()


def test_a_redis_that_is_away_is_said_to_be_away() -> None:
    broker = CeleryBroker(load_settings({"UA_REDIS_PORT": str(free_port(None))}))

    with pytest.raises(BrokerUnavailableError):
        broker.send([message(1)])
    with pytest.raises(BrokerUnavailableError):
        broker.lying_in("local_factory")
