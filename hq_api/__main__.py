"""`python -m hq_api`: serve the API on UA_GATEWAY_HOST and UA_GATEWAY_PORT until SIGTERM, then finish what is open."""

import resource
import socket
from contextlib import suppress
from pathlib import Path
from typing import Final

import uvicorn
from fastapi import FastAPI

from corporation.settings import Settings
from hq_api.app import create_app, settings_or_exit
from hq_api.bounded_http import BoundedHttp
from hq_api.long_poll import Waiting

MAX_CONNECTIONS: Final = 4000
"""Far more than a fleet holds open, a connection for each process of a node and each mission that is told about."""
MOST_OPEN_FILES: Final = 65_536
IDLE_SECONDS: Final = 5
GRACEFUL_SECONDS: Final = 10
LARGEST_FRAME_BYTES: Final = 4096
"""Our sockets only tell; a client that sends is let go."""


class Server(uvicorn.Server):
    """The library's server, which shows by a file that it listens."""

    def __init__(self, app: FastAPI, config: uvicorn.Config, ready_file: Path | None) -> None:
        super().__init__(config)
        self._app = app
        self._ready_file = ready_file
        self._set_ready(False)  # one that a killed process left

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """The file is there once connections are accepted; a server that cannot listen leaves none."""
        await super().startup(sockets)
        self._set_ready(self.started)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """The file is gone before the first connection is refused; who waits for missions has an answer at once."""
        self._set_ready(False)
        waiting: Waiting | None = getattr(self._app.state, "waiting", None)
        if waiting is not None:
            waiting.end()
        await super().shutdown(sockets)

    def _set_ready(self, ready: bool) -> None:
        if self._ready_file is None:
            return
        if ready:
            self._ready_file.touch()
        else:
            self._ready_file.unlink(missing_ok=True)


def serve(settings: Settings) -> None:
    """Serve until told to stop; a request that runs then has ten seconds to end."""
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        host=settings.gateway_host,
        port=settings.gateway_port,
        http=BoundedHttp,
        ws="websockets-sansio",
        ws_max_size=LARGEST_FRAME_BYTES,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=GRACEFUL_SECONDS,
        server_header=False,
        # An address a caller makes up must neither end in a log as the truth nor escape a limit.
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=list(settings.trusted_proxies),
        access_log=False,  # the edge writes that line, without what follows the question mark
    )
    with suppress(KeyboardInterrupt):  # raised again by the library, once everything has ended
        Server(app, config, settings.ready_file).run()


def allow_open_files(most: int = MOST_OPEN_FILES) -> int:
    """How many files this process may have open from now on: `most`, or as many as the system lets it ask for.

    Every connection is one, and the usual 1024 end long before MAX_CONNECTIONS. What is more already stays; calling it
    twice changes nothing.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = most if hard == resource.RLIM_INFINITY else min(most, hard)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return soft
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted


if __name__ == "__main__":
    allow_open_files()
    serve(settings_or_exit())
