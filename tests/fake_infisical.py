"""An Infisical for tests: a real HTTP server with the two routes that the SDK uses, and every way they fail."""

import gzip
import json
import ssl
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

from canary import secret

CLIENT_ID = "a-machine"
LOGIN, LIST = "/api/v1/auth/universal-auth/login", "/api/v3/secrets/raw"
LONGEST_HOLD_SECONDS = 30


class Behaviour(StrEnum):
    """What the server does with a request; the failures concern the list, after a login that works."""

    OK = "ok"
    WRONG_CREDENTIALS = "wrong_credentials"
    """401 to the login, with a message that repeats what was sent: nobody may pass it on."""
    SLOW_LOGIN = "slow_login"
    SLOW = "slow"
    """No answer for half a minute, or until the test is over."""
    DRIP = "drip"
    """A body of one byte at a time, without end."""
    DRIP_HEADERS = "drip_headers"
    """The same before the body."""
    BROKEN = "broken"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    EXPIRED_ONCE = "expired_once"
    """401 to the first list, as if the token had ended; the next one works."""
    EXPIRED_ALWAYS = "expired_always"
    MALFORMED = "malformed"
    WRONG_SHAPE = "wrong_shape"
    INCOMPLETE = "incomplete"
    """The connection ends in the middle of the body."""
    REDIRECT = "redirect"
    """307 to `redirect_to`, also for the login: a client that follows sends the credentials there."""
    HUGE = "huge"
    ZIP_BOMB = "zip_bomb"


@dataclass(frozen=True)
class Asked:
    """One request as it came."""

    path: str
    query: dict[str, str]
    authorization: str | None
    body: dict[str, Any] = field(repr=False)


class FakeInfisical:
    """`with FakeInfisical({"NAME": "value"}) as fake:` serves until the block ends; `fake.environ()` leads to it."""

    def __init__(
        self,
        secrets: Mapping[str, Any] | None = None,
        *,
        folders: Mapping[str, Mapping[str, Any]] | None = None,
        imports: Sequence[Mapping[str, Any]] = (),
        behaviour: Behaviour = Behaviour.OK,
        redirect_to: str = "",
        certificate: ssl.SSLContext | None = None,
    ) -> None:
        self.folders: dict[str, Mapping[str, Any]] = {**(folders or {}), "/": secrets or {}}
        self.imports = imports
        self.behaviour = behaviour
        self.redirect_to = redirect_to
        self.client_secret = secret("infisical-client-secret")
        self.hidden: set[str] = set()
        """Names whose values the identity may not read."""
        self.requests: list[Asked] = []
        self.issued: set[str] = set()
        """Every token that it gave: processes that start together each have one."""
        self.over = threading.Event()
        self._server = _Server(self, certificate)
        self.url = f"{'https' if certificate else 'http'}://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.over.set()
        self._server.shutdown()
        self._server.server_close()

    def environ(self, **more: str) -> dict[str, str]:
        """The variables with which a node loads its secrets from here."""
        return {
            "INFISICAL_CLIENT_ID": CLIENT_ID,
            "INFISICAL_CLIENT_SECRET": self.client_secret,
            "INFISICAL_PROJECT_ID": "project-1",
            "INFISICAL_API_URL": self.url,
            **more,
        }

    def asked(self, path: str) -> list[Asked]:
        """The requests to one route, in the order in which they came."""
        return [request for request in self.requests if request.path == path]

    def token(self) -> str:
        """The newest access token; every login makes an own one."""
        return f"{secret('infisical-token')}-{len(self.asked(LOGIN))}"

    def listed(self) -> dict[str, Any]:
        """The list as Infisical sends it: imported secrets lack nothing but are no part of `secrets`."""
        own = [self._row(path, name, value) for path, rows in self.folders.items() for name, value in rows.items()]
        imported = [
            {
                "secretPath": f"/import-{number}",
                "environment": "dev",
                "folderId": "folder",
                "secrets": [self._row(f"/import-{number}", name, value) for name, value in rows.items()],
            }
            for number, rows in enumerate(self.imports)
        ]
        return {"secrets": own, "imports": imported}

    def _row(self, path: str, name: str, value: Any) -> dict[str, Any]:
        return {
            "id": name,
            "_id": name,
            "workspace": "project-1",
            "environment": "dev",
            "version": 1,
            "type": "shared",
            "secretKey": name,
            "secretValue": "<hidden-by-infisical>" if name in self.hidden else value,
            "secretValueHidden": name in self.hidden,
            "secretComment": "",
            "secretPath": path,
            "createdAt": "2026-01-01T00:00:00.000Z",
            "updatedAt": "2026-01-01T00:00:00.000Z",
            "somethingNewer": True,
        }


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, fake: FakeInfisical, certificate: ssl.SSLContext | None) -> None:
        self.fake = fake
        super().__init__(("127.0.0.1", 0), _Handler)
        if certificate:
            self.socket = certificate.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is what these tests are about."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        self._answer(self._record(json.loads(self.rfile.read(length) or b"{}")))

    def do_GET(self) -> None:
        self._answer(self._record({}))

    def _record(self, body: dict[str, Any]) -> Asked:
        parts = urlsplit(self.path)
        asked = Asked(parts.path, dict(parse_qsl(parts.query)), self.headers.get("Authorization"), body)
        self.server.fake.requests.append(asked)
        return asked

    def _answer(self, asked: Asked) -> None:
        fake = self.server.fake
        if fake.behaviour is Behaviour.REDIRECT:
            self._send(307, b"", Location=fake.redirect_to + self.path)
        elif asked.path == LOGIN:
            self._log_in(asked)
        elif asked.path == LIST:
            self._list(asked)
        else:
            self._refuse(404, "no such route")

    def _log_in(self, asked: Asked) -> None:
        fake = self.server.fake
        sent = (asked.body.get("clientId"), asked.body.get("clientSecret"))
        if fake.behaviour is Behaviour.SLOW_LOGIN:
            fake.over.wait(LONGEST_HOLD_SECONDS)
        elif fake.behaviour is Behaviour.WRONG_CREDENTIALS or sent != (CLIENT_ID, fake.client_secret):
            self._refuse(401, f"no machine has the secret {sent[1]}")
        else:
            made = fake.token()
            fake.issued.add(made)
            token = {"accessToken": made, "expiresIn": 3600, "accessTokenMaxTTL": 3600, "tokenType": "Bearer"}
            self._send(200, json.dumps(token).encode())

    def _list(self, asked: Asked) -> None:
        fake = self.server.fake
        expired = fake.behaviour is Behaviour.EXPIRED_ALWAYS
        expired |= fake.behaviour is Behaviour.EXPIRED_ONCE and len(fake.asked(LIST)) == 1
        if expired or (asked.authorization or "").removeprefix("Bearer ") not in fake.issued:
            self._refuse(401, f"the token has ended: {asked.authorization}")
        else:
            _LISTS.get(fake.behaviour, _Handler._send_list)(self)

    def _send_list(self) -> None:
        self._send(200, json.dumps(self.server.fake.listed()).encode())

    def _hold(self) -> None:
        self.server.fake.over.wait(LONGEST_HOLD_SECONDS)

    def _drip(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000000")
        self.end_headers()
        self._send_for_ever(b" ")

    def _drip_headers(self) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        self._send_for_ever(b"x")

    def _send_for_ever(self, piece: bytes) -> None:
        while not self.server.fake.over.wait(0.02):
            self.wfile.write(piece)

    def _end_early(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(b'{"secrets": [')
        self.close_connection = True

    def _send_too_much(self) -> None:
        value = "x" * (12 * 1024 * 1024)
        self._send(200, json.dumps({"secrets": [], "more": value}).encode())

    def _send_bomb(self) -> None:
        self._send(200, gzip.compress(bytes(64 * 1024 * 1024), compresslevel=1), **{"Content-Encoding": "gzip"})

    def _refuse(self, status: int, message: str) -> None:
        body = {"statusCode": status, "message": message, "error": "Error", "reqId": "req-1"}
        self._send(status, json.dumps(body).encode())

    def _send(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: what clients send here is secret."""


_LISTS = {
    Behaviour.SLOW: _Handler._hold,
    Behaviour.DRIP: _Handler._drip,
    Behaviour.DRIP_HEADERS: _Handler._drip_headers,
    Behaviour.BROKEN: lambda handler: handler._refuse(500, "down"),
    Behaviour.FORBIDDEN: lambda handler: handler._refuse(403, "not yours"),
    Behaviour.NOT_FOUND: lambda handler: handler._refuse(404, "no such project"),
    Behaviour.MALFORMED: lambda handler: handler._send(200, b'{"secrets": [' + secret("malformed").encode()),
    Behaviour.WRONG_SHAPE: lambda handler: handler._send(200, b'{"secrets": [{"secretKey": "A"}]}'),
    Behaviour.INCOMPLETE: _Handler._end_early,
    Behaviour.HUGE: _Handler._send_too_much,
    Behaviour.ZIP_BOMB: _Handler._send_bomb,
}
