"""A worker whose loop stands still: HQ sees it, what runs may finish, and the worker ends so that another one works."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from factory_at_work import Factory, SeenHq
from warm_starts import BEAT_EVERY, WarmStarts

from factory_tasks.loop_watch import RESTART_STATUS
from factory_tasks.worker_signs import OF_WORKER

DEAD_SECONDS = 3.0
"""As in frozen_loop.py, which only workers import."""
MODULES = "tests.integration.stubborn_kind,tests.integration.frozen_loop"


@pytest.fixture
def hq() -> Iterator[SeenHq]:
    with SeenHq() as seen:
        yield seen


@pytest.fixture
def factory(
    tmp_path: Path, database_url: str, redis_url: str, wait_until: Callable[..., Any], warm: WarmStarts, hq: SeenHq
) -> Iterator[Factory]:
    more = {"UA_HANDLER_MODULES": MODULES, BEAT_EVERY: "3"}
    with Factory(tmp_path, database_url, redis_url, wait_until, warm, hq, more_environment=more) as factory:
        yield factory


@pytest.fixture
def freezing(factory: Factory) -> Path:
    """The file that freezes the loop of this factory's workers."""
    return factory.folder / "freeze"


def ended(factory: Factory, within: float) -> int:
    worker = factory.processes["worker"]
    factory.wait(lambda: worker.poll() is not None, within, f"the worker ends: {factory.log()[-2000:]}")
    return worker.poll() or 0


def test_a_worker_that_takes_nothing_ends_itself_and_the_next_one_works(factory: Factory, freezing: Path) -> None:
    factory.start_worker()
    children = psutil.Process(factory.processes["worker"].pid).children()
    freezing.touch()

    assert ended(factory, 30) == RESTART_STATUS
    assert '"worker_restarts"' in factory.log()
    factory.wait(lambda: not any(child.is_running() for child in children), 10, "its pool is gone with it")

    freezing.unlink()
    factory.start_worker()
    assert factory.send(then="end").report()["outcome"] == "done"


def test_hq_sees_the_dead_loop_of_a_worker_at_work_and_may_restart_it(
    factory: Factory, hq: SeenHq, freezing: Path
) -> None:
    factory.start_worker()
    sent = factory.send().begun()
    freezing.touch()

    def stands_still() -> Any:
        return next((beat for beat in hq.beats if (beat["workers"][0]["loop_age_seconds"] or 0) > DEAD_SECONDS), None)

    told = factory.wait(stands_still, 40, "a beat tells of it")["workers"][0]
    assert (told["busy"], told["connected"]) == (1, True)
    assert factory.processes["worker"].poll() is None, "what runs may finish"
    hq.instructions["restart_workers"] = [told["name"]]

    assert ended(factory, 40) == RESTART_STATUS

    hq.instructions.clear()
    freezing.unlink()
    assert factory.spool.noted(OF_WORKER + told["name"]) is None
    factory.start_worker()
    assert sent.report()["outcome"] == "lost"
    sent.gone()
    assert factory.send(then="end").report()["outcome"] == "done"
