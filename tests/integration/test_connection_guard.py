"""The repair of kombu: it is in place, it guards what it should, and the method it replaces still exists."""

from types import SimpleNamespace
from typing import Any

import pytest
import redis
from kombu.transport.redis import Channel

from factory_tasks import connection_guard


def bare_channel(connection: Any) -> Channel:
    channel = Channel.__new__(Channel)
    channel.connection = connection
    return channel


@pytest.mark.parametrize("connection", [None, SimpleNamespace(client=None)])
def test_a_channel_without_its_connection_is_a_connection_error(connection: Any) -> None:
    connection_guard.install()

    with pytest.raises(redis.exceptions.ConnectionError):
        bare_channel(connection)._connparams()


def test_installing_twice_guards_once() -> None:
    connection_guard.install()
    connection_guard.install()

    assert Channel._connparams is connection_guard._connparams
    assert connection_guard._original is not connection_guard._connparams


def test_kombu_still_asks_this_method_for_its_parameters() -> None:
    """If this fails, kombu has changed: read its Redis transport again before pinning the new version."""
    source = __import__("inspect").getsource(Channel)

    assert "_connparams(" in source.replace("def _connparams(", "")
