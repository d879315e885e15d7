"""A loop ticks while there is work, wakes when it is told, stops when it is told, and never dies of an error."""

from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Event, Thread

import pytest
import structlog
from structlog.testing import capture_logs

from corporation.loops.forever import LONGEST_BACKOFF_SECONDS, Running, backoff_seconds, run_forever


@dataclass
class Scripted:
    """A loop whose ticks do what the script says, one entry each."""

    script: list[Callable[[], bool]]
    sweep_seconds: float = 0.0
    name: str = "scripted"
    channels: tuple[str, ...] = ()
    ticks: int = field(default=0, init=False)

    def tick(self) -> bool:
        self.ticks += 1
        return self.script[self.ticks - 1]()


def run_script(*script: Callable[[Event], bool], sweep_seconds: float = 0.0) -> tuple[Scripted, Running]:
    stop = Event()
    loop = Scripted([lambda step=step: step(stop) for step in script], sweep_seconds)
    running = Running(loop, stop)
    run_forever(running)
    return loop, running


def work(_: Event) -> bool:
    return True


def idle(_: Event) -> bool:
    return False


def end(stop: Event) -> bool:
    stop.set()
    return False


def fail_and_end(stop: Event) -> bool:
    stop.set()
    raise ConnectionError("the ledger is away")


def test_it_ticks_on_until_it_is_stopped() -> None:
    loop, _ = run_script(idle, work, work, idle, end)

    assert loop.ticks == 5


def test_a_busy_loop_does_not_wait_for_its_sweep() -> None:
    stop = Event()
    loop = Scripted([lambda: True, lambda: True, lambda: end(stop)], sweep_seconds=3600)
    running = Running(loop, stop)
    running.wake.set()
    run_forever(running)

    assert loop.ticks == 3


def test_the_first_tick_is_told() -> None:
    _, running = run_script(end)

    assert running.ticked.is_set()


def test_a_loop_that_never_managed_a_tick_is_not_called_ready() -> None:
    _, running = run_script(fail_and_end)

    assert not running.ticked.is_set()


def test_an_error_does_not_end_the_loop_but_is_logged() -> None:
    with capture_logs() as logs:
        run_script(fail_and_end)

    assert [(entry["event"], entry["loop"], entry["kind"]) for entry in logs] == [
        ("loop_failed", "scripted", "ConnectionError")
    ]


def test_a_wake_up_starts_a_tick_long_before_the_sweep() -> None:
    stop = Event()
    loop = Scripted([lambda: end(stop)], sweep_seconds=3600)
    running = Running(loop, stop)
    thread = Thread(target=run_forever, args=(running,))
    thread.start()
    running.wake.set()
    thread.join(10)

    assert not thread.is_alive()
    assert loop.ticks == 1


def test_a_wake_up_during_a_tick_is_not_forgotten() -> None:
    stop = Event()
    running = Running(Scripted([]), stop)

    def work_arrives_meanwhile() -> bool:
        running.wake.set()
        return False

    running.loop = Scripted([work_arrives_meanwhile, lambda: end(stop)], sweep_seconds=3600)
    running.wake.set()
    run_forever(running)

    assert running.loop.ticks == 2


def test_a_loop_that_was_stopped_before_it_began_does_nothing() -> None:
    stop = Event()
    stop.set()
    loop = Scripted([])
    run_forever(Running(loop, stop))

    assert loop.ticks == 0


@pytest.mark.parametrize(("failures", "seconds"), [(1, 0.2), (2, 0.4), (4, 1.6), (5, 3.2), (6, 5.0), (10_000, 5.0)])
def test_the_wait_after_failures_doubles_up_to_five_seconds(failures: int, seconds: float) -> None:
    assert backoff_seconds(failures) == pytest.approx(seconds)
    assert backoff_seconds(failures) <= LONGEST_BACKOFF_SECONDS


@pytest.fixture(autouse=True)
def _default_logs() -> None:  # pyright: ignore[reportUnusedFunction]
    structlog.reset_defaults()
