"""An answer that comes before the end of its request reaches a client that sends first and reads then."""

import socket
import time

import pytest
from served_api import OPS_TOKEN, PUBLISH, Api

from hq_api.bounded_http import MOST_DROPPED_BYTES

MIB = 1024 * 1024
CLOSE = b"Connection: close\r\n"
NOBODY_LISTENS = r"(?i)reset|broken pipe"


def opened(api: Api) -> socket.socket:
    return socket.create_connection(("127.0.0.1", api.port), timeout=30)


def head(length: int, *more: bytes, bearer: str = OPS_TOKEN) -> bytes:
    first = f"POST {PUBLISH} HTTP/1.1\r\nHost: hq\r\nAuthorization: Bearer {bearer}\r\nContent-Length: {length}\r\n"
    return first.encode() + b"Content-Type: application/json\r\n" + b"".join(more) + b"\r\n"


def everything_from(connection: socket.socket) -> bytes:
    answer = bytearray()
    while chunk := connection.recv(65536):
        answer += chunk
    return bytes(answer)


def send_on(connection: socket.socket, piece: bytes, *, seconds: float) -> None:
    """`piece` again and again, until nobody listens or the time is over."""
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        connection.sendall(piece)


@pytest.mark.parametrize("asks", [b"", CLOSE], ids=["kept", "closed"])
@pytest.mark.parametrize(("bearer", "status"), [(OPS_TOKEN, b"413"), ("wrong", b"401")])
def test_whoever_sends_a_body_of_nine_megabytes_reads_why_it_is_not_taken(
    api: Api, asks: bytes, bearer: str, status: bytes
) -> None:
    """A71"""
    with opened(api) as connection:
        connection.sendall(head(9 * MIB, asks, bearer=bearer))
        for _ in range(9):
            connection.sendall(b"x" * MIB)
        answer = connection.recv(65536)

    assert answer.split(b" ", 2)[1] == status


def test_a_body_that_is_too_large_is_told_both_limits(api: Api) -> None:
    with opened(api) as connection:
        connection.sendall(head(5 * MIB) + b"x" * 5 * MIB)
        answer = everything_from(connection)

    assert b"a body may have 256 KiB, and 4096 KiB when it says" in answer


def test_whoever_sends_on_without_end_is_cut_off(api: Api) -> None:
    with opened(api) as connection:
        connection.sendall(head(50 * MOST_DROPPED_BYTES, CLOSE))

        with pytest.raises(OSError, match=NOBODY_LISTENS):
            send_on(connection, b"x" * MIB, seconds=25)


def test_whoever_dawdles_over_the_rest_is_let_go(hasty: Api) -> None:
    """The end of the answer is there at once, and the connection soon after, however the rest trickles."""
    with opened(hasty) as connection:
        connection.sendall(head(9 * MIB, CLOSE))
        assert b" 413 " in everything_from(connection)
        began = time.monotonic()
        with pytest.raises(OSError, match=NOBODY_LISTENS):
            send_on(connection, b"x", seconds=20)

    assert time.monotonic() - began < 15
