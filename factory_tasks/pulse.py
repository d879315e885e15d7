"""The pulse: a thread of each worker's main process that sends the heartbeat whenever beat does not.

It also tells what was finished and never told, forgets what is long told, and looks after its own worker. It needs no
slot, no Redis and no beat: with `celery -A factory_tasks worker -Q local_factory` alone, with a full pool or a dead
broker the factory is still heard of, and the leases of what it runs are still renewed.
"""

import sqlite3
from collections.abc import Callable
from datetime import timedelta
from threading import Event, Thread
from typing import Any

import psycopg
import structlog

from corporation import clock
from corporation.errors import CorporationError
from corporation.federation.spool import report_all
from factory_tasks.heartbeat import patience, seconds_since_beat, send_beat
from factory_tasks.node import Node

log = structlog.get_logger()

LATE = 1.5
"""How many intervals may pass without a beat before the pulse sends one itself (architecture §5)."""

MOST_AT_ONCE = 1
"""Reports that are told between two looks whether a beat is due (F-11): each may take as long as HQ may."""
LOOK_SECONDS = 1.0
"""Between two looks at what HQ wants of this worker."""

REMEMBERED = timedelta(days=10)
"""How long the spool knows a reported attempt: longer than HQ's signature on its message is good (signatures.py)."""
FORGET_EVERY_SECONDS = 3600.0


class Pulse:
    """Started when the worker takes missions, stopped when it has ended.

    `deliver` takes one report of the spool to HQ, or raises psycopg.Error or CorporationError; `look` is called every
    second, for what must be done for this worker alone, and `tidy` once in each interval of the heartbeat.
    """

    def __init__(
        self,
        here: Node,
        deliver: Callable[[str, dict[str, Any]], None],
        look: Callable[[], None] = lambda: None,
        late: float = LATE,
        tidy: Callable[[], object] = lambda: None,
    ) -> None:
        self._here = here
        self._deliver = deliver
        self._look = look
        self._late = late
        self._tidy = tidy
        self._interval = float(here.settings.heartbeat_interval_seconds)
        self._stopped = False
        self._hurry = True
        self._told_at = float("-inf")
        self._wake = Event()
        self._forgot_at = float("-inf")
        self._tidied_at = clock.monotonic()
        self._failures = 0
        self._next_beat = float("-inf")
        self._thread = Thread(target=self._run, name="pulse", daemon=True)

    def start(self) -> None:
        """Send a first beat at once, then watch."""
        self._thread.start()

    def stop(self) -> None:
        """The thread ends before its next beat."""
        self._stopped = True
        self._wake.set()

    def report_now(self) -> None:
        """What the spool holds for HQ is told at once, and not only at the next look."""
        self._told_at = float("-inf")
        self._wake.set()

    def beat_now(self) -> None:
        """HQ hears at once what has changed here, however late the next beat would be."""
        self._hurry = True
        self._wake.set()

    def _run(self) -> None:
        while not self._stopped:
            for step in (self._look, self._beat_if_late, self._report_the_past, self._tidy_up, self._forget_the_old):
                self._take(step)
            self._wake.wait(LOOK_SECONDS)
            self._wake.clear()

    def _take(self, step: Callable[[], None]) -> None:
        try:
            if not self._stopped:
                step()
        except Exception as error:
            # A full disk or a locked spool must not end the pulse: it is the last thing that still speaks.
            log.warning("pulse_failed", error=error)

    def _beat_if_late(self) -> None:
        now = clock.monotonic()
        late = seconds_since_beat(self._here) > self._interval * self._late and now >= self._next_beat
        if not (self._hurry or late):
            return
        self._hurry = False
        # Also when the spool cannot say when: a disk that takes nothing must not make a storm of beats.
        self._next_beat = now + self._interval
        self._failures = 0 if send_beat(self._here, "pulse") else self._failures + 1
        if self._failures:
            self._next_beat = now + patience(self._failures, self._interval, works=bool(self._here.spool.running()))

    def _report_the_past(self) -> None:
        """What was finished and never told, because of a crash or an absent HQ, is told now or the next time."""
        if clock.monotonic() - self._told_at < self._interval / 4:
            return
        self._told_at = clock.monotonic()
        try:
            if told := report_all(self._here.spool, self._deliver, MOST_AT_ONCE):
                log.warning("reported_later", reports=told)
            if told == MOST_AT_ONCE:
                self.report_now()  # after the next look at the beat
        except (psycopg.Error, sqlite3.Error, CorporationError) as error:
            log.warning("report_waits", error=type(error).__name__)

    def _tidy_up(self) -> None:
        if clock.monotonic() - self._tidied_at >= self._interval:
            self._tidied_at = clock.monotonic()
            self._tidy()

    def _forget_the_old(self) -> None:
        if clock.monotonic() - self._forgot_at >= FORGET_EVERY_SECONDS:
            self._forgot_at = clock.monotonic()
            self._here.spool.forget(clock.iso(clock.utc_now() - REMEMBERED))
