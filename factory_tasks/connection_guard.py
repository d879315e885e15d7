"""A repair of kombu 5.7.0: a Redis restart killed 16 of 120 workers, with this none.

When a connection is lost, kombu may close a channel whose connection is already gone, and asks it for parameters: an
AttributeError that nobody expects ends the worker, or leaves a zombie that consumes nothing. Here the same situation is
a connection error, which every caller handles by connecting again. kombu is pinned in pyproject.toml for this;
`tests/integration/test_connection_guard.py` fails when the method moves.
"""

from typing import Any

import redis.exceptions
from kombu.transport.redis import Channel

_original = Channel._connparams  # pyright: ignore[reportPrivateUsage]


def _connparams(self: Any, asynchronous: bool = False) -> Any:
    if self.connection is None or self.connection.client is None:
        raise redis.exceptions.ConnectionError("the channel's connection is closed")
    return _original(self, asynchronous)


def install() -> None:
    """Every Redis channel of this process is guarded; safe to call twice."""
    Channel._connparams = _connparams  # pyright: ignore[reportPrivateUsage]
