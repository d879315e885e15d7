"""How a running attempt is going, told to HQ by a thread that can fail no mission, and whether it is to stop.

The thread looks four times a second into the spool, where the control worker, a beat or the answer to an earlier word
to HQ leaves the order to stop; then it sets the mission's flag and throws the handler out.
"""

import json
import os
import sqlite3
from contextlib import suppress
from threading import Event, Lock, Thread
from types import TracebackType
from typing import Any, Self

import structlog

from corporation import clock
from corporation.errors import CorporationError
from corporation.federation.hq import Hq, HqRefusedError
from corporation.roles import control_queue
from factory_tasks.node import Node
from factory_tasks.stop_orders import StopOrder, why_to_stop, write_down
from factory_tasks.stopping import StopFlag, interrupt, undisturbed

log = structlog.get_logger()

FIRST_WORD_SECONDS = 0.5
"""A mission shorter than this is told by its report alone: one HTTP request less for each of a thousand."""
EVERY_SECONDS = 1.0
ASK_SECONDS = 10.0
"""A silent mission says this often that it lives, and hears whether it is cancelled."""
ASK_ALONE_SECONDS = 2.0
"""The same where no control worker is there to be told of a cancel: within 5 s of it the attempt must have stopped."""
RENEWALS_IN_A_LEASE = 6
"""However short the lease, it is renewed so often that one lost answer, or five, do not end it."""
LAST_WORD_SECONDS = 5.0
"""How long the end of a mission may wait for its last log lines to be taken; then its report goes without them."""
LOOK_SECONDS = 0.25
IDLE_LOOKS = 8
LINES_AT_ONCE = 500
MOST_LINES = 20_000
"""Lines kept for an HQ that does not answer; beyond it the oldest are dropped, and the gap shows in their numbers."""
LONGEST_LINE = 4_000


class LiveReporter:
    """The `Reporter` of one attempt; used as a context manager around the handler."""

    def __init__(self, here: Node, attempt_id: str) -> None:
        self.stop = StopFlag()
        self._here = here
        self._attempt_id = attempt_id
        self._began = clock.monotonic()
        self._told_at = float("-inf")
        self._changing = Lock()
        self._telling = Lock()
        self._lines: list[str] = []
        self._first_number = 1
        self._progress: dict[str, Any] | None = None
        self._told: dict[str, Any] | None = None

    def log(self, line: str, stream: str = "log") -> None:
        """Keep one line, cut at 4,000 characters; NUL is shown as a symbol, since no text column takes it."""
        text = self._here.mask.text(line)[:LONGEST_LINE].replace("\0", "\u2400")
        with undisturbed(), self._changing:
            self._lines.append(text)
            if len(self._lines) > MOST_LINES:
                del self._lines[0]
                self._first_number += 1

    def progress(self, percent: int | None, message: str) -> None:
        """Replace the progress; a percent outside 0..100 is brought back into it."""
        bounded = min(max(percent, 0), 100) if percent is not None else None
        progress = {"percent": bounded, "message": self._here.mask.text(message)[:500].replace("\0", "\u2400")}
        with undisturbed():
            with suppress(sqlite3.OperationalError):  # the next beat tells less; a full disk must not fail a mission
                self._here.spool.set_progress(self._attempt_id, json.dumps(progress))
            with self._changing:
                self._progress = progress

    def __enter__(self) -> Self:
        if (why := self._here.spool.stop_requested(self._attempt_id)) is not None:
            self.stop.set(why)
        teller_of_this_process().follow(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        teller_of_this_process().follow(None)
        if (hq := self._here.hq) is None:
            return
        deadline = clock.monotonic() + LAST_WORD_SECONDS
        while self._lines and clock.monotonic() < deadline and self._tell(hq, deadline - clock.monotonic()):
            pass

    def look(self) -> None:
        """Called by the teller every quarter of a second: hear whether to stop, and speak when it is time."""
        if not self.stop.is_set() and (why := self._here.spool.stop_requested(self._attempt_id)) is not None:
            self._obey(why)
        if self._here.hq is not None and self._is_due(clock.monotonic()):
            self._told_at = clock.monotonic()
            self._tell(self._here.hq, LAST_WORD_SECONDS)

    def _is_due(self, now: float) -> bool:
        silence = now - self._told_at
        if now - self._began < FIRST_WORD_SECONDS or silence < EVERY_SECONDS:
            return False
        if self._lines or self._progress != self._told:
            return True
        renewal = self._here.settings.attempt_lease_seconds / RENEWALS_IN_A_LEASE
        shortest = min(ASK_ALONE_SECONDS, renewal)
        return silence >= shortest and silence >= min(renewal, ASK_SECONDS if self._is_told() else shortest)

    def _is_told(self) -> bool:
        """Whether a worker lives here that hears of a cancel without asking, also while every slot is taken."""
        settings = self._here.settings
        told, busy = control_queue(settings.factory_id), settings.mission_queue
        return any(told in worker.queues and busy not in worker.queues for worker in self._here.spool.workers())

    def _tell(self, hq: Hq, patience: float) -> bool:
        """Send some of what is new; what HQ did not take is sent again next time. False when it did not take it."""
        if not self._telling.acquire(timeout=max(0.0, patience)):
            return False
        with self._changing:
            lines, first, progress = self._lines[:LINES_AT_ONCE], self._first_number, self._progress
        try:
            elapsed = round(clock.monotonic() - self._began, 3)
            body = {"log": lines, "log_from": first, "elapsed_seconds": elapsed, **(progress or {})}
            self._hear(why_to_stop(hq.progress(self._attempt_id, body, patience)))
        except HqRefusedError as refused:
            log.warning("progress_refused", attempt_id=self._attempt_id, status=refused.status)
            self._hear(why_to_stop(refused))
        except CorporationError:
            return False
        finally:
            self._telling.release()
        self._forget(first + len(lines), progress)
        return True

    def _hear(self, why: str | None) -> None:
        if why is not None and not self.stop.is_set():
            self._obey(why)
            with suppress(sqlite3.OperationalError):  # a full disk; the handler was told
                write_down(self._here.spool, StopOrder(self._attempt_id, why))

    def _obey(self, why: str) -> None:
        self.stop.set(why)
        interrupt()

    def _forget(self, next_number: int, progress: dict[str, Any] | None) -> None:
        with self._changing:
            del self._lines[: max(0, next_number - self._first_number)]
            self._first_number = max(self._first_number, next_number)
            self._told = progress


class Teller:
    """One thread of a pool process that speaks for the attempt it runs.

    One for all attempts, and never woken by a short one: a thread for each cost a tenth of a short mission's time.
    """

    def __init__(self) -> None:
        self._current: LiveReporter | None = None
        self._wake = Event()
        Thread(target=self._run, name="teller", daemon=True).start()

    def follow(self, reporter: LiveReporter | None) -> None:
        """Speak for `reporter` from now on, or for nobody."""
        self._current = reporter
        if reporter is not None and not self._wake.is_set():
            self._wake.set()

    def _run(self) -> None:
        idle = 0
        while self._wake.wait():
            clock.pause(LOOK_SECONDS)
            reporter = self._current
            idle = idle + 1 if reporter is None else 0
            if reporter is not None:
                self._tell_safely(reporter)
            elif idle > IDLE_LOOKS:
                # A mission that begins right now sets it again, or is seen at the next look.
                self._wake.clear()
                if self._current is not None:
                    self._wake.set()

    def _tell_safely(self, reporter: LiveReporter) -> None:
        try:
            reporter.look()
        except Exception:
            log.exception("teller_failed")


_tellers: dict[int, Teller] = {}


def teller_of_this_process() -> Teller:
    """This process's teller; a fork has its own, since threads are not forked."""
    pid = os.getpid()
    if pid not in _tellers:
        _tellers[pid] = Teller()
    return _tellers[pid]
