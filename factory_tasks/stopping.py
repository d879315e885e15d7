"""How a running handler is stopped: a flag it may look at, and an exception that throws it out of its work.

The exception comes by SIGUSR1, which is also Celery's soft time limit: one signal, one place that answers it, and what
it means is decided when it arrives. It is raised at most once an attempt, only while the handler runs, and never while
the handler is inside a call that writes to the spool.
"""

import signal
from collections.abc import Generator
from contextlib import contextmanager
from threading import Event, current_thread, main_thread
from types import FrameType
from typing import Final

from billiard.pool import soft_timeout_sighandler
from celery.exceptions import SoftTimeLimitExceeded

from corporation import clock

INTERRUPT: Final = signal.SIGUSR1
"""The signal by which billiard (`pool.py`, SIG_SOFT_TIMEOUT) tells a pool process of its soft limit."""

TOLD_TO_END: Final = -(256 - signal.SIGTERM)
"""The code of the SystemExit that SIGTERM raises in a pool process (billiard, `common.py`, _shutdown_cleanup)."""


class AttemptStopped(BaseException):
    """Raised in a handler whose attempt is to stop now: it was cancelled, or HQ no longer counts on it.

    Like KeyboardInterrupt it passes `except Exception`. A handler may clean up for two seconds in a `finally`; then its
    whole process is killed.
    """

    def __init__(self, why: str) -> None:
        self.why = why
        super().__init__(why)


class StopFlag:
    """Set once, when the attempt is to stop; `why` says for what reason and is "" before."""

    def __init__(self) -> None:
        self.why = ""
        self._event = Event()

    def is_set(self) -> bool:
        """Whether the attempt is to stop."""
        return self._event.is_set()

    def wait(self, seconds: float | None = None) -> bool:
        """Sleep until the attempt is to stop, at most so long; whether it is to stop."""
        return self._event.wait(seconds)

    def set(self, why: str) -> None:
        """The attempt is to stop; the first reason stays."""
        if not self._event.is_set():
            self.why = why
            self._event.set()

    def check(self) -> None:
        """Raises AttemptStopped if the attempt is to stop."""
        if self._event.is_set():
            raise AttemptStopped(self.why)


def exit_when_told(number: int, frame: FrameType | None) -> None:
    """The answer to SIGTERM of a process that runs one attempt, as billiard's: the handler is thrown out, once."""
    del frame
    signal.signal(number, signal.SIG_DFL)
    raise SystemExit(TOLD_TO_END)


class _Door:
    """Through which the main thread's handler can be thrown out: open while it runs, locked while it writes."""

    def __init__(self) -> None:
        self.stop: StopFlag | None = None
        self.limit_at = float("-inf")
        self.locks = 0
        self.knocked = False

    def knock(self, number: int = 0, frame: FrameType | None = None) -> None:
        """Throw the handler out, now or as soon as the door is unlocked; once, and only while it is open."""
        if self.stop is None or not (self.stop.is_set() or clock.monotonic() >= self.limit_at):
            return  # a word about an attempt that has ended meanwhile
        if self.locks:
            self.knocked = True
            return
        stop, self.stop = self.stop, None
        stop.check()
        raise SoftTimeLimitExceeded


_door = _Door()


@contextmanager
def interruptible(stop: StopFlag, *, by_exception: bool, limit_at: float = float("-inf")) -> Generator[None]:
    """For the block, `interrupt` and Celery's soft limit end it with AttemptStopped or SoftTimeLimitExceeded.

    Catch both around the block, not in it: they may come at its very end. Afterwards the signal means nothing until the
    next block: a report may have to wait for a database that is away, and must not be thrown out of that. Without
    `by_exception`, and outside the main thread, which alone can be signalled, only `stop` tells the handler. Before
    `limit_at` (monotonic) a signal without a stop is about an earlier attempt, and means nothing.
    """
    if current_thread() is not main_thread():
        yield
        return
    before = signal.signal(INTERRUPT, _door.knock)
    _door.knocked = False
    try:
        _door.limit_at = limit_at
        _door.stop = stop if by_exception else None
        yield
    finally:
        _door.stop = None
        # A pool process's own answer is an exception, at any time; ours stays instead, and says nothing.
        if before not in (soft_timeout_sighandler, _door.knock):
            signal.signal(INTERRUPT, before)


def interrupt() -> None:
    """Wake the main thread, wherever it is, and throw its handler out; for any other thread of this process."""
    main = main_thread().ident
    if main is not None and signal.getsignal(INTERRUPT) == _door.knock:
        signal.pthread_kill(main, INTERRUPT)


@contextmanager
def undisturbed() -> Generator[None]:
    """For the block, the main thread's handler is not thrown out; what came meanwhile is raised at its end."""
    if current_thread() is not main_thread():
        yield
        return
    _door.locks += 1
    try:
        yield
    finally:
        _door.locks -= 1
        if _door.knocked and not _door.locks:
            _door.knocked = False
            _door.knock()
