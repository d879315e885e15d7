"""HQ's loops on a real ledger: woken at once, swept slowly, safe beside each other, and never in each other's way."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from builders import rules
from ledger_at_work import AT_ONCE, LedgerAtWork

from corporation import clock
from corporation.db import transaction
from corporation.engine.collector import Collector
from corporation.engine.dispatcher import Dispatcher
from corporation.engine.rescuer import Rescuer
from corporation.engine.sender import Sender
from corporation.factories.control import Word, flag
from corporation.loops.forever import Loop, Running, run_forever
from corporation.loops.running import run
from corporation.loops.wakeups import listen_forever
from corporation.missions.outbox import BrokerUnavailableError
from corporation.missions.outcomes import Done, Failed
from corporation.wakeups import COLLECT, DISPATCH, RECALL, SEND, wake

Wait = Callable[..., Any]


@contextmanager
def in_threads(stop: Event, *works: Callable[[], None]) -> Generator[None]:
    """Each of `works` runs in a thread of its own, which must end soon after `stop` is set."""
    threads = [Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(30)
    assert not [thread for thread in threads if thread.is_alive()]


def dispatcher(ledger: LedgerAtWork, monotonic: Callable[[], float] = lambda: 0.0) -> Dispatcher:
    return Dispatcher(ledger.engine, rules(), clock.new_id, monotonic)


def collector(ledger: LedgerAtWork, batch: int = 500) -> Collector:
    return Collector(ledger.engine, AT_ONCE, lambda: 0.5, batch)


def test_the_dispatcher_says_whether_there_may_be_more_to_send(ledger: LedgerAtWork) -> None:
    ledger.beat()
    ledger.publish("j-1")

    assert [dispatcher(ledger).tick(), dispatcher(ledger).tick()] == [True, False]
    assert ledger.state() == "queued"


def test_the_dispatcher_explains_what_waits_but_not_more_often_than_every_two_seconds(ledger: LedgerAtWork) -> None:
    now = [0.0]
    loop = dispatcher(ledger, lambda: now[0])
    loop.tick()
    ledger.publish("j-1")
    now[0] = 1.9
    loop.tick()

    assert ledger.mission().state_reason == "behind_others"
    now[0] = 2.0
    loop.tick()
    assert ledger.mission().state_reason == "no_live_factory"


def test_the_dispatcher_ends_what_is_past_its_deadline(ledger: LedgerAtWork) -> None:
    ledger.publish("j-1", ttl_seconds=60)
    ledger.sql("UPDATE corporation.missions SET deadline_at = now()")
    dispatcher(ledger).tick()

    assert ledger.state() == "timed_out"


def test_sender_and_collector_say_whether_there_may_be_more(ledger: LedgerAtWork) -> None:
    ledger.beat()
    ledger.publish("a", "b", "c")
    ledger.dispatch()
    sender = Sender(ledger.engine, ledger.broker, batch=2)

    assert [sender.tick(), sender.tick(), sender.tick()] == [True, False, False]
    for job_id in ("a", "b", "c"):
        ledger.report(ledger.attempt_of(job_id))
    assert [collector(ledger, 2).tick(), collector(ledger, 2).tick(), collector(ledger, 2).tick()] == [
        True,
        False,
        False,
    ]


def test_a_loop_outlives_an_outage_and_then_does_what_waited(ledger: LedgerAtWork, wait_until: Wait) -> None:
    ledger.beat()
    ledger.publish("j-1")
    ledger.dispatch()
    ledger.broker.away = True
    stop = Event()
    sender = Sender(ledger.engine, ledger.broker, sweep_seconds=0.01)
    with pytest.raises(BrokerUnavailableError):
        sender.tick()

    with in_threads(stop, lambda: run_forever(Running(sender, stop))):
        ledger.broker.away = False
        wait_until(lambda: ledger.broker.sent, 20, "the message is sent after the outage")


class Sleeping:
    """A loop that is only ever woken; these tests look at its alarm."""

    name = "sleeping"
    sweep_seconds = 3600.0

    def __init__(self, channel: str) -> None:
        self.channels = (channel,)

    def tick(self) -> bool:
        """Never called."""
        return False


class Listening:
    """One sleeping loop for each channel, and who was woken."""

    def __init__(self) -> None:
        self.stop = Event()
        self.loops = {channel: Running(Sleeping(channel), self.stop) for channel in (DISPATCH, SEND, COLLECT)}

    def woken_by(self, act: Callable[[], Any], *channels: str) -> None:
        """`act` wakes the loops of `channels` and no others."""
        self.rest()
        act()
        for channel in channels:
            assert self.loops[channel].wake.wait(20), f"{channel} was not woken"
        assert {channel for channel, one in self.loops.items() if one.wake.is_set()} == set(channels)

    def rest(self) -> None:
        """Everybody was woken, as after every connect, and goes to sleep again."""
        for one in self.loops.values():
            assert one.wake.wait(20), "the listener did not connect"
        for one in self.loops.values():
            one.wake.clear()


@pytest.fixture
def listening(ledger: LedgerAtWork, ledger_url: str) -> Iterator[Listening]:
    """A listener on the ledger of the test."""
    one = Listening()
    with in_threads(one.stop, lambda: listen_forever(ledger_url, list(one.loops.values()), one.stop)):
        yield one


def test_a_new_mission_wakes_the_dispatcher(ledger: LedgerAtWork, listening: Listening) -> None:
    listening.woken_by(lambda: ledger.publish("j-1"), DISPATCH)


def test_a_beat_wakes_the_dispatcher(ledger: LedgerAtWork, listening: Listening) -> None:
    listening.woken_by(ledger.beat, DISPATCH)


def test_a_pause_gives_the_queue_back_at_once_and_not_with_the_next_sweep(
    ledger: LedgerAtWork, ledger_url: str, tmp_path: Path, wait_until: Wait
) -> None:
    ledger.hand_out("j-1")
    stop, ready = Event(), tmp_path / "ready"
    sweeper = Rescuer(ledger.engine, ledger.broker, AT_ONCE, 180, lambda: 0.5, sweep_seconds=3600.0)
    with in_threads(stop, lambda: run([Running(sweeper, stop)], ledger_url, stop, ready)):
        wait_until(ready.exists, 30, "the rescuer has swept once")
        with transaction(ledger.engine) as connection:
            flag(connection, ["desk-7"], Word("pause", "ana"))
            wake(connection, RECALL)
        wait_until(lambda: ledger.state() == "waiting", 20, "it waits for another factory")

    assert ledger.attempts()[0].state == "withdrawn"


def test_an_attempt_wakes_the_sender(ledger: LedgerAtWork, listening: Listening) -> None:
    ledger.beat()
    ledger.publish("j-1")
    wait_for_quiet(ledger, listening)

    listening.woken_by(ledger.dispatch, SEND)


def test_a_report_wakes_the_collector_and_its_end_the_dispatcher(ledger: LedgerAtWork, listening: Listening) -> None:
    [attempt] = ledger.hand_out("j-1")
    wait_for_quiet(ledger, listening)

    listening.woken_by(lambda: ledger.report(attempt), COLLECT)
    for one in listening.loops.values():
        one.wake.set()
    listening.woken_by(ledger.collect, DISPATCH)


def wait_for_quiet(ledger: LedgerAtWork, listening: Listening) -> None:
    """All notifications so far have arrived: they come in order, so the one sent last is the last to wait for."""
    listening.rest()
    for channel in (DISPATCH, SEND, COLLECT):
        ledger.sql("SELECT pg_notify(:channel, '')", channel=channel)
    assert all(one.wake.wait(20) for one in listening.loops.values())


def test_a_listener_that_lost_its_connection_comes_back_and_wakes_everybody(
    ledger: LedgerAtWork, listening: Listening
) -> None:
    listening.rest()
    ledger.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'corporation-wakeups'")

    listening.rest()
    for one in listening.loops.values():
        one.wake.set()
    listening.woken_by(lambda: ledger.publish("j-1"), DISPATCH)


def engine_loops(ledger: LedgerAtWork) -> list[Loop]:
    rescuer = Rescuer(ledger.engine, ledger.broker, AT_ONCE, 180, lambda: 0.5)
    return [dispatcher(ledger), Sender(ledger.engine, ledger.broker), collector(ledger), rescuer]


def test_the_whole_engine_takes_missions_out_and_brings_them_home(
    ledger: LedgerAtWork, ledger_url: str, tmp_path: Path, wait_until: Wait
) -> None:
    stop, ready = Event(), tmp_path / "ready"
    running = [Running(loop, stop) for loop in engine_loops(ledger)]
    ledger.beat(slots=10)

    with in_threads(stop, lambda: run(running, ledger_url, stop, ready)):
        wait_until(ready.exists, 30, "the engine is ready")
        ledger.publish(*(f"j-{number}" for number in range(20)))
        for message in wait_until(lambda: len(ledger.broker.sent) == 20 and ledger.broker.sent, 20, "all are sent"):
            ledger.report(message.attempt_id)
        wait_until(lambda: unfinished(ledger) == 0, 20, "all are finished")
    assert not ready.exists()


def unfinished(ledger: LedgerAtWork) -> int:
    return len(ledger.sql("SELECT 1 FROM corporation.missions WHERE finished_at IS NULL"))


class Factory:
    """A factory that does with each attempt what its number says: report, fail, fall silent, or report too late."""

    def __init__(self, ledger: LedgerAtWork, factory_id: str) -> None:
        self.ledger = ledger
        self.factory_id = factory_id
        self.held: list[str] = []
        self.late: list[str] = []

    def work(self) -> None:
        """Take what lies in the queue, and deal with it."""
        for message in self.ledger.broker.take(f"factory.{self.factory_id}"):
            fate = int(message.job_id.removeprefix("j-")) % 5 if message.attempt == 1 else 5
            self.held.append(message.attempt_id)
            if fate == 0:
                self.ledger.report(message.attempt_id, Failed("once"))
            elif fate in (1, 2):
                self.late.append(message.attempt_id)
                if fate == 1:
                    self.hear([message.attempt_id])
            else:
                self.ledger.report(message.attempt_id, Done({}))

    def beat(self) -> None:
        """Say that it lives and that it works on what it took lately, most of which has ended by now."""
        self.ledger.beat(self.factory_id, slots=20)
        self.hear([one for one in self.held[-30:] if one not in self.late])

    def hear(self, attempt_ids: Sequence[str]) -> None:
        """Speak of these attempts."""
        self.ledger.hear(*attempt_ids, factory_id=self.factory_id, lease_seconds=LEASE_SECONDS)

    def report_late(self) -> None:
        """Report those that were given up meanwhile."""
        lost = self.ledger.sql(
            "SELECT id::text FROM corporation.attempts WHERE state = 'lost' AND id::text = ANY(:ids)", ids=self.late
        )
        for row in lost:
            self.late.remove(row.id)
            self.ledger.report(row.id, Done({}))


LEASE_SECONDS = 0.5
"""So short that many attempts are given up while the test runs."""


def test_all_loops_and_beats_at_the_same_time_end_two_hundred_missions_without_a_deadlock(
    ledger: LedgerAtWork, wait_until: Wait
) -> None:
    stop, errors = Event(), list[Exception]()
    factories = [Factory(ledger, "a"), Factory(ledger, "b")]
    for factory in factories:
        factory.beat()
    ledger.publish(*(f"j-{number}" for number in range(200)), max_retries=50)
    sender = Sender(ledger.engine, ledger.broker, 20)
    rescuer = Rescuer(ledger.engine, ledger.broker, AT_ONCE, LEASE_SECONDS, lambda: 0.5, lambda: 0.0, 20)
    steps: list[Callable[[], Any]] = [
        *(Dispatcher(ledger.engine, rules(LEASE_SECONDS, batch=10), clock.new_id, explain_every_seconds=0).tick
          for _ in range(2)),
        *(collector(ledger, 10).tick for _ in range(2)),
        sender.tick,
        sender.tick,
        rescuer.tick,
        rescuer.tick,
        *(step for one in factories for step in (one.work, one.beat, one.beat, one.report_late)),
    ]  # fmt: skip

    def over_and_over(step: Callable[[], Any]) -> None:
        while not stop.is_set():
            try:
                step()
            except Exception as error:
                errors.append(error)
                stop.set()
            stop.wait(0.002)  # the other threads must come to their turn on two cores

    with in_threads(stop, *(partial(over_and_over, step) for step in steps)):
        wait_until(lambda: errors or unfinished(ledger) == 0, 90, "all two hundred are final")

    assert errors == []
    for factory in factories:
        factory.report_late()
    ledger.collect()
    assert ledger.sql("SELECT 1 FROM corporation.attempts WHERE state = 'lost'")
    assert ledger.sql("SELECT 1 FROM corporation.mission_events WHERE type = 'late_result'")


def start_engine(tmp_path: Path, *arguments: str, **environ: str) -> "subprocess.Popen[str]":
    """The engine as a process with only these variables of ours."""
    inherited = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")}
    return subprocess.Popen(
        [sys.executable, "-m", "corporation.engine", *arguments],
        env=inherited | environ,
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_engine_is_ready_once_every_loop_ticked_and_ends_cleanly_on_sigterm(
    ledger: LedgerAtWork, ledger_url: str, tmp_path: Path, wait_until: Wait
) -> None:
    ready = tmp_path / "ready"
    engine = start_engine(
        tmp_path, "--ready-file", str(ready), UA_DATABASE_URL=ledger_url, UA_REDIS_URL="redis://127.0.0.1:1/0"
    )
    try:
        wait_until(lambda: ready.exists() or engine.poll() is not None, 60, "the engine is ready or gave up")
        assert engine.poll() is None
        ledger.publish("j-1")
        wait_until(lambda: ledger.mission().state_reason, 20, "the dispatcher explains why it waits")
        engine.send_signal(signal.SIGTERM)
        engine.communicate(timeout=30)
    finally:
        engine.kill()
        engine.communicate()

    assert engine.returncode == 0
    assert not ready.exists()


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({}, "UA_DATABASE_URL is missing"),
        ({"UA_DATABASE_URL": "postgresql://h/d", "FACTORY_ROLE": "LOCAL_WORKER"}, "runs no engine"),
        ({"UA_DATABASE_URL": "mysql://u:hush-hush@h/d"}, "UA_DATABASE_URL: must start with"),
    ],
)
def test_an_engine_that_cannot_start_says_why_and_that_starting_it_again_will_not_help(
    tmp_path: Path, environ: dict[str, str], said: str
) -> None:
    engine = start_engine(tmp_path, **environ)
    _, errors = engine.communicate(timeout=60)

    assert engine.returncode == 78
    assert said in errors
    assert "hush" not in errors
    assert "Traceback" not in errors
