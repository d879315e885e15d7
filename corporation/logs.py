"""Logs: one line an event to standard error, with every loaded secret masked and control characters escaped."""

import logging
import sys
from collections.abc import Callable, Iterable, MutableMapping
from typing import Any
from urllib.parse import unquote, urlsplit

import structlog

from corporation.settings import Settings

MASK = "***"
SHORTEST_HIDDEN = 6
"""Characters; shorter ones would mask ordinary words. The settings refuse short signing secrets."""


def configure_logs(settings: Settings, *, hide: Iterable[str] = (), level: int = logging.INFO) -> None:
    """From now on this process logs to standard error as JSON lines, or readably on a terminal; safe to call twice.

    No line holds a secret of `settings` or one of `hide`.
    """
    hidden = {*secrets_of(settings), *(text for text in hide if len(text) >= SHORTEST_HIDDEN)}
    readable = sys.stderr.isatty()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            mask_secrets(sorted(hidden, key=len, reverse=True)),
            structlog.dev.ConsoleRenderer() if readable else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )


def secrets_of(settings: Settings) -> list[str]:
    """Every secret value these settings hold, also the passwords inside addresses, longest first."""
    found: set[str] = set()
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if hasattr(value, "get_secret_value"):
            text = str(value.get_secret_value())
            # A password is percent-encoded in an address, and drivers may print it either way.
            password = urlsplit(text).password or "" if "://" in text else text
            found |= {password, unquote(password)}
    return sorted((secret for secret in found if len(secret) >= SHORTEST_HIDDEN), key=len, reverse=True)


def mask_secrets(secrets: list[str]) -> Callable[..., MutableMapping[str, Any]]:
    """A structlog processor after which no value of the event holds one of `secrets`."""

    def masked(value: Any) -> Any:
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, dict):
            return {masked(str(key)): masked(item) for key, item in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [masked(item) for item in value]
        # Anything else, an exception or bytes, is written as its text would be, and that is where a secret hides.
        text = value if isinstance(value, str) else repr(value)
        for secret in secrets:
            text = text.replace(secret, MASK)
        return text

    def process(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        return {masked(key): masked(value) for key, value in event.items()}

    return process
