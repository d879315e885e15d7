"""Logs: one line an event to standard error, with every loaded secret masked and control characters escaped."""

import io
import logging
import sys
from collections.abc import Callable, MutableMapping
from contextlib import suppress
from typing import Any, TextIO, cast

import structlog

from corporation.masking import Mask


def configure_logs(mask: Mask, *, level: int = logging.INFO) -> None:
    """From now on this process logs to standard error as JSON lines, or readably on a terminal; safe to call twice.

    No value of a line holds what `mask` hides. A line that cannot be written is lost, and whoever logs it goes on.
    """
    readable = sys.stderr.isatty()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            masked_by(mask),
            structlog.dev.ConsoleRenderer() if readable else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(cast("TextIO", Unfailing(sys.stderr))),
        cache_logger_on_first_use=False,
    )


class Unfailing(io.TextIOBase):
    """What is written reaches `file`, or is lost when that takes nothing: a full disk of logs must end no loop."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, text: str) -> int:
        """As many characters as `text` has, whatever became of them."""
        with suppress(OSError):
            self._file.write(text)
        return len(text)

    def flush(self) -> None:
        """What could be written is written."""
        with suppress(OSError):
            self._file.flush()


def masked_by(mask: Mask) -> Callable[..., MutableMapping[str, Any]]:
    """A structlog processor after which no value of the event holds what `mask` hides."""

    def process(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        return {mask(key): mask(value) for key, value in event.items()}

    return process
