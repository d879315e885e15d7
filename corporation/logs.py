"""Logs: one line an event to standard error, with every loaded secret masked and control characters escaped."""

import logging
import sys
from collections.abc import Callable, MutableMapping
from typing import Any

import structlog

from corporation.masking import Mask


def configure_logs(mask: Mask, *, level: int = logging.INFO) -> None:
    """From now on this process logs to standard error as JSON lines, or readably on a terminal; safe to call twice.

    No value of a line holds what `mask` hides.
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
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )


def masked_by(mask: Mask) -> Callable[..., MutableMapping[str, Any]]:
    """A structlog processor after which no value of the event holds what `mask` hides."""

    def process(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        return {mask(key): mask(value) for key, value in event.items()}

    return process
