"""A worker alone, without beat and control worker: it is heard of whatever happens, and takes only what it may."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from factory_at_work import FACTORY, Factory, SeenHq
from warm_starts import BEAT_EVERY, WarmStarts

from corporation.embedded.valkey import start_valkey
from corporation.federation import notes
from corporation.missions.store.sending import EchoMessage
from corporation.roles import private_queue

OFTEN = {BEAT_EVERY: "3"}


@pytest.fixture
def hq() -> Iterator[SeenHq]:
    with SeenHq() as seen:
        yield seen


@pytest.fixture
def factory(
    tmp_path: Path, database_url: str, redis_url: str, wait_until: Callable[..., Any], warm: WarmStarts, hq: SeenHq
) -> Iterator[Factory]:
    with Factory(tmp_path, database_url, redis_url, wait_until, warm, hq, more_environment=OFTEN) as factory:
        yield factory


def lying(factory: Factory) -> int:
    with redis.Redis.from_url(factory.redis_url) as client:
        length: Any = client.llen(private_queue(FACTORY))
    return length


def logged(factory: Factory, event: str) -> Callable[[], bool]:
    return lambda: event in factory.log()


def test_beats_go_on_with_all_slots_busy_and_redis_gone(
    tmp_path: Path, database_url: str, wait_until: Callable[..., Any], warm: WarmStarts, hq: SeenHq
) -> None:
    server = start_valkey(tmp_path / "valkey")
    try:
        with Factory(tmp_path, database_url, server.url, wait_until, warm, hq, more_environment=OFTEN) as factory:
            factory.start_worker()
            sent = factory.send().begun()
            wait_until(lambda: hq.beats, 10, "the first beat")
            assert hq.beats[0]["workers"][0]["connected"] is True
            os.killpg(server.process.pid, signal.SIGKILL)
            server.process.wait()
            before = len(hq.beats)

            wait_until(lambda: len(hq.beats) >= before + 2, 45, "two more beats")

            last = hq.beats[-1]
            assert [one["attempt_id"] for one in last["running"]] == [sent.attempt_id]
            assert "delegation_redis" not in last["capabilities"]
            assert (last["workers"][0]["connected"], last["workers"][0]["busy"]) == (False, 1)
            assert last["beat_number"] == len(hq.beats)
            assert factory.processes["worker"].poll() is None
    finally:
        server.stop()


def test_a_worker_that_drains_says_so_at_once_and_until_it_has_finished(factory: Factory, hq: SeenHq) -> None:
    """F-23."""
    gate = factory.folder / "gate"
    factory.start_worker()
    sent = factory.send(then="wait", gate=str(gate)).begun()
    worker = factory.processes["worker"]
    os.kill(worker.pid, signal.SIGTERM)

    def drains() -> bool:
        return bool(hq.beats) and hq.beats[-1]["registration_status"] == "draining"

    factory.wait(drains, 10, "HQ hears of it")
    before = len(hq.beats)
    factory.wait(lambda: len(hq.beats) > before, 25, "the pulse goes on")
    last = hq.beats[-1]
    assert (last["registration_status"], last["slots"]) == ("draining", 0)
    assert [one["attempt_id"] for one in last["running"]] == [sent.attempt_id]
    assert last["workers"][0]["loop_age_seconds"] is None, "a loop that has ended is none that stands still"

    gate.touch()

    assert sent.report()["outcome"] == "done"
    factory.wait(lambda: worker.poll() is not None, 20, "the worker ends")
    assert worker.poll() == 0
    assert (hq.beats[-1]["registration_status"], hq.beats[-1]["workers"]) == ("offline", []), "it took its leave"


def test_a_paused_factory_finishes_what_runs_and_leaves_the_rest_where_it_is(factory: Factory, hq: SeenHq) -> None:
    """F-21."""
    gate = factory.folder / "gate"
    factory.start_worker()
    first = factory.send(then="wait", gate=str(gate)).begun()
    factory.spool.note(notes.PAUSED, notes.SET)
    factory.wait(logged(factory, "gate_closed"), 10, "the worker hears of it")
    second = factory.send(then="end")
    gate.touch()

    assert first.report()["outcome"] == "done"
    seen = _echo_is_not_heard(factory)
    assert lying(factory) == seen + 1
    assert not second.told.exists()

    factory.spool.note(notes.PAUSED, notes.UNSET)

    assert second.report()["outcome"] == "done"
    factory.wait(lambda: factory.spool.noted(notes.ECHO_HEARD), 10, "and what lay there besides")


def _echo_is_not_heard(factory: Factory) -> int:
    """Redis answered this worker's last question, if it had one, before this returns: then it asks no more."""
    factory.broker.echo([EchoMessage(1, "e-1", private_queue(FACTORY), FACTORY)])

    def settled() -> bool:
        with redis.Redis.from_url(factory.redis_url) as client:
            clients: Any = client.client_list()
        return not any(one["cmd"] == "brpop" and "b" in one["flags"] for one in clients)

    factory.wait(settled, 20, "nobody waits for a message")
    assert factory.spool.noted(notes.ECHO_HEARD) is None
    return 1


def test_a_factory_that_was_paused_takes_nothing_when_it_starts_before_hq_says_so(factory: Factory, hq: SeenHq) -> None:
    """F-20."""
    factory.spool.note(notes.PAUSED, notes.SET)
    sent = factory.send(then="end")
    factory.start_worker()
    factory.wait(lambda: hq.beats, 10, "the first beat")
    assert hq.beats[0]["registration_status"] == "paused"
    assert (lying(factory), sent.told.exists()) == (1, False)

    factory.spool.note(notes.PAUSED, notes.UNSET)

    assert sent.report()["outcome"] == "done"


def test_an_echo_is_heard_by_the_consumer_and_goes_home_with_a_beat(factory: Factory, hq: SeenHq) -> None:
    factory.start_worker()
    factory.broker.echo([EchoMessage(1, "e-7", private_queue(FACTORY), FACTORY)])

    factory.wait(lambda: factory.spool.noted(notes.ECHO_HEARD) == "e-7", 10, "the echo is heard")

    assert lying(factory) == 0
    assert factory.send(then="end").report()["outcome"] == "done"
    factory.wait(lambda: hq.beats and hq.beats[-1]["echo"] == "e-7", 25, "HQ hears the echo")
