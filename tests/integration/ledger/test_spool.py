"""A factory's memory: an attempt is run once, its report survives, and a dead process's work is told as lost."""

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier, Event
from typing import Any

import psutil
import pytest

from corporation.federation.processes import ProcessIdentity, my_identity
from corporation.federation.spool import (
    Died,
    Duplicate,
    Finished,
    Fresh,
    Reception,
    Spool,
    UnderWay,
    handed_back_report,
    lost_report,
    report_all,
)

DONE: dict[str, Any] = {"outcome": "done", "result": {"a": "ü"}}
NOW = "2026-06-01T08:00:00.000000+00:00"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "spool.db"


@pytest.fixture
def spool(path: Path) -> Spool:
    return Spool(path)


@pytest.fixture
def dead() -> ProcessIdentity:
    """A process that was there and is gone."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait(30)
    return ProcessIdentity(child.pid, 1.0)


@pytest.fixture
def other() -> Iterator[ProcessIdentity]:
    """Another living process."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield ProcessIdentity(child.pid, psutil.Process(child.pid).create_time())
    child.communicate(b"\n", 30)


def accept(spool: Spool, attempt_id: str = "at-1", job_id: str = "j-1", attempt: int = 1,
           owner: ProcessIdentity | None = None) -> Reception:  # fmt: skip
    return spool.accept(attempt_id, job_id, attempt, owner or my_identity(), NOW)


def begin(spool: Spool, attempt_id: str = "at-1", job_id: str = "j-1", owner: ProcessIdentity | None = None) -> None:
    """The attempt was received by `owner` and runs."""
    who = owner or my_identity()
    assert accept(spool, attempt_id, job_id, owner=who) == Fresh()
    assert spool.begin(attempt_id, who, 100.0, 60.0)


def test_an_attempt_nobody_saw_is_the_callers_to_run(spool: Spool) -> None:
    assert accept(spool) == Fresh()
    assert [(one.attempt_id, one.job_id, one.started_at) for one in spool.running()] == [("at-1", "j-1", NOW)]


def test_a_second_copy_is_dropped_while_the_first_runs(spool: Spool, other: ProcessIdentity) -> None:
    accept(spool, owner=other)

    assert isinstance(accept(spool), Duplicate)
    assert len(spool.running()) == 1


def test_a_copy_of_what_ended_gets_the_report_and_not_the_work(spool: Spool) -> None:
    accept(spool)
    spool.finish("at-1", DONE)

    assert accept(spool) == Finished(DONE)
    spool.mark_reported("at-1")
    assert isinstance(accept(spool), Duplicate)


def test_an_attempt_whose_process_died_at_work_is_never_run_again(spool: Spool, dead: ProcessIdentity) -> None:
    begin(spool, owner=dead)

    assert accept(spool) == Died(lost_report())
    assert accept(spool) == Died(lost_report())
    spool.finish("at-1", lost_report())
    assert accept(spool) == Finished(lost_report())


def test_an_attempt_whose_process_died_before_it_began_is_the_next_ones_to_run(
    spool: Spool, dead: ProcessIdentity, other: ProcessIdentity
) -> None:
    accept(spool, owner=dead)

    assert accept(spool, owner=other) == Fresh()
    assert isinstance(accept(spool), Duplicate)
    assert not spool.begin("at-1", dead, 100.0, 60.0)
    assert spool.begin("at-1", other, 100.0, 60.0)


def test_an_attempt_that_never_began_is_not_taken_up_when_a_later_one_is_here(
    spool: Spool, dead: ProcessIdentity
) -> None:
    accept(spool, owner=dead)
    accept(spool, "at-2", attempt=2)

    assert isinstance(accept(spool), Duplicate)


def test_an_attempt_begins_once(spool: Spool) -> None:
    begin(spool)

    assert not spool.begin("at-1", my_identity(), 100.0, 60.0)
    spool.finish("at-1", DONE)
    assert not spool.begin("at-1", my_identity(), 100.0, 60.0)


def test_a_pid_that_is_used_again_is_not_the_process_that_died(spool: Spool) -> None:
    me = my_identity()
    begin(spool, owner=ProcessIdentity(me.pid, me.born - 3600))

    assert accept(spool) == Died(lost_report())


def test_an_older_attempt_than_the_last_seen_is_dropped(spool: Spool) -> None:
    accept(spool, "at-2", attempt=2)

    assert isinstance(accept(spool, "at-1", attempt=1), Duplicate)
    assert accept(spool, "at-3", attempt=3) == Fresh()
    assert accept(spool, "at-9", job_id="j-2", attempt=1) == Fresh()


def test_the_first_report_counts(spool: Spool) -> None:
    begin(spool)

    assert spool.finish("at-1", DONE)
    assert not spool.finish("at-1", lost_report())
    assert spool.unreported() == [("at-1", DONE)]


def test_what_hq_has_is_not_reported_again(spool: Spool) -> None:
    accept(spool)
    spool.finish("at-1", DONE)
    spool.mark_reported("at-1")

    assert spool.unreported() == []


def test_what_still_runs_cannot_be_called_reported(spool: Spool) -> None:
    accept(spool)
    spool.mark_reported("at-1")

    assert len(spool.running()) == 1


def test_the_dead_are_buried_and_the_living_left_alone(
    spool: Spool, dead: ProcessIdentity, other: ProcessIdentity
) -> None:
    begin(spool, "at-1", "j-1", owner=dead)
    begin(spool, "at-2", "j-2", owner=other)
    begin(spool, "at-3", "j-3", owner=dead)

    assert [one.attempt_id for one in spool.running()] == ["at-2"]
    assert spool.bury_the_dead() == 2
    assert spool.bury_the_dead() == 0
    assert [attempt_id for attempt_id, _ in spool.unreported()] == ["at-1", "at-3"]


def test_what_dies_with_a_process_that_was_told_to_stop_was_handed_back(
    spool: Spool, dead: ProcessIdentity, other: ProcessIdentity
) -> None:
    """F-23: the supervisor killed them together. While who was told lives, the stop is not to blame."""
    for number in (1, 2, 3):
        begin(spool, f"at-{number}", f"j-{number}", owner=dead)
    spool.hand_back(["at-1", "never received"], dead)
    spool.hand_back(["at-2"], other)

    assert spool.bury_the_dead() == 3
    assert spool.unreported() == [("at-1", handed_back_report()), ("at-2", lost_report()), ("at-3", lost_report())]


def test_what_was_handed_back_is_so_for_whoever_receives_it_again(spool: Spool, dead: ProcessIdentity) -> None:
    begin(spool, owner=dead)
    spool.hand_back(["at-1"], dead)

    assert accept(spool) == Died(handed_back_report())


def test_what_was_to_be_handed_back_and_was_done_in_time_is_done(spool: Spool, dead: ProcessIdentity) -> None:
    begin(spool)
    spool.hand_back(["at-1"], dead)

    assert spool.finish("at-1", DONE)
    assert spool.unreported() == [("at-1", DONE)]


def test_what_was_received_and_never_begun_waits_for_its_message(spool: Spool, dead: ProcessIdentity) -> None:
    accept(spool, "at-1", "j-1", owner=dead)
    begin(spool, "at-2", "j-2", owner=dead)

    assert spool.bury_the_dead() == 1
    assert spool.unreported() == [("at-2", lost_report())]
    assert accept(spool, "at-1", "j-1") == Fresh()


def test_what_was_to_stop_before_it_was_received_is_not_run(spool: Spool) -> None:
    assert spool.request_stop("at-1", "not needed")
    assert not spool.request_stop("at-1", "and again")

    assert accept(spool) == Duplicate("it was to stop before it was received: not needed")
    assert (spool.running(), spool.unreported()) == ([], [])


def test_only_the_newest_of_such_orders_are_kept(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("corporation.federation.spool.ALWAYS_REMEMBERED", 2)
    for number in range(5):
        spool.request_stop(f"at-{number}", "no")
    spool.forget("")

    received = [accept(spool, f"at-{number}", f"j-{number}") for number in range(5)]
    assert [isinstance(one, Duplicate) for one in received] == [False, False, False, True, True]


def test_a_stop_is_written_down_once_and_only_for_what_is_under_way(spool: Spool) -> None:
    assert spool.stop_requested("at-1") is None
    begin(spool)
    assert spool.stop_requested("at-1") is None

    assert spool.request_stop("at-1", "cancelled", 7.0)
    assert not spool.request_stop("at-1", "and again", 8.0)
    assert spool.stop_requested("at-1") == "cancelled"
    assert [(one.stop_why, one.stop_at) for one in spool.under_way()] == [("cancelled", 7.0)]
    spool.finish("at-1", DONE)
    accept(spool, "at-2", "j-2")
    spool.finish("at-2", DONE)
    assert not spool.request_stop("at-2", "too late")


def test_what_was_to_stop_and_died_has_stopped(spool: Spool, dead: ProcessIdentity) -> None:
    begin(spool, owner=dead)
    spool.request_stop("at-1", "cancelled")

    assert accept(spool) == Died({"outcome": "cancelled", "error": "cancelled"})


def test_a_stop_for_what_never_began_is_kept_for_whoever_takes_it_up(spool: Spool, dead: ProcessIdentity) -> None:
    accept(spool, owner=dead)
    spool.request_stop("at-1", "cancelled")

    assert accept(spool) == Fresh()
    assert spool.stop_requested("at-1") == "cancelled"


def test_the_warden_sees_since_when_and_how_long_an_attempt_may_run(spool: Spool, other: ProcessIdentity) -> None:
    accept(spool, "at-0", "j-0")
    accept(spool, owner=other)
    spool.begin("at-1", other, 12.5, 60)

    assert spool.under_way() == [UnderWay("at-1", other, 12.5, 60.0, None, None)]
    assert spool.owners() == {"at-0": my_identity(), "at-1": other}


def test_a_zombie_counts_as_dead(spool: Spool) -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    begin(spool, owner=ProcessIdentity(child.pid, psutil.Process(child.pid).create_time()))
    assert len(spool.running()) == 1
    assert child.stdin is not None
    child.stdin.close()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it ended, and nobody has collected it yet

    assert spool.bury_the_dead() == 1
    child.wait(30)


def test_the_newest_progress_is_kept(spool: Spool) -> None:
    accept(spool)
    spool.set_progress("at-1", '{"percent": 10}')
    spool.set_progress("at-1", '{"percent": 20}')

    assert spool.running()[0].progress == '{"percent": 20}'


@pytest.mark.parametrize("text", ["a\0b", "\ud800", "\U0001f600", "x" * 1_000_000])
def test_a_report_holds_any_text(spool: Spool, text: str) -> None:
    accept(spool)
    spool.finish("at-1", {"outcome": "failed", "error": text})

    assert spool.unreported() == [("at-1", {"outcome": "failed", "error": text})]


def test_reports_are_delivered_in_the_order_in_which_the_attempts_came(spool: Spool) -> None:
    for number in range(5):
        accept(spool, f"at-{number}", f"j-{number}")
    for number in (3, 1, 4, 0, 2):
        spool.finish(f"at-{number}", DONE)
    delivered: list[str] = []

    assert report_all(spool, lambda attempt_id, _: delivered.append(attempt_id)) == 5
    assert delivered == [f"at-{number}" for number in range(5)]
    assert report_all(spool, lambda attempt_id, _: delivered.append(attempt_id)) == 0


def test_a_delivery_that_fails_keeps_that_report_and_the_ones_behind_it(spool: Spool) -> None:
    for number in range(3):
        accept(spool, f"at-{number}", f"j-{number}")
        spool.finish(f"at-{number}", DONE)

    def deliver(attempt_id: str, _: dict[str, Any]) -> None:
        if attempt_id == "at-1":
            raise ConnectionError

    with pytest.raises(ConnectionError):
        report_all(spool, deliver)
    assert [attempt_id for attempt_id, _ in spool.unreported()] == ["at-1", "at-2"]


def test_living_workers_are_known_with_their_slots_and_queues(spool: Spool, dead: ProcessIdentity) -> None:
    spool.put_worker("b", my_identity(), 2, ["local_factory", "factory.desk-7"])
    spool.put_worker("a", my_identity(), 1, ["desk-7.control"])
    spool.put_worker("c", dead, 9, ["local_factory"])

    assert [(one.name, one.slots, one.queues) for one in spool.workers()] == [
        ("a", 1, ("desk-7.control",)),
        ("b", 2, ("local_factory", "factory.desk-7")),
    ]
    spool.put_worker("b", my_identity(), 3, [])
    spool.remove_worker("a")
    assert [(one.name, one.slots) for one in spool.workers()] == [("b", 3)]


def test_reported_attempts_are_forgotten_by_age_and_unreported_ones_never(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("corporation.federation.spool.ALWAYS_REMEMBERED", 0)
    accept(spool, "old-reported", "j-a")
    accept(spool, "old-unreported", "j-b")
    for attempt_id in ("old-reported", "old-unreported"):
        spool.finish(attempt_id, DONE)
    spool.mark_reported("old-reported")

    spool.forget(NOW)
    assert isinstance(accept(spool, "old-reported", "j-a"), Duplicate)
    spool.forget("2026-06-01T08:00:01.000000+00:00")
    assert accept(spool, "old-reported", "j-a") == Fresh()
    assert isinstance(accept(spool, "old-unreported", "j-b"), Finished)


def test_no_jump_of_the_clock_makes_a_factory_forget_its_newest_attempts(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("corporation.federation.spool.ALWAYS_REMEMBERED", 2)
    for number in range(4):
        accept(spool, f"at-{number}", f"j-{number}")
        spool.finish(f"at-{number}", DONE)
        spool.mark_reported(f"at-{number}")

    spool.forget("9999-01-01T00:00:00.000000+00:00")
    assert sorted(spool.owners()) == ["at-2", "at-3"]
    spool.forget("9999-01-01T00:00:00.000000+00:00")
    assert sorted(spool.owners()) == ["at-2", "at-3"]


def test_a_report_is_known_until_hq_has_it(spool: Spool) -> None:
    accept(spool, "a-1", "j-a")
    assert spool.report_of("a-1") is None
    spool.finish("a-1", DONE)
    assert spool.report_of("a-1") == DONE
    spool.mark_reported("a-1")
    assert spool.report_of("a-1") is None


def test_a_note_is_kept_until_the_next_one(spool: Spool) -> None:
    assert spool.noted("x") is None
    spool.note("x", "1")
    spool.note("x", "2")
    assert Spool(spool.path).noted("x") == "2"


def test_the_file_is_readable_by_nobody_else(spool: Spool) -> None:
    accept(spool)

    assert stat.S_IMODE(spool.path.stat().st_mode) == 0o600


def test_all_is_remembered_when_the_factory_starts_again(spool: Spool) -> None:
    accept(spool)
    spool.finish("at-1", DONE)

    assert Spool(spool.path).unreported() == [("at-1", DONE)]


def test_an_error_in_the_middle_takes_back_the_whole_write_and_the_next_one_works(spool: Spool) -> None:
    accept(spool)
    with pytest.raises(TypeError):
        spool.finish("at-1", {"outcome": object()})

    assert len(spool.running()) == 1
    spool.finish("at-1", DONE)
    assert spool.unreported() == [("at-1", DONE)]


def at_once(count: int, call: Callable[[int], Any]) -> list[Any]:
    together = Barrier(count)

    def wait_and_call(number: int) -> Any:
        together.wait(10)
        return call(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(wait_and_call, range(count)))


def test_of_many_threads_that_receive_one_attempt_one_runs_it(path: Path) -> None:
    receptions = at_once(12, lambda _: accept(Spool(path)))

    assert [isinstance(one, Fresh) for one in receptions].count(True) == 1
    assert [isinstance(one, Duplicate) for one in receptions].count(True) == 11


def test_threads_may_share_one_spool(spool: Spool) -> None:
    def run(number: int) -> None:
        for attempt in range(10):
            attempt_id = f"at-{number}-{attempt}"
            assert accept(spool, attempt_id, f"j-{number}-{attempt}") == Fresh()
            spool.finish(attempt_id, DONE)

    at_once(8, run)
    assert len(spool.unreported()) == 80


PROCESS = """
import sys
from pathlib import Path
from corporation.federation.processes import my_identity
from corporation.federation.spool import Fresh, Spool
print("ready", flush=True)
input()
spool = Spool(Path(sys.argv[1]))
fresh = [n for n in range(20) if spool.accept(f"at-{n}", f"j-{n}", 1, my_identity(), "") == Fresh()]
for n in fresh:
    assert spool.begin(f"at-{n}", my_identity(), 1.0, 60.0)
    spool.finish(f"at-{n}", {"outcome": "done"})
print(fresh, flush=True)
input()
"""


def start(program: str, path: Path) -> "subprocess.Popen[str]":
    """A process that runs `program` on this spool."""
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", program, str(path)], stdin=pipe, stdout=pipe, text=True)


def test_processes_that_make_a_new_spool_at_the_same_time_share_the_attempts_without_an_error(path: Path) -> None:
    children = [start(PROCESS, path) for _ in range(6)]
    try:
        assert [heard(child) for child in children] == ["ready"] * 6
        for child in children:
            go_on(child)
        fresh = [number for child in children for number in json.loads(heard(child))]
    finally:
        for child in children:
            child.communicate("\n", 30)

    assert sorted(fresh) == list(range(20))
    assert [child.returncode for child in children] == [0] * 6


def heard(child: "subprocess.Popen[str]") -> str:
    """The next line that a child prints."""
    assert child.stdout is not None
    return child.stdout.readline().strip()


def go_on(child: "subprocess.Popen[str]") -> None:
    """Let a child go on."""
    assert child.stdin is not None
    child.stdin.write("\n")
    child.stdin.flush()


def test_a_killed_process_leaves_a_spool_that_says_what_was_lost(path: Path) -> None:
    child = start(PROCESS.replace("spool.finish", "(lambda *_: None)"), path)
    heard(child)
    go_on(child)
    assert len(json.loads(heard(child))) == 20
    child.kill()
    child.communicate(timeout=30)
    spool = Spool(path)

    assert spool.bury_the_dead() == 20
    assert all(report == lost_report() for _, report in spool.unreported())


def test_a_thread_in_the_spool_does_not_lame_a_child_that_is_forked_meanwhile(spool: Spool) -> None:
    """A worker forks its pool while pulse and warden read: SQLite's own locks must not be held by nobody for ever."""
    begin(spool)
    over = Event()

    def read() -> None:
        while not over.is_set():
            spool.under_way()

    with ThreadPoolExecutor(3) as threads:
        for _ in range(3):
            threads.submit(read)
        try:
            ends = [_end_of_a_child_that_uses(spool) for _ in range(40)]
        finally:
            over.set()

    assert ends == [0] * 40


def _end_of_a_child_that_uses(spool: Spool) -> int:
    if (child := os.fork()) == 0:
        signal.alarm(20)
        os._exit(0 if spool.under_way() else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_write_that_was_torn_away_before_its_end_does_not_spoil_the_next(spool: Spool) -> None:
    """An exception by signal may fall between the beginning of a transaction and the place that takes it back."""
    begin(spool)
    spool._db()[0].execute("BEGIN IMMEDIATE")  # pyright: ignore[reportPrivateUsage]

    assert spool.finish("at-1", DONE)
    assert spool.unreported() == [("at-1", DONE)]
