"""A connection before it is a request: how long and how large its head may be, and how it is refused."""

import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
import stranger
from served_api import JWT_SECRET, OPS_TOKEN, Api, forgetful, served, settings_for, token

from hq_api.bounded_http import MOST_DROPPED_BYTES, BoundedHttp
from hq_api.dashboard.session import COOKIE
from hq_api.edge import SECURITY_HEADERS

HEALTH = b"GET /api/v1/health HTTP/1.1\r\nHost: hq\r\n"
GET = HEALTH + b"Connection: close\r\n\r\n"


@pytest.fixture(scope="module")
def hasty(module_servers: tuple[str, str]) -> Iterator[Api]:
    """A server that waits 0.3 s for a head, on a ledger that the other tests empty."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BoundedHttp, "head_seconds", 0.3)
        with served(settings_for(module_servers[0])) as api:
            yield api


def everything_from(connection: socket.socket) -> bytes:
    answer = bytearray()
    while chunk := connection.recv(65536):
        answer += chunk
    return bytes(answer)


def opened(api: Api) -> socket.socket:
    return socket.create_connection(("127.0.0.1", api.port), timeout=20)


def refused(answer: bytes) -> tuple[int, str]:
    """The status and the detail of an answer, which must be as well dressed as every other."""
    head, _, body = answer.partition(b"\r\n\r\n")
    names = {line.partition(b":")[0].decode().lower() for line in head.split(b"\r\n")[1:]}
    assert {name.lower() for name in SECURITY_HEADERS} | {"connection"} <= names
    return int(head.split()[1]), json.loads(body)["detail"]


@pytest.mark.parametrize("begun", [b"", b"GET ", HEALTH, HEALTH + b"X-Slow: "], ids=["none", "word", "line", "header"])
def test_whoever_does_not_say_soon_what_they_want_is_let_go(hasty: Api, begun: bytes) -> None:
    with opened(hasty) as connection:
        began = time.monotonic()
        connection.sendall(begun)
        answer = everything_from(connection)

    assert answer == b""
    assert 0.2 < time.monotonic() - began < 15


def test_a_further_request_on_the_same_connection_has_its_own_time(hasty: Api) -> None:
    with opened(hasty) as connection:
        connection.sendall(HEALTH + b"\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
        connection.sendall(b"GET /api")

        assert everything_from(connection) == b""


def test_a_socket_that_is_open_is_not_let_go(hasty: Api, shared_url: str) -> None:
    """Its head is over; what takes its time then is another matter."""
    del shared_url
    hasty.ops.post("/api/v1/delegation/publish", json={"job_id": "waits", "payload": {"task": "x"}}).raise_for_status()
    with hasty.socket("/api/v1/missions/waits/log", OPS_TOKEN) as log:
        log.recv(timeout=10)
        with pytest.raises(TimeoutError):
            log.recv(timeout=0.8)

        assert log.ping().wait(10)


@pytest.mark.parametrize("piece", [b"X-Much: " + b"x" * 1_000_000, b"X-Many: y\r\n" * 30_000], ids=["large", "many"])
def test_a_head_without_an_end_is_refused_and_not_kept(api: Api, piece: bytes) -> None:
    """A74: 431, also of one that never ends."""
    with opened(api) as connection:
        connection.sendall(HEALTH + piece)

        never_ending = refused(everything_from(connection))
    too_large = refused(api.exchange(HEALTH + b"X-Much: " + b"x" * 20_000 + b"\r\nConnection: close\r\n\r\n"))

    assert never_ending == too_large
    assert never_ending[0] == 431


def test_whoever_goes_on_after_a_refusal_is_cut_off(api: Api) -> None:
    with opened(api) as connection:
        connection.sendall(HEALTH + b"X-Much: " + b"x" * 200_000)

        with pytest.raises(OSError):  # noqa: PT011 - reset, or a broken pipe: both say that nobody listens
            connection.sendall(b"x" * 8 * MOST_DROPPED_BYTES)


NO_HTTP = [b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/1.1\r\nA B: c\r\n\r\n"]


@pytest.mark.parametrize("sent", NO_HTTP, ids=["tls", "half a line", "a blank in a name"])
def test_what_is_no_http_is_refused_in_the_shape_of_every_refusal(api: Api, sent: bytes) -> None:
    """H-3."""
    status, detail = refused(api.exchange(sent))

    assert (status, detail.partition(":")[0]) == (400, "invalid_http")


def test_a_server_that_is_full_says_so_and_when_to_come_again(shared_url: str) -> None:
    with served(settings_for(shared_url), limit_concurrency=2) as api, opened(api), opened(api):
        answer = api.exchange(GET)

    assert refused(answer) == (503, "too_many_connections: this server is full; try again in a few seconds")
    assert b"\r\nretry-after: 5\r\n" in answer.lower()


def test_bodies_are_as_long_as_they_may_be(api: Api) -> None:
    """What is counted is the head alone, however its end and the body come."""
    context = {"text": "x" * 200_000}
    body = json.dumps({"job_id": "j-1", "payload": {"task": "Tidy", "context": context}}).encode()
    head = f"POST /api/v1/delegation/publish HTTP/1.1\r\nHost: hq\r\nAuthorization: Bearer {OPS_TOKEN}\r\n".encode()
    head += b"Content-Type: application/json\r\nContent-Length: %d\r\n" % len(body)
    with opened(api) as connection:
        connection.sendall(head + b"\r\n" + body)
        first = connection.recv(65536)
        connection.sendall(head + b"Connection: close\r\n\r\n" + body)
        second = everything_from(connection)

    assert [first.split()[1], second.split()[1]] == [b"202", b"200"]


# What a proxy that ends TLS says of the request.


def over_https(api: Api, path: str, **options: Any) -> Any:
    return stranger.request("GET", api.url + path, headers={"X-Forwarded-Proto": "https", **options})


def test_over_https_every_answer_says_never_to_come_in_clear(shared_url: str) -> None:
    """notes, security §9: by the word of a proxy that is trusted, and of nobody else."""
    with served(settings_for(shared_url, UA_GATEWAY_TRUSTED_PROXIES="127.0.0.1")) as api:
        for path, status in (("/api/v1/health", 200), ("/api/v1/missions", 401), ("/nowhere", 404)):
            answer = over_https(api, path)
            assert (answer.status_code, answer.headers["strict-transport-security"]) == (status, "max-age=31536000")


def test_nobody_else_is_believed_that_it_was_https(api: Api) -> None:
    assert "strict-transport-security" not in over_https(api, "/api/v1/health").headers


def test_over_https_the_cookie_never_travels_in_clear(shared_url: str) -> None:
    """H-13."""
    with served(settings_for(shared_url, UA_GATEWAY_TRUSTED_PROXIES="127.0.0.1")) as api:
        form = {"Content-Type": "application/x-www-form-urlencoded", "Sec-Fetch-Site": "same-origin"}
        said = [
            stranger.post(f"{api.url}/dashboard/login", content=f"token={OPS_TOKEN}", headers=form | more)
            for more in ({"X-Forwarded-Proto": "https"}, {})
        ]

    cookies = [answer.headers["set-cookie"] for answer in said]
    for cookie in cookies:
        assert cookie.startswith(f"{COOKIE}=")
        assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(cookie.split("; "))
    assert ["Secure" in cookie for cookie in cookies] == [True, False]


# WebSockets.


def test_a_socket_that_is_opened_and_one_that_is_not_are_dressed_too(api: Api) -> None:
    from websockets.exceptions import InvalidStatus

    with api.socket("/api/v1/missions/j-1/log", OPS_TOKEN) as log:
        assert log.response is not None
        accepted = {name.lower() for name in log.response.headers}
    with pytest.raises(InvalidStatus) as nowhere:
        api.socket("/nowhere", OPS_TOKEN)
    refusal = nowhere.value.response

    expected = {name.lower() for name in SECURITY_HEADERS} | {"x-request-id"}
    assert expected <= accepted
    assert refusal.status_code == 403
    assert expected <= {name.lower() for name in refusal.headers}


# How often one may ask.


def test_a_publisher_is_told_when_to_come_again_and_nobody_else_notices(shared_url: str) -> None:
    """notes, security §12: counted by who asks, whichever of its tokens it shows."""
    with served(settings_for(shared_url, UA_API_PUBLISHER_PER_MINUTE="5")) as api:
        bearers = [token("publish", sub="press", jti=None), token("publish", sub="press", jti="other")]
        answers = [ask(api, bearers[number % 2]) for number in range(6)]
        others = [ask(api, one).status_code for one in (token("publish", sub="radio", jti=None), OPS_TOKEN) * 5]

    assert [answer.status_code for answer in answers] == [200] * 5 + [429]
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 60
    assert answers[-1].json()["detail"].startswith("too_many_requests: ")
    assert others == [200] * 10


def test_a_factory_is_counted_by_its_name(shared_url: str) -> None:
    with served(settings_for(shared_url, UA_API_FACTORY_PER_MINUTE="60")) as api:
        bearers = [token("factory", factory_id="desk-7", sub=f"process-{n}", jti=None) for n in range(2)]
        codes = [ask(api, bearers[n % 2], "/api/v1/factory/registrations").status_code for n in range(61)]
        other = ask(api, token("factory", factory_id="desk-8", jti=None), "/api/v1/factory/registrations").status_code

    assert codes == [200] * 60 + [429]
    assert other == 200


def ask(api: Api, bearer: str, path: str = "/api/v1/missions") -> Any:
    return stranger.get(api.url + path, headers={"Authorization": f"Bearer {bearer}"})


def test_a_body_of_many_mistakes_has_a_bounded_answer(api: Api) -> None:
    beat = {"factory_id": "desk-7", "running": [{"attempt_id": 7}] * 9000}
    answer = forgetful(api).ops.post("/api/v1/factory/registrations", json=beat | {"capabilities": [""] * 400})

    assert answer.status_code == 422
    assert len(answer.json()["detail"]) == 100
    assert JWT_SECRET not in answer.text
