"""What is around a body that comes in chunks, and what still comes of a request that has its answer: both bounded."""

import json
import re
import socket

import pytest
from served_api import OPS_TOKEN, PUBLISH, Api

from hq_api.bounded_http import MOST_DROPPED_BYTES, MOST_HEAD_BYTES

HEALTH = b"GET /api/v1/health HTTP/1.1\r\nHost: hq\r\n\r\n"
LAST_HEALTH = HEALTH.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
BEARER = f"Authorization: Bearer {OPS_TOKEN}\r\n".encode()
JSON = b"Host: hq\r\nContent-Type: application/json\r\n"
CHUNKED = JSON + b"Transfer-Encoding: chunked\r\n"
ENROL = b"POST /api/v1/factory/enrol HTTP/1.1\r\n" + CHUNKED + b"\r\n"
"""Read to its end before anybody is asked who they are."""
QUARANTINE = b"POST /api/v1/ops/factory/quarantine HTTP/1.1\r\n"
"""Answered with 401 before its body is read."""
KERNEL_BYTES = 16 * 1024 * 1024
"""More than both ends of a connection hold of what nobody reads."""


def opened(api: Api) -> socket.socket:
    return socket.create_connection(("127.0.0.1", api.port), timeout=20)


def everything_from(connection: socket.socket) -> bytes:
    answer = bytearray()
    while chunk := connection.recv(65536):
        answer += chunk
    return bytes(answer)


def statuses(answers: bytes) -> list[int]:
    return [int(code) for code in re.findall(rb"HTTP/1\.1 (\d{3}) ", answers)]


def is_cut_off(connection: socket.socket, piece: bytes) -> bool:
    """Whether nobody listens any more before more was sent than is let go and fits into the kernel."""
    sent = 0
    try:
        while sent < MOST_DROPPED_BYTES + KERNEL_BYTES:
            connection.sendall(piece)
            sent += len(piece)
    except OSError as error:
        return not isinstance(error, TimeoutError)
    return False


def publish(job_id: str, *, trailers: bytes = b"", bearer: bytes = BEARER, line: bytes = b"", width: int = 40) -> bytes:
    """The request in chunks of `width`, each with `line` after its size."""
    body = json.dumps({"job_id": job_id, "payload": {"task": "Tidy", "context": {"text": "x" * 30_000}}}).encode()
    pieces = [body[at : at + width] for at in range(0, len(body), width)]
    chunks = b"".join(b"%x%b\r\n%b\r\n" % (len(piece), line, piece) for piece in pieces)
    return f"POST {PUBLISH} HTTP/1.1\r\n".encode() + bearer + CHUNKED + b"\r\n" + chunks + b"0\r\n" + trailers + b"\r\n"


# Around the body.

MANY = b"X-Many: " + b"y" * 1000 + b"\r\n"
LONG = b"a" * 65_536
ENDLESS = {
    "trailers": (b"2\r\n{}\r\n0\r\n", MANY * 64),
    "one trailer": (b"2\r\n{}\r\n0\r\nX-Long: ", LONG),
    "the name of a trailer": (b"2\r\n{}\r\n0\r\n", LONG),
    "an extension": (b"2;x=", LONG),
    "an extension to each byte": (b"", b"1;x=" + b"a" * 30_000 + b"\r\n \r\n"),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_what_goes_on_for_ever_around_a_body_is_cut_off(api: Api, name: str) -> None:
    begun, piece = ENDLESS[name]
    with opened(api) as connection:
        connection.sendall(ENROL + begun)

        assert is_cut_off(connection, piece)

    assert statuses(api.exchange(LAST_HEALTH)) == [200]


def test_a_trailer_is_never_taken_for_a_header(api: Api) -> None:
    """It would come after whatever a proxy removed or judged, and here it would even say who asks."""
    with opened(api) as connection:
        connection.sendall(publish("by-trailer", bearer=b"", trailers=BEARER) + LAST_HEALTH)
        answers = everything_from(connection)

    assert statuses(answers) == [401, 200]
    assert api.sql("SELECT 1 FROM corporation.missions WHERE job_id = 'by-trailer'") == []


def test_the_trailers_of_a_request_are_none_of_the_next_one(api: Api) -> None:
    nobodys = b"GET /api/v1/missions HTTP/1.1\r\nHost: hq\r\nConnection: close\r\n\r\n"
    for trailers in (BEARER, b"X-One: 1\r\n" + BEARER, BEARER + b"X-Empty:\r\n"):
        with opened(api) as connection:
            connection.sendall(publish("first", trailers=trailers) + nobodys)
            first, second = statuses(everything_from(connection))

        assert first in (200, 202)
        assert second == 401


def test_a_body_in_chunks_of_one_byte_with_extensions_and_trailers_is_taken(api: Api) -> None:
    """What is around it is several times as much as a head may have."""
    for job_id, request in (
        ("bytes", publish("bytes", width=1)),
        ("extended", publish("extended", width=40, line=b";signature=" + b"s" * 64, trailers=b"X-Sum: 5\r\n")),
    ):
        assert len(request) > MOST_HEAD_BYTES
        with opened(api) as connection:
            connection.sendall(request + LAST_HEALTH)

            assert statuses(everything_from(connection)) == [202, 200]
        assert len(api.sql("SELECT 1 FROM corporation.missions WHERE job_id = :job_id", job_id=job_id)) == 1


# After the answer.


def refused_first(connection: socket.socket, head: bytes) -> None:
    """The answer to a request whose body is still to come was read."""
    connection.sendall(QUARANTINE + head + b"\r\n")
    answer = bytearray()
    while b"}" not in answer:
        answer += connection.recv(65536)
    assert statuses(bytes(answer)) == [401]


REST = {
    "chunks": (CHUNKED, b"10000\r\n" + LONG + b"\r\n"),
    "a length": (JSON + b"Content-Length: 1000000000\r\n", LONG),
    "an extension": (CHUNKED, b"1;x=" + LONG),
}


@pytest.mark.parametrize("name", REST)
def test_whoever_goes_on_for_ever_after_the_answer_is_cut_off(api: Api, name: str) -> None:
    head, piece = REST[name]
    with opened(api) as connection:
        refused_first(connection, head)

        assert is_cut_off(connection, piece)


@pytest.mark.parametrize("begun", [b"2\r\n", b"2\r\n{}\r\n0\r\nX-Slow: "], ids=["body", "trailer"])
def test_whoever_does_not_end_what_is_answered_is_let_go(hasty: Api, begun: bytes) -> None:
    """One byte ends the library's own wait."""
    with opened(hasty) as connection:
        refused_first(connection, CHUNKED)
        connection.sendall(begun)

        assert everything_from(connection) == b""


def test_a_connection_whose_request_ended_after_its_answer_goes_on_and_is_not_held_for_ever(hasty: Api) -> None:
    with opened(hasty) as connection:
        refused_first(connection, JSON + b"Content-Length: 2\r\n")
        connection.sendall(b"{}" + HEALTH)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
    with opened(hasty) as connection:
        refused_first(connection, JSON + b"Content-Length: 2\r\n")
        connection.sendall(b"{}")

        assert everything_from(connection) == b""


@pytest.mark.parametrize(
    "more", [b"Content-Length: 10\r\n", b"X-Long: " + b"x" * 9000 + b"\r\n"], ids=["a body", "a long line"]
)
def test_a_socket_whose_request_cannot_be_read_is_refused_and_let_go(api: Api, more: bytes) -> None:
    head = b"GET /api/v1/missions/j/log HTTP/1.1\r\nHost: hq\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"

    answer = api.exchange(head + more + b"\r\n")

    assert statuses(answer) == [400]
    assert b"invalid_http" in answer
