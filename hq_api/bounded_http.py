"""The server's side of one HTTP connection: a head of bounded size within bounded time, and refusals like all others.

The library by itself waits for ever for a head, keeps whatever comes of it in memory, and answers what it refuses
itself as bare text. A body is bounded where it is read (`body.py`).
"""

import asyncio
import json
from asyncio import TimerHandle
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from hq_api.edge import MAX_HEADER_BYTES, SECURITY_HEADERS
from hq_api.responses import CLOSE, RETRY_AFTER_SECONDS, Json

HEAD_SECONDS: Final = 10
"""From the connection, or the first byte of a further request, to the end of its headers."""
MOST_HEAD_BYTES: Final = 4 * MAX_HEADER_BYTES
"""Above this nothing more is read; below, the edge judges exactly what one request has."""
MOST_DROPPED_BYTES: Final = 4 * 1024 * 1024
"""Of what still comes after a refusal this much is let go, so that an honest client reads why; then it is cut off."""
MOST_PIECE_BYTES: Final = 256 * 1024
"""What the event loop reads at once."""
FULL: Final = "too_many_connections: this server is full; try again in a few seconds"
BAD_REQUEST: Final = "invalid_http: this is no HTTP/1.1 request"
TOO_LARGE: Final = f"headers_too_large: the request line and headers may have {MAX_HEADER_BYTES // 1024} KiB"


class BoundedHttp(HttpToolsProtocol):
    """The library's connection, which ends when a head is too large or too slow; `head_seconds` is for tests."""

    head_seconds: float = HEAD_SECONDS

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._head_timer: TimerHandle | None = None
        self._head_bytes = 0
        self._in_head = True
        self._refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Somebody is there, and has to say soon what they want."""
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """They are gone."""
        self._head_is_there()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read a piece; 431 when the head is not over after too many of them."""
        self._head_bytes += len(data)
        if self._refused:
            self._drop_when_talkative()
            return
        if self._head_timer is None and self._in_head:
            self._await_head()
        super().data_received(data)
        if self._in_head and self._head_bytes > MOST_HEAD_BYTES and not self.transport.is_closing():
            self._refuse(431, TOO_LARGE)

    def on_message_begin(self) -> None:
        """A head begins."""
        self._in_head = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The head is over."""
        self._in_head = False
        self._head_is_there()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The next byte begins another head."""
        super().on_message_complete()
        self._in_head = True
        # What else came with this request is little, and counted as nothing.
        self._head_bytes = -MOST_PIECE_BYTES

    def handle_websocket_upgrade(self) -> None:
        """From here on it is another protocol's connection."""
        self._head_is_there()
        super().handle_websocket_upgrade()

    def send_400_response(self, msg: str) -> None:
        """What cannot be parsed is refused in the words and with the headers of every refusal."""
        del msg
        self._refuse(400, BAD_REQUEST)

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        # Anything but our application is the library's own 503.
        super()._start_asgi_task(cycle, app if app is self.app else _full)  # pyright: ignore[reportPrivateUsage]

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(self.head_seconds, self._too_slow)

    def _head_is_there(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _too_slow(self) -> None:
        self._head_timer = None
        if not self.transport.is_closing():
            self.transport.close()

    def _refuse(self, status: int, detail: str) -> None:
        body = json.dumps({"detail": detail}).encode("ascii")
        said = {**SECURITY_HEADERS, **CLOSE, "Content-Type": "application/json", "Content-Length": str(len(body))}
        head = "".join(f"{name}: {value}\r\n" for name, value in said.items())
        self.transport.write(STATUS_LINE[status] + head.encode("ascii") + b"\r\n" + body)
        # Closed while more is on its way, the connection would be reset and the answer lost: what comes is let go.
        self._refused = True
        self.transport.write_eof()
        self._head_is_there()
        self._await_head()

    def _drop_when_talkative(self) -> None:
        if self._head_bytes > MOST_DROPPED_BYTES and not self.transport.is_closing():
            self.transport.abort()


async def _full(scope: Any, receive: Any, send: Any) -> None:
    headers = {**SECURITY_HEADERS, **CLOSE, "Retry-After": str(RETRY_AFTER_SECONDS)}
    await Json({"detail": FULL}, 503, headers)(scope, receive, send)
