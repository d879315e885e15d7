"""The real application on a real server and a real PostgreSQL, with a client for each kind of caller."""

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import jwt
import stranger
import uvicorn
from canary import secret
from fastapi import FastAPI
from sqlalchemy import Engine, text
from websockets.sync.client import ClientConnection, connect

from corporation.clock import utc_now
from corporation.db import open_ledger
from corporation.engine.rebuilder import Rebuilder
from corporation.loops.forever import Running
from corporation.loops.running import run
from corporation.missions.brokers import load_broker
from corporation.settings import Settings, load_settings
from hq_api import rate_limits
from hq_api.app import create_app
from hq_api.bounded_http import BoundedHttp

OPS_TOKEN = secret("ops-token")
JWT_SECRET = secret("signing")
PUBLISH = "/api/v1/delegation/publish"


@dataclass(frozen=True)
class Api:
    """A served application, and the ledger behind it for looking at what was stored."""

    port: int
    settings: Settings
    engine: Engine
    ops: httpx.Client
    app: FastAPI

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def stored(self) -> int:
        """How many missions the ledger holds."""
        with self.engine.connect() as connection:
            return int(connection.execute(text("SELECT count(*) FROM corporation.missions")).scalar_one())

    def sql(self, statement: str, **values: Any) -> list[Any]:
        """Change or read the ledger behind the back of the application."""
        with self.engine.begin() as connection:
            result = connection.execute(text(statement), values)
            return list(result) if result.returns_rows else []

    def as_token(self, token: str) -> httpx.Client:
        """A client that says `token`."""
        return stranger.client(self.url, headers={"Authorization": f"Bearer {token}"})

    def socket(self, path: str, bearer: str | None = None, **options: Any) -> ClientConnection:
        """An open WebSocket on `path` that says `bearer`; use it with `with`."""
        headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
        address = f"ws://127.0.0.1:{self.port}{path}"
        waiting = {"open_timeout": 30, "close_timeout": 5} | options
        return connect(address, additional_headers=headers, proxy=None, **waiting)

    def exchange(self, raw: bytes) -> bytes:
        """The whole answer to these very bytes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as connection:
            connection.sendall(raw)
            answer = bytearray()
            while chunk := connection.recv(65536):
                answer += chunk
        return bytes(answer)


def token(scope: str | None = "ops", *, secret: str = JWT_SECRET, headers: Any = None, **changes: Any) -> str:
    """A JWT as ours are, with `changes` to its claims; None removes a claim."""
    now = int(utc_now().timestamp())
    claims: dict[str, Any] = {
        "iss": "universal-agent",
        "aud": "ua-ops",
        "sub": "somebody",
        "iat": now,
        "exp": now + 3600,
        "jti": "j-1",
        "scope": scope,
    }
    claims = {name: value for name, value in (claims | changes).items() if value is not None}
    return jwt.encode(claims, secret, algorithm="HS256", headers=headers)


class _Server(uvicorn.Server):
    """Ends at once when told; the library's own looks for that, and for all it waits for, every 0.1 s."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._listens = threading.Event()
        self._told = asyncio.Event()

    def stop(self) -> None:
        """The server begins to end."""
        if self._listens.wait(30):
            self._loop.call_soon_threadsafe(self._told.set)

    async def main_loop(self) -> None:
        self._loop = asyncio.get_running_loop()
        await self.on_tick(0)
        self._listens.set()
        await self._told.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for listening in self.servers:
            listening.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        async with asyncio.timeout(15):
            while self.server_state.connections or self.server_state.tasks:
                await asyncio.sleep(0.002)
        await self.lifespan.shutdown()


@contextmanager
def served(settings: Settings, **server_options: Any) -> Iterator[Api]:
    """Serve the application of `settings` on a free loopback port until the block ends."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=256)
    port = listener.getsockname()[1]
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        http=BoundedHttp,
        ws="websockets-sansio",
        ws_max_size=4096,
        log_level="critical",
        server_header=False,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=list(settings.trusted_proxies),
        **server_options,
    )
    server = _Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    engine = open_ledger(settings.database_url or "postgresql://nowhere", 5)
    headers = {"Authorization": f"Bearer {OPS_TOKEN}"}
    thread.start()
    try:
        with stranger.client(f"http://127.0.0.1:{port}", headers=headers) as ops:
            yield Api(port, settings, engine, ops, app)
    finally:
        server.stop()
        thread.join(15)
        listener.close()
        engine.dispose()


@contextmanager
def rebuilding(settings: Settings) -> Iterator[None]:
    """Within the block an engine does the rebuilds that this headquarters is asked for."""
    stop = threading.Event()
    ledger = open_ledger(settings.database_url or "", 2)
    loop = Running(Rebuilder(ledger, load_broker(settings), float(settings.attempt_lease_seconds)), stop)
    thread = threading.Thread(target=run, args=([loop], settings.database_url, stop, None))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(15)
        ledger.dispose()


def settings_for(database_url: str, **changes: str) -> Settings:
    """Settings of a headquarters with both kinds of token, whose Redis is not there; an empty change unsets."""
    environ = {
        "FACTORY_ROLE": "HEADQUARTERS",
        "UA_DATABASE_URL": database_url,
        "UA_REDIS_URL": "redis://127.0.0.1:1/0",
        "UA_OPS_TOKEN": OPS_TOKEN,
        "UA_OPS_JWT_SECRET": JWT_SECRET,
    }
    return load_settings(environ | changes)


def registered(api: Api, wait_until: Callable[..., Any]) -> None:
    """Headquarters has told the ledger of itself, and the ledger is empty again."""
    wait_until(lambda: api.sql("SELECT 1 FROM corporation.factories"), what="headquarters' own registration")
    api.sql("DELETE FROM corporation.factories")


def forgetful(api: Api) -> Api:
    """The same, which remembers no failure, no minted token and no cookie."""
    rate_limits.install(api.app, api.settings)
    api.ops.cookies.clear()
    return api
