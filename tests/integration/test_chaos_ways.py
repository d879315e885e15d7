"""The ways that the chaos cuts: a slow one is a trickle, and lets the rest through at once when it is open again."""

import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

from ops.bench.chaos_proxy import DROP_BYTES, Proxy

LONG = b"x" * DROP_BYTES * 400
"""A trickle would take a hundred seconds for it."""


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    """A server on loopback that nobody has called yet."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        server.settimeout(10)
        yield server


def test_a_slow_way_carries_a_little_at_a_time_and_all_of_it_once_it_is_open(listening: socket.socket) -> None:
    with (
        Proxy(listening.getsockname()[1], way="slow") as proxy,
        socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as client,
    ):
        far, _ = listening.accept()
        with closing(far):
            far.settimeout(20)
            client.sendall(LONG)
            first = far.recv(len(LONG))
            proxy.change("open")
            received = len(first)
            while received < len(LONG):
                received += len(far.recv(65_536))

    assert len(first) <= 4 * DROP_BYTES
    assert received == len(LONG)
