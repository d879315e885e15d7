"""A factory's way to headquarters with a credential: tokens of an hour, renewed in time, and never to anybody else."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import jwt
import pytest
import uvicorn
from canary import MARK, secret
from sqlalchemy import text

from corporation.db import open_ledger, transaction
from corporation.federation.hq import Hq, HqRefusedError, HqUnavailableError
from corporation.federation.hq_token import FactoryToken
from corporation.settings import load_settings
from corporation.tokens import credentials
from corporation.tokens.revocation import revoke_token
from hq_api.app import create_app

OPS_TOKEN = secret("ops-token")
CREDENTIAL = credentials.PREFIX + secret("desk-7")
MINT = "/auth/ops-token"
BEATS = "/api/v1/factory/registrations"
BEAT = {"factory_id": "desk-7"}


@pytest.fixture(scope="module")
def headquarters(module_servers: tuple[str, str]) -> Iterator[str]:
    """The address of a real headquarters that knows the credential of desk-7."""
    database_url, redis_url = module_servers
    environ = {"UA_DATABASE_URL": database_url, "UA_REDIS_URL": redis_url, "UA_OPS_JWT_SECRET": secret("signing")}
    settings = load_settings({"FACTORY_ROLE": "HEADQUARTERS", "UA_OPS_TOKEN": OPS_TOKEN, **environ})
    issue(database_url)
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    server = uvicorn.Server(uvicorn.Config(create_app(settings), ws="none", log_level="critical"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(15)
        listener.close()


def issue(database_url: str) -> None:
    engine = open_ledger(database_url)
    with transaction(engine) as connection:
        credentials.issue(connection, "desk-7", CREDENTIAL)
    engine.dispose()


@pytest.fixture
def hq_at() -> Iterator[Callable[..., Hq]]:
    """Makes ways to a headquarters, which are closed when the test is over."""
    with ExitStack() as made:

        def make(url: str, ops_token: str | None = None, credential: str | None = CREDENTIAL) -> Hq:
            return made.enter_context(closing(Hq(url, ops_token, credential=credential, factory_id="desk-7")))

        yield make


class Clock:
    """Seconds that pass when the test says so."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Watched:
    """A client that shows every request it sends: the path, and what proves who it is."""

    client: httpx.Client
    clock: Clock
    sent: list[tuple[str, str]] = field(default_factory=list)

    def exchanges(self) -> int:
        return [path for path, _ in self.sent].count(MINT)

    def beat(self) -> httpx.Response:
        return self.client.post(BEATS, json=BEAT)


@contextmanager
def watched(url: str) -> Iterator[Watched]:
    clock = Clock()
    auth = FactoryToken(url, "desk-7", CREDENTIAL, clock, lambda: 1.0)
    with httpx.Client(base_url=url, auth=auth, timeout=30, trust_env=False) as client:
        watch = Watched(client, clock)
        client.event_hooks = {
            "request": [lambda sent: watch.sent.append((sent.url.path, sent.headers.get("authorization", "")))]
        }
        yield watch


def test_a_factory_with_a_credential_is_let_in_with_tokens_of_an_hour(
    hq_at: Callable[..., Hq], headquarters: str
) -> None:
    """F-4, H-21"""
    hq = hq_at(headquarters, OPS_TOKEN)

    assert hq.beat(BEAT)["registration"]["factory_id"] == "desk-7"
    with pytest.raises(HqRefusedError) as caught:
        hq.beat({"factory_id": "desk-8"})
    assert caught.value.status == 403


def test_a_factory_without_one_may_send_the_operators_token(hq_at: Callable[..., Hq], headquarters: str) -> None:
    """F-4"""
    assert hq_at(headquarters, OPS_TOKEN, None).beat(BEAT)["ok"]
    with pytest.raises(HqRefusedError) as caught:
        hq_at(headquarters, None, None).beat(BEAT)
    assert caught.value.status == 401


def test_one_exchange_serves_an_hour_but_five_minutes(headquarters: str) -> None:
    """F-4"""
    with watched(headquarters) as watch:
        for moment, exchanges in ((0, 1), (1, 1), (3299, 1), (3301, 2), (6599, 2), (6602, 3)):
            watch.clock.now = moment
            assert watch.beat().status_code == 200
            assert watch.exchanges() == exchanges
        shown = {proof for path, proof in watch.sent if path == BEATS}
    assert len(shown) == 3
    assert {proof for path, proof in watch.sent if path == MINT} == {f"Bearer {CREDENTIAL}"}


def test_a_token_that_is_not_taken_is_replaced_once(headquarters: str, module_servers: tuple[str, str]) -> None:
    """F-4"""
    engine = open_ledger(module_servers[0])
    with watched(headquarters) as watch:
        watch.beat()
        token = watch.sent[-1][1].removeprefix("Bearer ")
        with transaction(engine) as connection:
            revoke_token(connection, jwt.decode(token, options={"verify_signature": False})["jti"], "ops")

        assert watch.beat().status_code == 200
        assert [path for path, _ in watch.sent] == [MINT, BEATS, BEATS, MINT, BEATS]
    engine.dispose()


def test_many_threads_share_one_exchange(headquarters: str) -> None:
    with watched(headquarters) as watch, ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: watch.beat().status_code, range(24)))

        assert answers == [200] * 24
        assert watch.exchanges() == 1


def test_a_credential_that_is_not_known_is_said_without_saying_it(hq_at: Callable[..., Hq], headquarters: str) -> None:
    hq = hq_at(headquarters, None, CREDENTIAL + "x")

    with pytest.raises(HqRefusedError, match="UA_FACTORY_CREDENTIAL") as caught:
        hq.beat(BEAT)
    assert caught.value.status == 401
    assert MARK not in str(caught.value) + repr(hq)


class Elsewhere(ThreadingHTTPServer):
    """Some server that is no headquarters: it answers each path with what the test says, and keeps what it was sent."""

    daemon_threads = True

    def __init__(self, answers: dict[str, tuple[int, bytes, dict[str, str]]]) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.answers = answers
        self.got: list[tuple[str, dict[str, str], bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Answer(BaseHTTPRequestHandler):
    server: Elsewhere

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", "0")))
        self.server.got.append((self.path, dict(self.headers), body))
        status, content, headers = self.server.answers[self.path]
        self.send_response(status)
        for name, value in {"content-length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def elsewhere(**answers: tuple[int, bytes, dict[str, str]]) -> Iterator[Elsewhere]:
    paths = {"mint": MINT, "beats": BEATS}
    server = Elsewhere({paths[name]: answer for name, answer in answers.items()})
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()


def minted(token: Any = "t-0", life: Any = 3600) -> bytes:  # noqa: S107 - a made-up token
    return json.dumps({"token": token, "token_type": "Bearer", "ttl_seconds": life}).encode()


@pytest.mark.parametrize("credential", [CREDENTIAL, None])
@pytest.mark.parametrize("path", ["mint", "beats"])
def test_a_redirect_carries_nothing_to_another_host(
    hq_at: Callable[..., Hq], path: str, credential: str | None
) -> None:
    """F-3, D15"""
    with elsewhere(mint=(200, minted(), {}), beats=(200, b"{}", {})) as thief:
        away = (307, b"", {"location": thief.url + (MINT if path == "mint" else BEATS)})
        with elsewhere(**({"mint": (200, minted(), {}), "beats": (200, b"{}", {})} | {path: away})) as server:
            hq = hq_at(server.url, OPS_TOKEN, credential)
            if path == "beats" or credential:
                with pytest.raises(HqRefusedError):
                    hq.beat(BEAT)
        assert thief.got == []


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ((503, b"", {}), HqUnavailableError),
        ((429, b"", {"retry-after": "9"}), HqUnavailableError),
        ((401, b"", {}), HqRefusedError),
        ((403, b"", {}), HqRefusedError),
        ((404, b"<html>", {}), HqRefusedError),
        ((200, b"<html>", {}), HqUnavailableError),
        ((200, b"[]", {}), HqUnavailableError),
        ((200, b"{}", {}), HqUnavailableError),
        ((200, minted(token=7), {}), HqUnavailableError),
        ((200, minted(token="a\r\nx: y"), {}), HqUnavailableError),
        ((200, minted(token=""), {}), HqUnavailableError),
        ((200, minted(life="soon"), {}), HqUnavailableError),
        ((200, minted(life=-1), {}), HqUnavailableError),
        ((200, b'{"token": "t-0", "ttl_seconds": NaN}', {}), HqUnavailableError),
    ],
)
def test_an_exchange_that_fails_is_one_of_two_known_errors(
    hq_at: Callable[..., Hq], answer: Any, error: type[Exception]
) -> None:
    with elsewhere(mint=answer, beats=(200, b"{}", {})) as server:
        hq = hq_at(server.url, OPS_TOKEN)
        with pytest.raises(error) as caught:
            hq.beat(BEAT)

        assert MARK not in str(caught.value)
        # Never the operator's token in its place, and nothing was sent without a token.
        assert [path for path, _, _ in server.got] == [MINT]
        assert not [headers for _, headers, _ in server.got if OPS_TOKEN in str(headers)]


def test_a_server_that_takes_no_token_is_asked_twice_and_no_more(hq_at: Callable[..., Hq]) -> None:
    with elsewhere(mint=(200, minted(), {}), beats=(401, b"", {})) as server:
        with pytest.raises(HqRefusedError) as caught:
            hq_at(server.url).beat(BEAT)

        assert caught.value.status == 401
        assert [path for path, _, _ in server.got] == [MINT, BEATS, MINT, BEATS]


def test_an_exchange_names_the_factory_and_asks_below_the_address_of_headquarters(hq_at: Callable[..., Hq]) -> None:
    with elsewhere(mint=(200, minted(life=60), {}), beats=(200, b"{}", {})) as server:
        hq_at(server.url + "/").beat(BEAT)

        wish = json.loads(server.got[0][2])
        assert wish == {"scope": "factory", "factory_id": "desk-7", "subject": "desk-7"}
        assert server.got[1][1]["Authorization"] == "Bearer t-0"


def test_headquarters_that_is_away_is_unavailable(hq_at: Callable[..., Hq]) -> None:
    with pytest.raises(HqUnavailableError) as caught:
        hq_at("http://127.0.0.1:1").beat(BEAT)
    assert MARK not in str(caught.value)


def test_the_ledger_was_left_without_the_credential(headquarters: str, module_servers: tuple[str, str]) -> None:
    """H-21"""
    assert headquarters
    engine = open_ledger(module_servers[0])
    with engine.connect() as connection:
        stored = connection.execute(text("SELECT CAST(c AS text) FROM corporation.factory_credentials c")).scalars()
        assert not [row for row in stored if MARK in row]
    engine.dispose()


def test_tokens_made_in_the_same_minute_are_not_renewed_in_the_same_minute() -> None:
    """A whole fleet would come back at once; each renews somewhere in the second half of the last five minutes."""

    def renewed_at(chance: float) -> float:
        auth = FactoryToken("http://127.0.0.1:1", "desk-7", CREDENTIAL, lambda: 0.0, lambda: chance)
        flow = auth.sync_auth_flow(httpx.Request("GET", "http://127.0.0.1:1/"))
        next(flow)
        flow.send(httpx.Response(200, json={"token": "a.b.c", "ttl_seconds": 3600}))
        assert auth._token is not None
        return auth._token.renew_at

    assert (renewed_at(0.0), renewed_at(1.0)) == (3450.0, 3300.0)


def exchange(auth: FactoryToken, status: int) -> int:
    """What one request ends with when HQ answers the exchange with `status`; -1 when HQ was not even asked."""
    flow = auth.sync_auth_flow(httpx.Request("GET", "http://127.0.0.1:1/"))
    asked = False
    try:
        next(flow)
        asked = True
        flow.send(httpx.Response(status, json={"token": "a.b.c", "ttl_seconds": 3600}))
    except HqUnavailableError:
        return 503
    except HqRefusedError as error:
        return error.status if asked else -1
    return 200


def test_a_refused_credential_is_shown_less_and_less_and_the_first_reason_is_kept() -> None:
    clock = Clock()
    auth = FactoryToken("http://127.0.0.1:1", "desk-7", CREDENTIAL, clock, lambda: 1.0)
    asked_at: list[float] = []
    for moment in range(400):
        clock.now = float(moment)
        if exchange(auth, 401 if moment < 20 else 429) != -1:
            asked_at.append(clock.now)

    assert asked_at == [0, 5, 15, 35, 75, 135, 195, 255, 315, 375]


def test_a_credential_that_counts_again_is_taken_and_the_refusal_is_forgotten() -> None:
    clock = Clock()
    auth = FactoryToken("http://127.0.0.1:1", "desk-7", CREDENTIAL, clock, lambda: 1.0)
    assert [exchange(auth, 401), exchange(auth, 200)] == [401, -1]
    clock.now = 5.0
    assert [exchange(auth, 503), exchange(auth, 200), exchange(auth, 401)] == [503, 200, 200]
    clock.now = 4000.0
    assert [exchange(auth, 429), exchange(auth, 401)] == [503, 401]
