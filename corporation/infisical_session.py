"""A web session for secrets: nothing waits for ever, nothing is repeated, followed or kept, and one call ends it.

Imported only when Infisical is asked: requests and urllib3 come with the optional SDK.
"""

import io
import socket
from contextlib import suppress
from threading import RLock
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

LARGEST_ANSWER = 10 * 1024 * 1024
"""Bytes, decompressed; a project of a thousand secrets of 4 KiB is less than half of it."""


class RequestFailed(Exception):
    """A request gave nothing usable; it carries the class of the reason and a status, and no text of either side.

    It is none of the errors that the SDK repeats: a refused connection would take it 16 seconds.
    """

    def __init__(self, class_name: str, status: int | None = None) -> None:
        self.class_name = class_name
        self.status = status
        super().__init__(class_name)


class TooLarge(Exception):
    """The answer has more bytes than a list of secrets can have."""


class Line:
    """The connections of one session, so that another thread can end whatever their owner waits for."""

    def __init__(self) -> None:
        self._twins: list[socket.socket] = []
        self._is_cut = False
        self._lock = RLock()

    def watch(self, connection: socket.socket) -> None:
        """From now on `cut` ends `connection`; after `cut` it is ended here."""
        with self._lock:
            # A twin, because TLS takes the first one away; shutting either down ends both.
            self._twins.append(connection.dup())
            if self._is_cut:
                self.cut()

    def cut(self) -> None:
        """Every read and write on the connections has ended or ends at once, and so does each later one.

        It is the only thing that stops a server that sends one byte a second: a time limit of a socket starts anew
        with each byte. Calling it twice is safe.
        """
        with self._lock:
            self._is_cut = True
            while self._twins:
                twin = self._twins.pop()
                with suppress(OSError):  # the other side has closed it already
                    twin.shutdown(socket.SHUT_RDWR)
                twin.close()


def bounded_session(line: Line, *, wait_seconds: float, ca_bundle: str | None) -> requests.Session:
    """A session that waits `wait_seconds` for a connection and for each piece of an answer, and verifies TLS.

    It follows no redirect, which could carry the credentials elsewhere, and takes no proxy and no `.netrc` from the
    environment: an entry there would replace the token. `ca_bundle` is a file of authorities instead of the usual ones.
    """
    session = requests.Session()
    session.trust_env = False
    session.verify = ca_bundle or True
    adapter = _BoundedAdapter(line, wait_seconds)
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    return session


class _BoundedAdapter(HTTPAdapter):
    def __init__(self, line: Line, wait_seconds: float) -> None:
        super().__init__()
        self._wait_seconds = wait_seconds
        self.poolmanager.pool_classes_by_scheme = _watched_pools(line)

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: Any = True,
        cert: Any = None,
        proxies: Any = None,
    ) -> requests.Response:
        """The whole answer to `request`, read; raises nothing but RequestFailed."""
        limits = (self._wait_seconds, self._wait_seconds)
        try:
            response = super().send(request, True, limits, verify, cert, proxies)
            with response:
                body = _body_of(response)
        except Exception as error:
            failure = RequestFailed(type(error).__name__)
        else:
            if 200 <= response.status_code < 300:
                response.raw = io.BytesIO(body)
                return response
            failure = RequestFailed("Redirect" if response.is_redirect else "HTTPError", response.status_code)
        # Raised out here it does not carry the first error, whose text may repeat what was sent.
        raise failure


def _body_of(response: requests.Response) -> bytes:
    body = bytearray()
    for piece in response.raw.stream(64 * 1024, decode_content=True):
        body += piece
        if len(body) > LARGEST_ANSWER:
            raise TooLarge
    return bytes(body)


def _watched_pools(line: Line) -> dict[str, type[HTTPConnectionPool]]:
    class Plain(HTTPConnection):
        def _new_conn(self) -> socket.socket:
            connection = super()._new_conn()
            line.watch(connection)
            return connection

    class Encrypted(HTTPSConnection):
        def _new_conn(self) -> socket.socket:
            connection = super()._new_conn()
            line.watch(connection)
            return connection

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain  # pyright: ignore[reportAssignmentType]

    class EncryptedPool(HTTPSConnectionPool):
        ConnectionCls = Encrypted  # pyright: ignore[reportAssignmentType]

    return {"http": PlainPool, "https": EncryptedPool}
