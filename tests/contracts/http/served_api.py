"""The real application on a real server and a real PostgreSQL, with a client for each kind of caller."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import jwt
import uvicorn
from canary import secret
from sqlalchemy import Engine, text
from websockets.sync.client import ClientConnection, connect

from corporation.clock import utc_now
from corporation.db import open_ledger
from corporation.settings import Settings, load_settings
from hq_api.app import create_app

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
        return httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {token}"}, timeout=30)

    def socket(self, path: str, bearer: str | None = None, **options: Any) -> ClientConnection:
        """An open WebSocket on `path` that says `bearer`; use it with `with`."""
        headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
        address = f"ws://127.0.0.1:{self.port}{path}"
        return connect(address, additional_headers=headers, proxy=None, open_timeout=30, close_timeout=5, **options)

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


@contextmanager
def served(settings: Settings) -> Iterator[Api]:
    """Serve the application of `settings` on a free loopback port until the block ends."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=256)
    port = listener.getsockname()[1]
    config = uvicorn.Config(
        create_app(settings),
        http="httptools",
        ws="websockets-sansio",
        ws_max_size=4096,
        log_level="critical",
        server_header=False,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    engine = open_ledger(settings.database_url or "postgresql://nowhere", 5)
    headers = {"Authorization": f"Bearer {OPS_TOKEN}"}
    thread.start()
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=30) as ops:
            yield Api(port, settings, engine, ops)
    finally:
        server.should_exit = True
        thread.join(15)
        listener.close()
        engine.dispose()


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
