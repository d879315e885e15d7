"""How a running attempt is going: progress and log lines to HQ while it works, by a thread that can fail no mission."""

import json
from threading import Condition, Thread
from types import TracebackType
from typing import Any, Self

import structlog

from corporation import clock
from corporation.errors import CorporationError
from corporation.federation.hq import Hq, HqRefusedError
from corporation.federation.spool import Spool

log = structlog.get_logger()

FIRST_WORD_SECONDS = 0.5
"""A mission shorter than this is told by its report alone: one HTTP request less for each of a thousand."""
EVERY_SECONDS = 1.0
RENEW_SECONDS = 30.0
"""A silent mission still says this often that it lives; a lease lasts 180 s."""
LAST_WORD_SECONDS = 5.0
"""How long the end of a mission may wait for its last log lines to be taken; then its report goes without them."""
LINES_AT_ONCE = 500
MOST_LINES = 20_000
"""Lines kept for an HQ that does not answer; beyond it the oldest are dropped, and the gap shows in their numbers."""
LONGEST_LINE = 4_000


class LiveReporter:
    """The `Reporter` of one attempt; used as a context manager around the handler."""

    def __init__(self, hq: Hq | None, spool: Spool, attempt_id: str) -> None:
        self._hq = hq
        self._spool = spool
        self._attempt_id = attempt_id
        self._changed = Condition()
        self._lines: list[str] = []
        self._first_number = 1
        self._progress: dict[str, Any] | None = None
        self._told: dict[str, Any] | None = None
        self._ended = False
        self._thread = Thread(target=self._run, name="reporter", daemon=True)

    def log(self, line: str, stream: str = "log") -> None:
        """Keep one line, cut at 4,000 characters; NUL is shown as a symbol, since no text column takes it."""
        with self._changed:
            self._lines.append(line[:LONGEST_LINE].replace("\0", "\u2400"))
            if len(self._lines) > MOST_LINES:
                del self._lines[0]
                self._first_number += 1

    def progress(self, percent: int | None, message: str) -> None:
        """Replace the progress; a percent outside 0..100 is brought back into it."""
        bounded = min(max(percent, 0), 100) if percent is not None else None
        progress = {"percent": bounded, "message": message[:500].replace("\0", "\u2400")}
        self._spool.set_progress(self._attempt_id, json.dumps(progress))
        with self._changed:
            self._progress = progress

    def __enter__(self) -> Self:
        if self._hq is not None:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify()
        if self._hq is not None:
            self._thread.join(LAST_WORD_SECONDS)

    def _run(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._ended, FIRST_WORD_SECONDS)
        last = float("-inf")
        while not self._ended:
            if self._has_news() or clock.monotonic() - last > RENEW_SECONDS:
                self._tell()
                last = clock.monotonic()
            with self._changed:
                self._changed.wait_for(lambda: self._ended, EVERY_SECONDS)
        deadline = clock.monotonic() + LAST_WORD_SECONDS
        while self._lines and clock.monotonic() < deadline and self._tell():
            pass

    def _has_news(self) -> bool:
        return bool(self._lines) or self._progress != self._told

    def _tell(self) -> bool:
        """Send what is new; what HQ did not take is sent again next time. False when it did not take it."""
        with self._changed:
            lines, first, progress = self._lines[:LINES_AT_ONCE], self._first_number, self._progress
        body: dict[str, Any] = {"log": lines, "log_from": first, **(progress or {})}
        if self._hq is None:
            return False
        try:
            self._hq.progress(self._attempt_id, body)
        except HqRefusedError as refused:
            log.warning("progress_refused", attempt_id=self._attempt_id, status=refused.status)
        except CorporationError:
            return False
        with self._changed:
            taken = first + len(lines) - self._first_number
            del self._lines[: max(0, taken)]
            self._first_number = max(self._first_number, first + len(lines))
            self._told = progress
        return True
