"""Ctrl-C and SIGTERM as something to look at, instead of an exception in the middle of a start or a stop."""

import signal
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType
from typing import Final

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopRequests:
    """How often this process was asked to end, and by which signal first."""

    def __init__(self) -> None:
        self.count = 0
        self.first: signal.Signals | None = None

    @contextmanager
    def heard(self) -> Generator[None]:
        """Count signals inside the block instead of dying of them; afterwards all is as before. Main thread only."""
        before = {number: signal.signal(number, self._hear) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _hear(self, number: int, _frame: FrameType | None) -> None:
        self.count += 1
        self.first = self.first or signal.Signals(number)

    @property
    def asked(self) -> bool:
        """Whether the process is to end."""
        return self.count > 0

    @property
    def urgent(self) -> bool:
        """Whether it was asked twice: end at once."""
        return self.count > 1
