"""From outside it can be seen whether HQ's loops go round, and whether the workers of its nodes speak: not by ids."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from frozen_server import frozen
from ledger_at_work import LedgerAtWork

from corporation.cli.checks_of_progress import LATE_SECONDS, loops_go_round, node_works, nodes_of, progress
from corporation.cli.finding import Finding
from corporation.db import transaction
from corporation.embedded.stack_environment import Stack
from corporation.embedded.stack_facts import facts_of
from corporation.embedded.stack_state import StateFolder
from corporation.engine.loop_names import LOOPS, NEED_REDIS, wanted_loops
from corporation.factories.node_signs import NodeSigns, read_nodes
from corporation.factories.signs_of_life import WorkerSign
from corporation.factories.store import BY_GATEWAY, Beat, record_beat
from corporation.loops.forever import Running
from corporation.loops.ticks import LoopSign, Teller, read_ticks
from corporation.settings import Settings, load_settings

Wait = Callable[..., Any]
HOSTILE = {"uptime_seconds": "x", "heartbeat_source": "pulse"}


class Resting:
    """A loop that never ticks: what is told of it is all there is."""

    channels = ()

    def __init__(self, name: str, sweep_seconds: float = 2.0) -> None:
        self.name = name
        self.sweep_seconds = sweep_seconds

    def tick(self) -> bool:
        """Never called."""
        return False


def ticks(ledger: LedgerAtWork) -> dict[str, LoopSign]:
    with transaction(ledger.engine) as connection:
        return {one.loop: one for one in read_ticks(connection)}


def test_a_process_tells_how_long_ago_each_of_its_loops_did_a_good_round(ledger: LedgerAtWork) -> None:
    good, failing = Running(Resting("sender"), Event()), Running(Resting("publisher", 5.0), Event())
    failing.good_at -= 90
    failing.failed(TimeoutError("x"))
    Teller(ledger.engine, [good, failing]).tick()

    told = ticks(ledger)
    assert (told["sender"].error, told["publisher"].error) == ("", "TimeoutError")
    assert told["sender"].good_seconds < 30 <= 90 <= told["publisher"].good_seconds
    assert (told["publisher"].every_seconds, told["publisher"].told_seconds < 30) == (5.0, True)


def test_of_two_engines_the_one_counts_that_did_the_round_last(ledger: LedgerAtWork) -> None:
    lively, stuck = Running(Resting("sender"), Event()), Running(Resting("sender"), Event())
    stuck.good_at -= 500
    for one in (lively, stuck, lively, stuck):
        Teller(ledger.engine, [one]).tick()

    assert ticks(ledger)["sender"].good_seconds < 100


@contextmanager
def engine_at_work(url: str, redis_url: str, folder: Path, wait_until: Wait) -> Generator[subprocess.Popen[bytes]]:
    ready, log = folder / "ready", folder / "engine.log"
    environ = {
        "PATH": os.environ["PATH"], "UA_DOTENV_PATH": os.devnull, "FACTORY_ROLE": "HEADQUARTERS",
        "UA_DATABASE_URL": url, "UA_REDIS_URL": redis_url, "UA_FACTORY_ID": "vm-hq",
    }  # fmt: skip
    command = [sys.executable, "-m", "corporation.engine", "--ready-file", str(ready)]
    with log.open("wb") as output, subprocess.Popen(command, env=environ, stdout=output, stderr=output) as engine:
        try:
            wait_until(lambda: ready.exists() or engine.poll() is not None, 60, "the engine is ready")
            yield engine
        finally:
            engine.send_signal(signal.SIGCONT)
            engine.terminate()


def of_engine(settings: Settings, folder: Path) -> list[Finding]:
    return [one for one in progress(settings, StateFolder(folder), redis_answers=True) if one.name == "engine"]


def test_an_engine_that_stands_still_is_noticed_and_so_is_that_it_goes_on(
    ledger: LedgerAtWork, ledger_url: str, redis_url: str, tmp_path: Path, wait_until: Wait
) -> None:
    settings = load_settings({"FACTORY_ROLE": "HEADQUARTERS", "UA_DATABASE_URL": ledger_url, "UA_FACTORY_ID": "vm-hq"})
    [before] = of_engine(settings, tmp_path)
    assert (before.grade, "no engine ever ran" in before.what) == ("problem", True)

    with engine_at_work(ledger_url, redis_url, tmp_path, wait_until) as engine:
        [well] = of_engine(settings, tmp_path)
        with frozen(engine.pid):
            # Time passes, and nobody tells anything.
            ledger.sql("UPDATE corporation.loop_ticks SET told_at = told_at - interval '2 minutes', "
                       "good_at = good_at - interval '2 minutes'")  # fmt: skip
            [stands_still] = of_engine(settings, tmp_path)
        wait_until(lambda: of_engine(settings, tmp_path)[0].grade == "ok", 60, "it goes on")

    assert (well.grade, well.what.startswith("all 9 loops go round")) == ("ok", True)
    assert (stands_still.grade, stands_still.exit_code) == ("problem", 69)
    assert stands_still.what.startswith("it gave no sign for 2 min: it has ended or stands still")


def sign(loop: str, *, told: float = 3.0, good: float = 4.0, error: str = "") -> LoopSign:
    return LoopSign(loop, 2.0, told, good, error)


def test_one_loop_that_stands_still_is_named_and_so_is_one_that_fails() -> None:
    said = [
        sign("dispatcher", good=LATE_SECONDS + 40),
        sign("sender", good=LATE_SECONDS + 40, error="BrokerUnavailableError"),
        sign("collector"),
    ]
    found = loops_go_round(["dispatcher", "sender", "collector"], said, redis_answers=True)

    assert [one.what for one in found] == [
        "the dispatcher did no good round for 100 s and tells no error: it stands still",
        "the sender did no good round for 100 s, the last one failed (BrokerUnavailableError)",
    ]
    assert {one.grade for one in found} == {"problem"}


def test_what_fails_because_redis_is_away_is_not_told_twice() -> None:
    late = [sign("sender", good=1000.0, error="BrokerUnavailableError"), sign("dispatcher")]

    assert loops_go_round(["sender", "dispatcher"], late, redis_answers=False) == []


def test_a_loop_that_no_process_runs_is_named() -> None:
    [found] = loops_go_round(["sender", "importer"], [sign("sender")], redis_answers=True)
    assert (found.grade, found.what) == ("problem", "no process runs the importer")

    [found] = loops_go_round(["sender", "importer"], [sign("sender"), sign("importer", told=100)], redis_answers=True)
    assert found.what == "no process runs the importer"


def test_loops_that_are_switched_off_are_missed_by_nobody() -> None:
    settings = load_settings({"FACTORY_ROLE": "HEADQUARTERS", "UA_DELEGATION_REDIS_ENABLED": "0"})
    wanted = wanted_loops(settings)
    old = [sign("importer", told=10_000.0, good=10_000.0)]

    assert set(LOOPS) - set(wanted) == {"importer", "publisher"}
    assert loops_go_round(wanted, [*map(sign, wanted), *old], redis_answers=True)[0].grade == "ok"
    assert wanted_loops(load_settings({"FACTORY_ROLE": "LOCAL_WORKER"})) == ()
    assert loops_go_round((), [], redis_answers=True) == []
    assert set(LOOPS) >= NEED_REDIS


HQ = {"hq-worker", "control", "beat"}
TAKES = WorkerSign("mission@vm-hq", slots=2, queues=["headquarters"], loop_age_seconds=1.0, connected=True)


@pytest.mark.parametrize(
    ("signs", "grade", "words"),
    [
        (NodeSigns(10.0, 15.0, [TAKES]), "ok", "vm-hq was heard of 10 s ago"),
        (NodeSigns(), "problem", "those of vm-hq were never heard of (hq-worker and control and beat)"),
        (NodeSigns(90.0, 15.0, [TAKES]), "problem", "those of vm-hq were not heard of for 90 s"),
        (NodeSigns(5.0, 15.0, []), "problem", "vm-hq has no mission worker that takes anything"),
        (NodeSigns(5.0, 15.0, [WorkerSign("pull", slots=2, queues=["https"])]), "problem", "vm-hq has no mission"),
        (NodeSigns(5.0, 15.0, [TAKES], by_pulse=True), "warning", "no heartbeat of vm-hq was sent in time"),
        (NodeSigns(500.0, 15.0, [], quarantined=True), "warning", "vm-hq is in quarantine"),
    ],
)  # fmt: skip
def test_a_nodes_workers_are_judged_by_what_they_said_of_themselves(signs: NodeSigns, grade: str, words: str) -> None:
    [found] = node_works("vm-hq", HQ, signs)

    assert (found.grade, found.what.startswith(words)) == (grade, True)


def test_a_worker_that_lives_and_takes_nothing_is_named() -> None:
    zombie = WorkerSign("mission@vm-hq", slots=2, queues=["headquarters"], loop_age_seconds=700.0, connected=True)
    [found] = node_works("vm-hq", HQ, NodeSigns(5.0, 15.0, [zombie]))

    assert found.what == "mission@vm-hq lives and takes nothing from its queue"


def test_what_the_api_says_under_the_nodes_name_is_no_word_of_its_workers(ledger: LedgerAtWork) -> None:
    young, old = ({"uptime_seconds": seconds, "heartbeat_source": "pulse"} for seconds in (20.0, 4000.0))
    with transaction(ledger.engine) as connection:
        record_beat(connection, Beat("vm-hq", BY_GATEWAY))
        for name, metadata in (("young", young), ("old", old), ("odd", HOSTILE)):
            record_beat(connection, Beat(name, "api_registration", metadata=metadata, workers=[TAKES]))
        found = read_nodes(connection, ["vm-hq", "young", "old", "odd", "unknown"])

    assert (found["vm-hq"].silent_seconds, found["unknown"]) == (None, NodeSigns())
    assert (found["vm-hq"].is_silent, found["old"].is_silent) == (True, False)
    assert [found[name].by_pulse for name in ("young", "old", "odd")] == [False, True, False]
    assert found["old"].workers[0].slots == 2


def test_beside_headquarters_of_a_running_stack_its_factory_is_asked_for(tmp_path: Path) -> None:
    url = "postgresql://hq:word@127.0.0.1/x"
    settings = load_settings({"FACTORY_ROLE": "HEADQUARTERS", "UA_DATABASE_URL": url, "UA_FACTORY_ID": "desk-hq"})
    folder = StateFolder(tmp_path / "state")
    folder.prepare()
    folder.write_facts(facts_of(Stack(folder.path, "python", "desk", "", url, 8002, 5555, "t", "j", "f", {}), {}))
    alone = nodes_of(settings, folder)
    with folder.held():
        together = nodes_of(settings, folder)

    assert alone == {"desk-hq": {"hq-worker", "control", "beat"}}
    assert together == {"desk-hq": {"hq-worker"}, "desk": {"factory-worker", "control", "beat"}}
