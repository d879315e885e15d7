"""What every request meets first and every answer last: an identity, a limit, security headers, the last resort."""

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from traceback import extract_tb
from typing import Final

import structlog
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from corporation.clock import monotonic, new_id
from hq_api.responses import CLOSE, Json

MAX_HEADER_BYTES: Final = 16 * 1024
INTERNAL_ERROR: Final = 1011
SECURITY_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
TRANSPORT_SECURITY: Final = "max-age=31536000"
"""Said over https only: for a year, never this host in clear. Its subdomains are not ours to decide for."""
_REFUSAL: Final = "websocket.http.response"
_REQUEST_ID: Final = re.compile(rb"[\x20-\x7e]{1,256}")
"""Printable ASCII: no line break, so no second header and no second line of a log. The longest in use, the trace
headers of load balancers, have about 200."""
Headers = Sequence[tuple[bytes, bytes]]

log = structlog.get_logger()


class Edge:
    """Pure ASGI, so that streams pass through untouched; a router's own header of the same name wins.

    A WebSocket meets the same: a request id, the limit, the headers, one line in the log when it ends.
    """

    def __init__(self, app: ASGIApp, make_id: Callable[[], str] = new_id) -> None:
        self.app = app
        self.make_id = make_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; nothing that goes wrong inside reaches the server or shows the caller a stack."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        answer = _Answer(scope, send, request_id(scope["headers"]) or self.make_id())
        scope.setdefault("state", {})["request_id"] = answer.request_id
        started = monotonic()
        try:
            refusal = too_much_header(scope)
            await (refusal or self.app)(scope, receive, answer.send)
        except Exception as error:
            log.error("request_failed", request_id=answer.request_id, error=where(error))
            if not answer.status:
                await _last_resort(scope, receive, answer)
        finally:
            log.info(
                "request",
                request_id=answer.request_id,
                method=scope.get("method", "WEBSOCKET"),
                path=scope["path"],
                status=answer.status,
                milliseconds=round((monotonic() - started) * 1000, 1),
            )


async def _last_resort(scope: Scope, receive: Receive, answer: "_Answer") -> None:
    if scope["type"] == "http":
        await Json({"detail": "Internal Server Error"}, 500)(scope, receive, answer.send)
        return
    with suppress(OSError):  # it may be the client's going away that went wrong
        await answer.send({"type": "websocket.close", "code": INTERNAL_ERROR})


class _Answer:
    """Passes on what is sent, and knows the status, of a WebSocket the close code, once there is one."""

    def __init__(self, scope: Scope, send: Send, request_id: str) -> None:
        self._scope = scope
        self._send = send
        self._accepted = False
        self.request_id = request_id
        self.status = 0

    async def send(self, message: Message) -> None:
        if message["type"] in ("http.response.start", f"{_REFUSAL}.start"):
            self.status = message["status"]
            self._dress(message)
        elif message["type"] == "websocket.accept":
            self._accepted = True
            self._dress(message)
        elif message["type"] == "websocket.close":
            self.status = message.get("code", 1000)
            if not self._accepted and _REFUSAL in self._scope.get("extensions", {}):
                # Left to the server this would be a 403 as bare as it can be.
                await self._refuse()
                return
        await self._send(message)

    def _dress(self, message: Message) -> None:
        message.setdefault("headers", [])
        headers = MutableHeaders(scope=message)
        headers["x-request-id"] = self.request_id
        for name, value in SECURITY_HEADERS.items():
            headers.setdefault(name, value)
        if self._scope["scheme"] in ("https", "wss"):
            headers["Strict-Transport-Security"] = TRANSPORT_SECURITY

    async def _refuse(self) -> None:
        start: Message = {"type": f"{_REFUSAL}.start", "status": 403}
        self._dress(start)
        await self._send(start)
        await self._send({"type": f"{_REFUSAL}.body", "body": b""})


def request_id(headers: Headers) -> str | None:
    """The caller's own name for this request (H-4), None when there is none fit to be echoed and logged."""
    for wanted in (b"x-request-id", b"x-correlation-id"):
        value = next((value for name, value in headers if name == wanted), None)
        if value is not None and _REQUEST_ID.fullmatch(value):
            return value.decode("ascii")
    return None


def too_much_header(scope: Scope) -> Json | None:
    """The 431 for a request whose target and headers exceed 16 KiB, else None."""
    size = sum(len(name) + len(value) + 4 for name, value in scope["headers"])
    size += len(scope.get("raw_path") or b"") + len(scope["query_string"])
    if size <= MAX_HEADER_BYTES:
        return None
    detail = f"headers_too_large: the request line and headers may have {MAX_HEADER_BYTES // 1024} KiB"
    return Json({"detail": detail}, 431, CLOSE)


def where(error: BaseException) -> str:
    """The class of `error` and the line that raised it; never its text, which may hold a secret (H-4)."""
    frames = extract_tb(error.__traceback__)
    return f"{type(error).__name__} at {frames[-1].filename}:{frames[-1].lineno}" if frames else type(error).__name__
