"""What does not stop by itself is killed, and what the killed leave behind is ended too; with real workers."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis
from factory_at_work import Factory, SeenHq, Sent
from warm_starts import WarmStarts

from corporation.federation.processes import ProcessIdentity
from corporation.federation.spool import UnderWay
from corporation.missions.outcomes import Cancelled, TimedOut
from factory_tasks.warden import PATIENCE_SECONDS, deadline_of, last_word_on

ALL = ["program", "daemon"]
STRANGER = ProcessIdentity(2**22 + 1, 1.0)


@pytest.fixture
def factory(
    tmp_path: Path, database_url: str, redis_url: str, wait_until: Callable[..., Any], warm: WarmStarts
) -> Iterator[Factory]:
    """A factory with one worker that has one slot; nothing of it is there before or after."""
    with SeenHq() as hq, Factory(tmp_path, database_url, redis_url, wait_until, warm, hq) as factory:
        factory.start_worker()
        yield factory


def under_way(**known: Any) -> UnderWay:
    nothing = {"begun_at": None, "time_limit": None, "stop_why": None, "stop_at": None}
    return UnderWay("at-1", STRANGER, **{**nothing, **known})


@pytest.mark.parametrize(
    ("attempt", "deadline"),
    [
        (under_way(), float("inf")),
        (under_way(begun_at=100.0, time_limit=60.0), 190.0),
        (under_way(stop_why="x", stop_at=50.0), 50.0 + PATIENCE_SECONDS),
        (under_way(begun_at=100.0, time_limit=60.0, stop_why="x", stop_at=101.0), 101.0 + PATIENCE_SECONDS),
        (under_way(begun_at=100.0, time_limit=1.0, stop_why="x", stop_at=130.9), 131.0),
    ],
)
def test_the_time_to_kill_is_the_earlier_of_stop_and_time_limit(attempt: UnderWay, deadline: float) -> None:
    """S-31: the grace begins at the limit."""
    assert deadline_of(attempt, grace_seconds=30.0) == deadline


def test_what_was_asked_to_stop_was_cancelled_also_when_its_time_was_up() -> None:
    assert last_word_on(under_way(begun_at=1.0, time_limit=60.0, stop_why="x", stop_at=1.0)) == Cancelled("x")
    assert isinstance(last_word_on(under_way(begun_at=1.0, time_limit=60.0)), TimedOut)


def test_at_the_time_limit_a_handler_is_interrupted(factory: Factory) -> None:
    """S-31, the soft stop."""
    sent = factory.send(starts=ALL, seconds=1)

    assert sent.report()["outcome"] == "timed_out"
    assert sent.left() == []
    assert factory.send(then="end").begun().pids[0] == sent.pids[0]


@pytest.mark.parametrize("then", ["swallow", "ignore", "in_c"])
def test_after_its_grace_a_handler_is_killed_with_all_it_started(factory: Factory, then: str) -> None:
    """S-31, the hard stop: 1 s limit, 1 s grace. It comes before Celery's own, 15 s later."""
    sent = factory.send(starts=ALL, then=then, seconds=1).begun()
    assert sent.gone() < 8

    assert sent.report()["outcome"] == "timed_out"
    assert sent.report()["error"] == "the time limit of 1 s passed, and it was killed with all it started"
    assert factory.send(then="end").report()["outcome"] == "done"


def test_a_killed_attempt_is_reported_once_and_its_message_is_gone(factory: Factory) -> None:
    """The message comes back when its process dies; it must neither run the work again nor report a second time."""
    sent = factory.send(starts=ALL, then="ignore").begun()
    factory.spool.request_stop(sent.attempt_id, "no longer wanted")
    sent.report()
    first = row_version(factory, sent)
    with redis.Redis.from_url(factory.redis_url) as client:
        factory.wait(lambda: not client.exists("unacked:desk-7", "factory.desk-7"), 20, "the message acknowledged")

    assert factory.log().count("attempt_killed") == 1
    assert row_version(factory, sent) == first
    assert factory.spool.unreported() == []
    assert not factory.spool.running()


def row_version(factory: Factory, sent: Sent) -> Any:
    """What changes with every write of the mailbox's row."""
    statement = "SELECT xmin::text, status FROM mailbox.celery_taskmeta WHERE task_id = %s"
    return factory.db.execute(statement, (sent.attempt_id,)).fetchone()


def test_what_a_process_of_the_pool_leaves_when_it_is_killed_by_others_is_ended(factory: Factory) -> None:
    """The worker itself lives on: it inherits the orphans, and reports the attempt when none is left."""
    sent = factory.send(starts=ALL, then="die").begun()
    report = sent.report()

    assert sent.left() == []
    assert report["outcome"] == "lost"
    assert factory.send(then="end").report()["outcome"] == "done"


def test_a_new_worker_ends_what_its_killed_predecessor_left(factory: Factory) -> None:
    sent = factory.send(starts=ALL).begun()
    factory.kill_alone("worker")
    factory.wait(lambda: not psutil.pid_exists(sent.pids[0]), 10, "the pool process dead with its parent")
    assert len(sent.left()) >= 2
    bystander = factory.send(starts=ALL)
    factory.start_worker()

    assert sent.left() == []
    assert sent.report()["outcome"] == "lost"
    assert len(bystander.begun().left()) >= 2


def test_a_second_worker_leaves_alone_what_the_first_one_runs(factory: Factory) -> None:
    sent = factory.send(starts=ALL).begun()
    before = sent.left()
    factory.start_worker(name="second")

    assert sent.left() == before


def test_a_worker_that_is_drained_kills_what_does_not_stop_and_tells_of_it(factory: Factory) -> None:
    sent = factory.send(starts=ALL, then="ignore").begun()
    worker = factory.processes.pop("worker")
    worker.send_signal(signal.SIGTERM)
    factory.wait(lambda: [one.slots for one in factory.spool.workers()] == [0], 10, "the worker going")
    factory.spool.request_stop(sent.attempt_id, "no longer wanted")
    worker.wait(30)

    assert sent.left() == []
    assert sent.report()["outcome"] == "cancelled"


def test_a_worker_that_is_shut_down_cold_leaves_nothing(factory: Factory) -> None:
    sent = factory.send(starts=ALL).begun()
    factory.stop("worker", signal.SIGQUIT)

    assert sent.left() == []


def test_a_handler_in_a_solo_pool_is_thrown_out_too(factory: Factory) -> None:
    """As far as it goes: its process is the worker's own, so nobody kills it and nobody ends what it left."""
    factory.stop("worker")
    factory.start_worker("-P", "solo", name="solo")
    sent = factory.send().begun()
    factory.spool.request_stop(sent.attempt_id, "no longer wanted")

    assert sent.report()["outcome"] == "cancelled"
    assert factory.send(then="end").report()["outcome"] == "done"


def test_a_handler_in_a_pool_of_threads_is_told_by_its_flag(factory: Factory) -> None:
    factory.stop("worker")
    factory.start_worker("-P", "threads", name="threads")
    sent = factory.send("patient").begun()
    factory.spool.request_stop(sent.attempt_id, "no longer wanted")

    assert sent.report()["outcome"] == "cancelled"
    assert factory.send(then="end").report()["outcome"] == "done"
