"""The pulse: a thread of each worker's main process that sends the heartbeat whenever beat does not.

It needs no slot, no Redis and no beat: with `celery -A factory_tasks worker -Q local_factory` alone, with a full pool
or a dead broker the factory is still heard of, and the leases of what it runs are still renewed.
"""

from threading import Event, Thread

import structlog

from factory_tasks.heartbeat import seconds_since_beat, send_beat
from factory_tasks.node import Node

log = structlog.get_logger()

LATE = 1.5
"""How many intervals may pass without a beat before the pulse sends one itself (architecture §5)."""

LONGEST_WAIT_SECONDS = 300.0


class Pulse:
    """Started when the worker takes missions, stopped when it no longer does."""

    def __init__(self, here: Node) -> None:
        self._here = here
        self._stop = Event()
        self._thread = Thread(target=self._run, name="pulse", daemon=True)

    def start(self) -> None:
        """Send a first beat at once, then watch."""
        self._thread.start()

    def stop(self) -> None:
        """The thread ends before its next beat."""
        self._stop.set()

    def _run(self) -> None:
        interval = float(self._here.settings.heartbeat_interval_seconds)
        failures = 0 if send_beat(self._here, "pulse") else 1
        while not self._stop.wait(interval / 4 if not failures else self._patience(failures, interval)):
            try:
                if seconds_since_beat(self._here) > interval * LATE:
                    failures = 0 if send_beat(self._here, "pulse") else failures + 1
            except Exception:
                # A full disk or a locked spool must not end the pulse: it is the last thing that still speaks.
                log.exception("pulse_failed")
                failures += 1

    def _patience(self, failures: int, interval: float) -> float:
        """Seconds after this many failures (fleet §4); while something runs never more than an interval."""
        wait = min(interval * 2.0 ** min(failures, 10), LONGEST_WAIT_SECONDS)
        return min(wait, interval) if self._here.spool.running() else wait
