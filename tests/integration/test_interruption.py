"""Throwing a handler out of its work: once, only while it works, and never in the middle of a write."""

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from threading import Thread
from typing import Any

import pytest
from billiard.pool import soft_timeout_sighandler
from celery.exceptions import SoftTimeLimitExceeded

from corporation import clock
from factory_tasks.stopping import INTERRUPT, AttemptStopped, StopFlag, interrupt, interruptible, undisturbed


@pytest.fixture(autouse=True)
def _signal_as_before() -> Iterator[None]:
    before = signal.getsignal(INTERRUPT)
    yield
    signal.signal(INTERRUPT, before)


def the_soft_limit() -> None:
    """As Celery's main process sends it."""
    os.kill(os.getpid(), INTERRUPT)


def test_without_a_stop_the_signal_is_the_soft_limit() -> None:
    with pytest.raises(SoftTimeLimitExceeded), interruptible(StopFlag(), by_exception=True):
        the_soft_limit()


def test_with_a_stop_it_says_why_and_passes_what_catches_errors() -> None:
    stop = StopFlag()
    stop.set("cancelled by operator")
    stop.set("another reason")
    with (
        pytest.raises(AttemptStopped, match="cancelled by operator"),
        interruptible(stop, by_exception=True),
        suppress(Exception),
    ):
        interrupt()


def test_a_word_about_an_earlier_attempt_does_not_reach_this_one() -> None:
    """HQ's answer may come when that one has ended and its process is at the next."""
    with interruptible(StopFlag(), by_exception=True, limit_at=clock.monotonic() + 60):
        interrupt()
        the_soft_limit()


def test_it_comes_once_so_that_cleaning_up_is_not_disturbed() -> None:
    stop, cleaned = StopFlag(), []

    def work() -> None:
        try:
            interrupt()
        finally:
            interrupt()
            the_soft_limit()
            cleaned.append(True)

    stop.set("cancelled")
    with pytest.raises(AttemptStopped), interruptible(stop, by_exception=True):
        work()

    assert cleaned == [True]


def test_a_main_thread_that_sleeps_is_woken_by_another_thread() -> None:
    stop = StopFlag()

    def order() -> None:
        stop.set("cancelled")
        interrupt()

    def work() -> None:
        Thread(target=order).start()
        signal.sigtimedwait([], 30)

    with pytest.raises(AttemptStopped), interruptible(stop, by_exception=True):
        work()


def heard(*_: object) -> None:
    pytest.fail("heard")


@pytest.mark.parametrize("celerys", [soft_timeout_sighandler, heard], ids=["pool", "other"])
def test_once_the_work_is_done_the_signal_means_nothing(celerys: Any) -> None:
    """The report may have to wait for a database that is away, and must not be thrown out of that."""
    signal.signal(INTERRUPT, celerys)
    with interruptible(StopFlag(), by_exception=True):
        pass

    if celerys is soft_timeout_sighandler:
        the_soft_limit()
    else:
        assert signal.getsignal(INTERRUPT) is celerys


def test_a_handler_that_stops_itself_is_not_thrown_out() -> None:
    stop = StopFlag()
    with interruptible(stop, by_exception=False):
        stop.set("cancelled")
        interrupt()
        the_soft_limit()

    assert stop.is_set()
    assert stop.wait(0)


def test_a_write_is_finished_first() -> None:
    written: list[int] = []

    def write() -> None:
        with undisturbed():
            with undisturbed():
                the_soft_limit()
                written.append(1)
            written.append(2)
        written.append(3)

    with pytest.raises(SoftTimeLimitExceeded), interruptible(StopFlag(), by_exception=True):
        write()

    assert written == [1, 2]


def test_what_came_in_a_write_of_one_attempt_does_not_reach_the_next() -> None:
    with undisturbed(), interruptible(StopFlag(), by_exception=True):
        the_soft_limit()
    with interruptible(StopFlag(), by_exception=True), undisturbed():
        pass


def test_a_thread_of_a_pool_of_threads_is_told_by_the_flag_alone() -> None:
    seen: list[bool] = []

    def handler(stop: StopFlag) -> None:
        with interruptible(stop, by_exception=True), undisturbed():
            interrupt()
            seen.append(stop.wait(30))

    stop = StopFlag()
    thread = Thread(target=handler, args=(stop,))
    thread.start()
    stop.set("cancelled")
    thread.join(30)

    assert seen == [True]
