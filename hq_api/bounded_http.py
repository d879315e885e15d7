"""The server's side of one HTTP connection: a head of bounded size within bounded time, and refusals like all others.

The library by itself waits for ever for a head, keeps whatever comes of it in memory, and answers what it refuses
itself as bare text. A body is bounded where it is read (`body.py`); what is wrapped around it, and what still comes
of a request that has its answer, is bounded here.
"""

import asyncio
import json
from asyncio import TimerHandle
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from hq_api.edge import MAX_HEADER_BYTES, SECURITY_HEADERS
from hq_api.responses import CLOSE, RETRY_AFTER_SECONDS, Json

HEAD_SECONDS: Final = 10
"""From the connection, or the first byte of a further request, to the end of its headers; and from an answer to the
end of the request, where the answer came first."""
MOST_HEAD_BYTES: Final = 4 * MAX_HEADER_BYTES
"""Above this nothing more is read; below, the edge judges exactly what one request has. Also the most of what is around
a body that comes in chunks: their sizes and extensions, and the trailers."""
WRAPPED: Final = 8
"""So many bytes around each byte of a body are not counted: a chunk of one byte has six, and its line may say more."""
MOST_DROPPED_BYTES: Final = 16 * 1024 * 1024
"""Of what still comes after an answer this much is let go, so that an honest client reads it; then it is cut off."""
MOST_PIECE_BYTES: Final = 256 * 1024
"""What the event loop reads at once."""
FULL: Final = "too_many_connections: this server is full; try again in a few seconds"
BAD_REQUEST: Final = "invalid_http: this is no HTTP/1.1 request"
TOO_LARGE: Final = f"headers_too_large: the request line and headers may have {MAX_HEADER_BYTES // 1024} KiB"


class BoundedHttp(HttpToolsProtocol):
    """The library's connection, which ends when a head, or what comes after an answer, is too large or too slow.

    `head_seconds` is for tests.
    """

    head_seconds: float = HEAD_SECONDS

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._head_timer: TimerHandle | None = None
        self._head_bytes = 0  # or, after the head, what came around the body
        self._late_bytes = 0
        self._in_head = True
        self._parted = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Somebody is there, and has to say soon what they want."""
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """They are gone."""
        self._head_is_there()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read a piece; 431 when the head is not over after too many of them, cut off when the rest is not."""
        self._head_bytes += len(data)
        self._late_bytes += len(data)
        if self._parted:
            self._drop_when_talkative()
            return
        if self._head_timer is None and self._in_head:
            self._await_head()
        super().data_received(data)
        if not self._parted and not self.transport.is_closing():
            self._check_sizes()

    def on_message_begin(self) -> None:
        """A head begins."""
        self._in_head = True
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header of the head; a trailer is dropped, for the library would add it to what the head said."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is over."""
        self._in_head = False
        self._head_bytes = 0
        self._head_is_there()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of the body, which pays for what was around it."""
        self._head_bytes = max(0, self._head_bytes - WRAPPED * len(body))
        super().on_body(body)

    def on_response_complete(self) -> None:
        """The answer is sent; where the request is not over yet, its rest has to come soon."""
        super().on_response_complete()
        if self._parted:
            self._unset_keepalive_if_required()  # it would end sooner than the rest may take
        elif self._is_late() and not self.transport.is_closing():
            self._late_bytes = 0
            self._await_head()

    def on_message_complete(self) -> None:
        """The next byte begins another head."""
        super().on_message_complete()
        if self._head_timer is not None:
            # It came after its answer, and every piece of it ended the library's own wait for a further request.
            self._await_head()
        self._in_head = True
        # What else came with this request is little, and counted as nothing.
        self._head_bytes = -MOST_PIECE_BYTES

    def handle_websocket_upgrade(self) -> None:
        """From here on it is another protocol's connection; 400 where that one cannot read the head."""
        self._head_is_there()
        super().handle_websocket_upgrade()
        opened: Any = self.transport.get_protocol()
        if opened.conn.handshake_exc is not None and not self.transport.is_closing():
            # The library would neither answer nor ever end it.
            self._say(400, BAD_REQUEST)
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """What cannot be parsed is refused in the words and with the headers of every refusal."""
        del msg
        self._refuse(400, BAD_REQUEST)

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        # Anything but our application is the library's own 503; a server that is full waits for nobody's rest.
        ours = app is self.app
        if ours:
            cycle.transport = _Exchange(self, cycle)
        super()._start_asgi_task(cycle, app if ours else _full)  # pyright: ignore[reportPrivateUsage]

    def part(self) -> None:
        """Nothing more is said, and what comes is let go: closed at once, the connection would be reset and the answer
        lost to a client that still sends."""
        self._parted = True
        self._head_bytes = 0
        self.transport.write_eof()
        self.flow.resume_reading()
        self._await_head()

    def _check_sizes(self) -> None:
        if self._in_head:
            if self._head_bytes > MOST_HEAD_BYTES:
                self._refuse(431, TOO_LARGE)
        elif self._head_bytes > MOST_HEAD_BYTES or (self._is_late() and self._late_bytes > MOST_DROPPED_BYTES):
            # The application reads this request, or has answered it: there is no answer to give but this.
            self.transport.abort()

    def _is_late(self) -> bool:
        """Whether the request has its answer and is not over."""
        cycle: Any = self.cycle  # None before the first request, whatever the library's type says
        return not self._in_head and cycle is not None and cycle.response_complete

    def _await_head(self) -> None:
        self._head_is_there()
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
        self._say(status, detail)
        self.part()

    def _say(self, status: int, detail: str) -> None:
        body = json.dumps({"detail": detail}).encode("ascii")
        said = {**SECURITY_HEADERS, **CLOSE, "Content-Type": "application/json", "Content-Length": str(len(body))}
        head = "".join(f"{name}: {value}\r\n" for name, value in said.items())
        self.transport.write(STATUS_LINE[status] + head.encode("ascii") + b"\r\n" + body)

    def _drop_when_talkative(self) -> None:
        if self._head_bytes > MOST_DROPPED_BYTES and not self.transport.is_closing():
            self.transport.abort()


class _Exchange:
    """What one request and its answer may do with the connection: the library ends it with the answer."""

    def __init__(self, connection: BoundedHttp, cycle: Any) -> None:
        self._connection = connection
        self._cycle = cycle

    def write(self, data: bytes) -> None:
        self._connection.transport.write(data)

    def is_closing(self) -> bool:
        return self._connection.transport.is_closing()

    def close(self) -> None:
        """The end of the connection; where the request is not over yet, its rest is let go first."""
        if self._cycle.more_body and self._cycle.response_complete and not self.is_closing():
            self._connection.part()
        else:
            self._connection.transport.close()


async def _full(scope: Any, receive: Any, send: Any) -> None:
    headers = {**SECURITY_HEADERS, **CLOSE, "Retry-After": str(RETRY_AFTER_SECONDS)}
    await Json({"detail": FULL}, 503, headers)(scope, receive, send)
