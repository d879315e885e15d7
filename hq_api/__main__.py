"""`python -m hq_api`: serve the API on UA_GATEWAY_HOST and UA_GATEWAY_PORT until SIGTERM, then finish what is open."""

import uvicorn

from corporation.settings import Settings
from hq_api.app import create_app, settings_or_exit

MAX_CONNECTIONS = 200
IDLE_SECONDS = 5
GRACEFUL_SECONDS = 10
LARGEST_FRAME_BYTES = 4096
"""Our sockets only tell; a client that sends is let go."""


def serve(settings: Settings) -> None:
    """Serve until told to stop; a request that runs then has ten seconds to end."""
    uvicorn.run(
        create_app(settings),
        host=settings.gateway_host,
        port=settings.gateway_port,
        http="httptools",
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


if __name__ == "__main__":
    serve(settings_or_exit())
