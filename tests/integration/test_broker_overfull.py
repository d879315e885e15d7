"""A factory may fill its keys with what it likes: HQ reads no more than an honest one can have put there."""

import json
from collections import deque
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
import redis
from test_broker import QUEUE, echo, message, stop

from corporation.federation.message_frame import LARGEST_MESSAGE_BYTES
from corporation.missions.queues import TakenBack, Whereabouts
from corporation.settings import load_settings
from corporation.trust.key_sizes import Key, Kind, measure
from factory_tasks.broker import CeleryBroker
from factory_tasks.queue_look import ENTRIES_AT_ONCE, MOST_BYTES, MOST_ENTRIES, MOST_SIGNS, OverfullError, QueueLook

TAKEN = "unacked:desk-7"


@pytest.fixture
def broker(redis_url: str) -> CeleryBroker:
    return CeleryBroker(load_settings({"UA_REDIS_URL": redis_url}))


@pytest.fixture
def factory(redis_url: str) -> Iterator[redis.Redis]:
    """Whoever stole desk-7, and fills its keys."""
    with redis.Redis.from_url(redis_url) as client:
        yield client
        client.flushall()


def fill(client: redis.Redis, key: str, what: str) -> None:
    """More lies there afterwards than an honest factory can hold."""
    if what == "many":
        many = [b"x"] * (MOST_ENTRIES + 1)
        client.rpush(key, *many) if key != TAKEN else client.hset(key, mapping=dict(enumerate(many)))
        return
    huge = [b"x"] * 500 + [b"y" * (MOST_BYTES // 20)] * 22 + [b"x"] * 500
    client.rpush(key, *huge) if key != TAKEN else client.hset(key, mapping=dict(enumerate(huge)))


def sent_by(client: redis.Redis) -> int:
    """How many bytes the server has answered since it started."""
    stats: Any = client.info("stats")
    return stats["total_net_output_bytes"]


@pytest.mark.parametrize("key", [QUEUE, TAKEN])
@pytest.mark.parametrize("what", ["many", "huge"])
def test_what_is_too_full_is_not_read_and_said_not_to_be_known(
    broker: CeleryBroker, factory: redis.Redis, key: str, what: str
) -> None:
    broker.look_into(QUEUE)
    fill(factory, key, what)
    before = sent_by(factory)
    found = broker.look_into(QUEUE)
    read = sent_by(factory) - before

    assert read < 30_000
    assert not found.whole
    assert found.foreign == (0 if key == TAKEN else factory.llen(QUEUE))


def test_what_lies_in_a_queue_is_seen_however_full_it_is_elsewhere(broker: CeleryBroker, factory: redis.Redis) -> None:
    lying = message(1, QUEUE)
    broker.send([lying])
    fill(factory, TAKEN, "many")

    assert broker.look_into(QUEUE) == Whereabouts(frozenset({lying.attempt_id}), whole=False)
    assert broker.look_into("factory.desk-8").whole


@pytest.mark.parametrize("key", [QUEUE, TAKEN])
def test_nothing_is_taken_out_or_put_in_where_more_lies_than_is_read(
    broker: CeleryBroker, factory: redis.Redis, key: str
) -> None:
    lying = message(1, QUEUE)
    broker.send([lying])
    fill(factory, key, "many")
    before = factory.llen(QUEUE)

    assert broker.withdraw(QUEUE, {lying.attempt_id}) == TakenBack()
    broker.stop([stop(lying)])
    assert factory.llen("desk-7.control") == 1, "the factory is told, as of any message that is not there"
    if key == QUEUE:
        broker.echo([echo()])
    assert factory.llen(QUEUE) == before


def test_a_queue_that_is_slow_to_clear_is_left_in_time_and_what_lies_there_still_is_not_called_gone(
    broker: CeleryBroker, factory: redis.Redis, redis_url: str
) -> None:
    """Copies that a factory puts into its own queue: for each removal Redis looks through all of it."""
    lying, other = message(1, QUEUE), message(2, QUEUE)
    broker.send([other])
    broker.send([lying])
    headers = {"task": "mission.noop", "id": lying.attempt_id, "lang": "py"}
    factory.rpush(QUEUE, json.dumps({"headers": headers}), json.dumps({"headers": headers, "more": 1}))
    seconds = iter([0.0, 1.0, 2.0, 6.0])
    hurried = CeleryBroker(load_settings({"UA_REDIS_URL": redis_url}), monotonic=lambda: next(seconds))

    assert hurried.withdraw(QUEUE, {lying.attempt_id}).removed == frozenset()
    assert lying.attempt_id in broker.look_into(QUEUE).lying
    assert broker.withdraw(QUEUE, {lying.attempt_id}).removed == {lying.attempt_id}
    assert broker.look_into(QUEUE).lying == {other.attempt_id}


def test_all_that_an_honest_factory_holds_is_seen(broker: CeleryBroker, factory: redis.Redis) -> None:
    """As many as HQ ever lets wait at a factory, and orders as large as it takes them."""
    many = [message(number, QUEUE) for number in range(2000)]
    large = [message(number, "factory.desk-8") for number in range(30)]
    for one in large:
        one.envelope["payload"]["task"] = "x" * 250_000
    broker.send([*many, *large])

    assert broker.look_into(QUEUE) == Whereabouts(frozenset(one.attempt_id for one in many))
    assert broker.look_into("factory.desk-8") == Whereabouts(frozenset(one.attempt_id for one in large))


def test_an_entry_that_is_larger_than_any_message_is_foreign(broker: CeleryBroker, factory: redis.Redis) -> None:
    headers = {"task": "mission.noop", "id": str(uuid4()), "more": "x" * LARGEST_MESSAGE_BYTES}
    factory.rpush(QUEUE, json.dumps({"headers": headers}))
    factory.hset(TAKEN, "tag", json.dumps([{"headers": headers}, "", QUEUE]))

    assert broker.look_into(QUEUE) == Whereabouts(foreign=1)


def test_what_is_small_and_long_to_parse_is_not_parsed(broker: CeleryBroker, factory: redis.Redis) -> None:
    slow = b"[" + b"[]," * (LARGEST_MESSAGE_BYTES // 4) + b"[]]"
    factory.rpush(QUEUE, *[slow] * (MOST_SIGNS // (2 * (LARGEST_MESSAGE_BYTES // 4)) + 1))

    assert not broker.look_into(QUEUE).whole


@pytest.mark.parametrize("key", [QUEUE, TAKEN])
def test_what_grows_after_it_was_measured_is_read_no_further(factory: redis.Redis, key: str) -> None:
    fields: dict[Any, Any] = {str(number): b"x" for number in range(3 * MOST_ENTRIES)}
    factory.hset(TAKEN, mapping={"0": b"x"})
    factory.rpush(QUEUE, b"x")
    look = QueueLook(factory)
    entries = look.queue(QUEUE) if key == QUEUE else look.taken(["desk-7"])
    factory.rpush(QUEUE, *fields.values())
    factory.hset(TAKEN, mapping=fields)
    read: deque[bytes] = deque()
    with pytest.raises(OverfullError, match=key):
        read.extend(entries)

    assert len(read) <= MOST_ENTRIES + ENTRIES_AT_ONCE


def test_one_huge_value_among_many_small_ones_is_measured(factory: redis.Redis) -> None:
    """The server's own default looks at five entries and takes their mean."""
    kinds = {"l": Kind.list, "h": Kind.hash, "z": Kind.sorted_set, "t": Kind.text}
    factory.rpush("l", *[b"x"] * 900, b"y" * 5_000_000)
    factory.hset("h", mapping={**{str(number): b"x" for number in range(900)}, "huge": b"y" * 5_000_000})
    scores: dict[Any, Any] = {**{str(number): number for number in range(900)}, b"y" * 5_000_000: 5}
    factory.zadd("z", scores)
    factory.set("t", b"y" * 5_000_000)
    sizes = measure(factory, [Key(name, kind) for name, kind in kinds.items()], 1000)

    assert all(5_000_000 <= size.size < 6_000_000 for size in sizes.values()), sizes
    assert [size.entries for size in sizes.values()] == [901, 901, 901, 1]
    assert measure(factory, [Key("l", Kind.hash), Key("nothing", Kind.list)], 1000) == {}
