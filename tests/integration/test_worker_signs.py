"""What the pulse does for its own worker: it writes down how it is, turns its gate, and restarts it when it must."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from node_at_work import HeardHq, node_at

from corporation import clock
from corporation.federation import notes
from corporation.federation.processes import my_identity
from factory_tasks import gated_transport
from factory_tasks.loop_watch import RESTART_STATUS, LoopWatch
from factory_tasks.node import Node
from factory_tasks.worker_signs import RESTART, WorkerSigns, signs_of

NAME = "w@desk"


@dataclass
class Worker:
    """A worker's main process, with a clock and a Redis that the test sets."""

    here: Node
    busy: int = 0
    ended: list[int] = field(default_factory=list[int])
    now: float = 1000.0
    signs: WorkerSigns = field(init=False)

    def __post_init__(self) -> None:
        self.signs = WorkerSigns(self.here, NAME, lambda: self.busy, self.ended.append)
        self.here.spool.put_worker(NAME, my_identity(), 2, ["local_factory"])

    def pass_seconds(self, seconds: int, *, turning: bool) -> None:
        """The pulse looks every second."""
        for _ in range(seconds):
            self.now += 1
            if turning:
                LoopWatch.turn()
            if not self.ended:
                self.signs.look()

    @property
    def said(self) -> dict[str, Any]:
        return signs_of(self.here.spool.noted_all(), NAME)

    @property
    def listed(self) -> bool:
        return NAME in [worker.name for worker in self.here.spool.workers()]


@pytest.fixture
def worker(tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    worker = Worker(node_at(tmp_path, HeardHq(), UA_REDIS_URL=redis_url))
    monkeypatch.setattr(clock, "monotonic", lambda: worker.now)
    monkeypatch.setattr(LoopWatch, "_turned_at", None)
    worker.signs = WorkerSigns(worker.here, NAME, lambda: worker.busy, worker.ended.append)
    yield worker
    gated_transport.open_gate()


def redis_goes(worker: Worker, monkeypatch: pytest.MonkeyPatch, *, away: bool) -> None:
    def answer(_: object) -> str | None:
        return "ConnectionError" if away else None

    monkeypatch.setattr("factory_tasks.worker_signs.why_not_connected", answer)


def gate_is_open() -> bool:
    return not gated_transport._closed  # pyright: ignore[reportPrivateUsage]


# What it writes down.


def test_every_five_seconds_the_spool_knows_how_the_worker_is(worker: Worker) -> None:
    worker.busy = 2
    worker.pass_seconds(7, turning=True)
    worker.pass_seconds(12, turning=False)

    assert worker.said["busy"] == 2
    assert worker.said["connected"] is True
    assert 8 <= worker.said["loop_age_seconds"] <= 12


def test_before_its_loop_ever_turned_nothing_is_said_of_it(worker: Worker) -> None:
    worker.pass_seconds(200, turning=False)

    assert worker.said["loop_age_seconds"] is None
    assert not worker.ended


def test_an_absent_redis_is_seen(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    redis_goes(worker, monkeypatch, away=True)
    worker.pass_seconds(1, turning=True)

    assert worker.said["connected"] is False


# When it restarts.


def test_a_loop_that_stands_still_ends_the_process_so_that_its_supervisor_starts_it_again(worker: Worker) -> None:
    worker.pass_seconds(70, turning=True)
    worker.pass_seconds(59, turning=False)
    assert not worker.ended

    worker.pass_seconds(10, turning=False)

    assert worker.ended == [RESTART_STATUS]
    assert not worker.listed
    assert not worker.said


def test_what_runs_may_finish_for_ten_minutes(worker: Worker) -> None:
    worker.busy = 1
    worker.pass_seconds(70, turning=True)
    worker.pass_seconds(595, turning=False)
    assert not worker.ended

    worker.pass_seconds(10, turning=False)

    assert worker.ended == [RESTART_STATUS]


def test_when_what_ran_has_ended_the_dead_worker_is_restarted(worker: Worker) -> None:
    worker.busy = 1
    worker.pass_seconds(70, turning=True)
    worker.pass_seconds(100, turning=False)
    assert not worker.ended

    worker.busy = 0
    worker.pass_seconds(5, turning=False)

    assert worker.ended == [RESTART_STATUS]


def test_while_redis_is_away_the_loop_may_stand_and_a_minute_longer(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker.pass_seconds(70, turning=True)
    redis_goes(worker, monkeypatch, away=True)
    worker.pass_seconds(1000, turning=False)
    redis_goes(worker, monkeypatch, away=False)
    worker.pass_seconds(55, turning=False)
    assert not worker.ended

    worker.pass_seconds(15, turning=False)

    assert worker.ended == [RESTART_STATUS], "Redis is back, and the worker did not notice"


def test_a_machine_that_slept_is_no_dead_loop(worker: Worker) -> None:
    """The loop and the pulse wake together, and the pulse may look first."""
    worker.pass_seconds(100, turning=True)
    worker.now += 3600

    worker.signs.look()
    assert worker.said["loop_age_seconds"] == 0
    worker.pass_seconds(120, turning=True)

    assert not worker.ended


def test_hq_may_have_it_restarted(worker: Worker) -> None:
    worker.pass_seconds(10, turning=True)
    worker.here.spool.note(f"{RESTART}other@desk", notes.SET)
    worker.pass_seconds(2, turning=True)
    assert not worker.ended
    worker.here.spool.note(f"{RESTART}{NAME}", notes.SET)

    worker.signs.look()

    assert worker.ended == [RESTART_STATUS]
    assert worker.here.spool.noted(f"{RESTART}{NAME}") is None, "the next one is not restarted for it"


def test_a_worker_on_its_way_out_may_finish_however_long_it_takes(worker: Worker) -> None:
    """Its consumer has ended, so its loop stands still: that is no reason to kill what it waits for (F-23)."""
    worker.busy = 1
    worker.pass_seconds(70, turning=True)
    worker.signs.leave()
    worker.here.spool.note(f"{RESTART}{NAME}", notes.SET)

    worker.pass_seconds(2000, turning=False)

    assert not worker.ended
    assert worker.said["loop_age_seconds"] is None, "nor may HQ take it for dead"


def test_a_solo_worker_is_not_watched(worker: Worker) -> None:
    """It runs its missions in the loop itself."""
    worker.signs = WorkerSigns(worker.here, NAME, lambda: 1, worker.ended.append, watched=False)
    worker.pass_seconds(70, turning=True)
    worker.pass_seconds(2000, turning=False)

    assert not worker.ended
    assert worker.said["loop_age_seconds"] is None


def test_a_full_disk_keeps_no_dead_worker_alive(worker: Worker) -> None:
    worker.pass_seconds(10, turning=True)
    worker.here.spool.note(f"{RESTART}{NAME}", notes.SET)
    worker.here.spool._read("PRAGMA query_only = ON")  # pyright: ignore[reportPrivateUsage]

    with pytest.raises(Exception, match="readonly"):
        worker.signs.look()

    assert worker.ended == [RESTART_STATUS]


# The gate.


@pytest.mark.parametrize(
    ("name", "value"),
    [(notes.PAUSED, notes.SET), (notes.DRAINING, notes.SET), (notes.SPLIT_BRAIN, "another process beats")],
)
def test_the_gate_is_closed_while_the_factory_is_to_take_nothing(worker: Worker, name: str, value: str) -> None:
    worker.pass_seconds(1, turning=True)
    assert gate_is_open()
    worker.here.spool.note(name, value)
    worker.pass_seconds(1, turning=True)
    assert not gate_is_open()

    worker.here.spool.note(name, "" if name == notes.SPLIT_BRAIN else notes.UNSET)
    worker.pass_seconds(1, turning=True)

    assert gate_is_open()
