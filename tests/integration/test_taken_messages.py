"""What a killed worker had taken from Redis is taken up by the next one; real workers (invariant I7)."""

import json
import signal
import sqlite3
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from factory_at_work import FACTORY, Factory, SeenHq, Sent
from warm_starts import BEAT_EVERY, WarmStarts

from corporation.roles import private_queue

UNACKED = f"unacked:{FACTORY}"


@pytest.fixture
def factory(
    tmp_path: Path, database_url: str, redis_url: str, wait_until: Callable[..., Any], warm: WarmStarts
) -> Iterator[Factory]:
    """A factory with one worker that has one slot; nothing of it is there before or after."""
    with SeenHq() as hq, Factory(tmp_path, database_url, redis_url, wait_until, warm, hq) as factory:
        factory.start_worker()
        yield factory


def held(factory: Factory) -> int:
    """How many messages its workers took and did not acknowledge."""
    with redis.Redis.from_url(factory.redis_url) as client:
        return client.hlen(UNACKED)


def in_hand_of_the_dead(factory: Factory) -> Sent:
    """A worker took the message from the queue and was killed before it did anything with it."""
    factory.kill("worker")
    sent = factory.send(then="end")
    taken_from_its_queue(factory)
    return sent


def taken_from_its_queue(factory: Factory) -> None:
    """The only message there is in hand since 1970."""
    queue = private_queue(FACTORY)
    with redis.Redis.from_url(factory.redis_url) as client:
        [raw] = client.lrange(queue, 0, -1)
        client.delete(queue)
        message = json.loads(raw)
        tag = message["properties"]["delivery_tag"]
        client.hset(UNACKED, tag, json.dumps([message, "", queue]))
        client.zadd(f"{UNACKED}_index", {tag: 1.0})


def out_of_hand(factory: Factory) -> dict[bytes, Any]:
    """The entries in hand, which are taken away, and may be put there again."""
    with redis.Redis.from_url(factory.redis_url) as client:
        entries = client.hgetall(UNACKED)
        client.delete(UNACKED, f"{UNACKED}_index")
    return entries


def test_what_a_killed_worker_had_in_hand_is_run_by_the_next_one(factory: Factory) -> None:
    sent = in_hand_of_the_dead(factory)
    factory.start_worker()

    assert sent.report()["outcome"] == "done"
    factory.wait(lambda: held(factory) == 0, 10, "nothing held any more")


def test_what_it_worked_on_is_reported_lost_and_not_run_again(factory: Factory) -> None:
    sent = factory.send().begun()
    factory.kill("worker")
    assert held(factory) == 1
    sent.told.unlink()
    factory.start_worker()

    assert sent.report()["outcome"] == "lost"
    factory.wait(lambda: held(factory) == 0, 10, "nothing held any more")
    assert not sent.told.exists()


def test_a_second_worker_takes_nothing_from_the_first(factory: Factory) -> None:
    factory.send().begun()
    factory.start_worker(name="second")

    assert held(factory) == 1
    assert "messages_put_back" not in factory.log("second")


def test_a_node_puts_back_nothing_of_another(factory: Factory) -> None:
    with redis.Redis.from_url(factory.redis_url) as client:
        client.hset("unacked:desk-9", "tag", "[]")
    factory.kill("worker")
    factory.start_worker()

    with redis.Redis.from_url(factory.redis_url) as client:
        assert client.hgetall("unacked:desk-9") == {b"tag": b"[]"}


def test_an_entry_that_is_no_message_holds_up_no_other(factory: Factory) -> None:
    sent = in_hand_of_the_dead(factory)
    with redis.Redis.from_url(factory.redis_url) as client:
        client.hset(UNACKED, "0", b"\x80\x04poison")
    factory.start_worker()

    assert sent.report()["outcome"] == "done"
    factory.wait(lambda: held(factory) == 0, 10, "nothing held any more")


def test_a_message_that_could_not_be_acknowledged_is_told_from_the_spool_and_forgotten(factory: Factory) -> None:
    """Redis was away when the worker had done with it; nobody says so again before another worker starts (I7)."""
    factory.kill("worker")
    factory.more_environment |= {BEAT_EVERY: "2"}
    factory.start_worker()
    sent = factory.send("patient", finished=True).begun()
    entries = out_of_hand(factory)
    sent.told.unlink()
    factory.spool.request_stop(sent.attempt_id, "enough")
    assert sent.report()["outcome"] == "done"

    with redis.Redis.from_url(factory.redis_url) as client:
        client.hset(UNACKED, mapping=entries)
        client.zadd(f"{UNACKED}_index", dict.fromkeys(entries, 1.0))

    factory.wait(lambda: held(factory) == 0, 20, "nothing held any more")
    factory.wait(lambda: "messages_put_back" in factory.log(), 10, "the worker says so")
    with redis.Redis.from_url(factory.redis_url) as client:
        factory.wait(lambda: client.llen(private_queue(FACTORY)) == 0, 10, "the copy is dropped")
    assert not sent.told.exists()


@contextmanager
def taking_nothing(spool: Path) -> Generator[None]:
    """The spool's file refuses every write with the error that a full disk has too, and can be read."""
    with closing(sqlite3.connect(spool, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        yield
        db.execute("ROLLBACK")


def test_a_full_disk_has_the_message_go_back_and_uses_up_no_attempt(factory: Factory) -> None:
    """The worker says so in its log, and goes on by itself when there is room."""
    factory.kill("worker")
    factory.more_environment["UA_SQLITE_BUSY_TIMEOUT_MS"] = "250"
    factory.start_worker()
    with taking_nothing(factory.folder / "spool.db"):
        sent = factory.send(then="end")
        factory.wait(lambda: "spool_refuses" in factory.log(), 20, "the worker's complaint")
        assert factory.db.execute("SELECT 1 FROM mailbox.celery_taskmeta WHERE result IS NOT NULL").fetchone() is None

    assert sent.report()["outcome"] == "done"
    with redis.Redis.from_url(factory.redis_url) as client:
        assert client.llen(private_queue(FACTORY)) == 0


def test_a_worker_waits_for_room_before_it_takes_anything(factory: Factory) -> None:
    """Without pulse and warden it would work on unseen."""
    factory.kill("worker")
    factory.more_environment["UA_SQLITE_BUSY_TIMEOUT_MS"] = "250"
    sent = factory.send(then="end")
    with ThreadPoolExecutor(1) as pool:
        with taking_nothing(factory.folder / "spool.db"):
            starting = pool.submit(factory.start_worker)
            factory.wait(lambda: "spool_refuses" in factory.log(), 20, "the worker's complaint")
            assert not sent.told.exists()
        starting.result(30)

    assert sent.report()["outcome"] == "done"


def test_beats_go_on_while_the_disk_takes_nothing(factory: Factory) -> None:
    factory.kill("worker")
    factory.more_environment |= {"UA_SQLITE_BUSY_TIMEOUT_MS": "250", BEAT_EVERY: "3"}
    factory.start_worker()
    factory.wait(lambda: factory.hq.heard[""], 20, "the first beat")
    with taking_nothing(factory.folder / "spool.db"):
        before = len(factory.hq.heard[""])
        factory.wait(lambda: len(factory.hq.heard[""]) > before, 40, "another beat")


def test_a_worker_that_is_going_keeps_what_it_works_on(factory: Factory) -> None:
    """A successor that starts while the old one finishes its last mission takes nothing from it."""
    sent = factory.send("patient", finished=True).begun()
    factory.processes["worker"].send_signal(signal.SIGTERM)
    factory.wait(lambda: [worker.slots for worker in factory.spool.workers()] == [0], 10, "the worker going")
    factory.start_worker(name="next")

    assert held(factory) == 1
    assert "messages_put_back" not in factory.log("next")
    factory.spool.request_stop(sent.attempt_id, "enough")
    assert sent.report()["outcome"] == "done"
