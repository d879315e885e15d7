"""The pulse: a thread of each worker's main process that sends the heartbeat whenever beat does not.

It also tells what was finished and never told, and forgets what is long told. It needs no slot, no Redis and no beat:
with `celery -A factory_tasks worker -Q local_factory` alone, with a full pool or a dead broker the factory is still
heard of, and the leases of what it runs are still renewed.
"""

import sqlite3
from collections.abc import Callable
from datetime import timedelta
from threading import Event, Thread
from typing import Any

import psycopg
import structlog

from corporation import clock
from corporation.federation.spool import report_all
from factory_tasks.heartbeat import seconds_since_beat, send_beat
from factory_tasks.node import Node

log = structlog.get_logger()

LATE = 1.5
"""How many intervals may pass without a beat before the pulse sends one itself (architecture §5)."""

LONGEST_WAIT_SECONDS = 300.0

REMEMBERED = timedelta(days=4)
"""How long the spool knows a reported attempt: twice the time after which Redis hands a message out again."""
FORGET_EVERY_SECONDS = 3600.0


class Pulse:
    """Started when the worker takes missions, stopped when it no longer does.

    `deliver` takes one report of the spool to the mailbox, or raises psycopg.Error.
    """

    def __init__(self, here: Node, deliver: Callable[[str, dict[str, Any]], None]) -> None:
        self._here = here
        self._deliver = deliver
        self._stopped = False
        self._wake = Event()
        self._forgot_at = float("-inf")
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
        self._wake.set()

    def _run(self) -> None:
        interval = float(self._here.settings.heartbeat_interval_seconds)
        failures, wait, late = 0, 0.0, 0.0
        while not self._rested(wait):
            try:
                if seconds_since_beat(self._here) > late:
                    failures = 0 if send_beat(self._here, "pulse") else failures + 1
                self._report_the_past()
                self._forget_the_old()
                wait = self._patience(failures, interval) if failures else interval / 4
            except Exception as error:
                # A full disk or a locked spool must not end the pulse: it is the last thing that still speaks.
                log.warning("pulse_failed", error=error)
                failures, wait = failures + 1, interval
            late = interval * LATE

    def _rested(self, seconds: float) -> bool:
        """Wait, but no longer than until somebody has work; whether it is over."""
        self._wake.wait(seconds)
        self._wake.clear()
        return self._stopped

    def _forget_the_old(self) -> None:
        if clock.monotonic() - self._forgot_at >= FORGET_EVERY_SECONDS:
            self._forgot_at = clock.monotonic()
            self._here.spool.forget(clock.iso(clock.utc_now() - REMEMBERED))

    def _report_the_past(self) -> None:
        """What was finished and never told, because of a crash or an absent database, is told now or the next time."""
        try:
            if told := report_all(self._here.spool, self._deliver):
                log.warning("reported_later", reports=told)
        except (psycopg.Error, sqlite3.Error) as error:
            log.warning("report_waits", error=type(error).__name__)

    def _patience(self, failures: int, interval: float) -> float:
        """Seconds after this many failures (fleet §4); while something runs never more than an interval."""
        wait = min(interval * 2.0 ** min(failures, 10), LONGEST_WAIT_SECONDS)
        return min(wait, interval) if self._here.spool.running() else wait
