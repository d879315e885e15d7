"""`python -m hq_api`: serve the API on UA_GATEWAY_HOST and UA_GATEWAY_PORT until SIGTERM, then finish what is open."""

import uvicorn

from corporation.logs import configure_logs
from corporation.settings import Settings
from hq_api.app import create_app, settings_or_exit

MAX_CONNECTIONS = 200
IDLE_SECONDS = 5
GRACEFUL_SECONDS = 10


def serve(settings: Settings) -> None:
    """Serve until told to stop; a request that runs then has ten seconds to end."""
    configure_logs(settings)
    uvicorn.run(
        create_app(settings),
        host=settings.gateway_host,
        port=settings.gateway_port,
        http="httptools",
        limit_concurrency=MAX_CONNECTIONS,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=GRACEFUL_SECONDS,
        server_header=False,
        proxy_headers=False,  # an address a caller makes up must not end in a log as the truth
        access_log=False,  # the edge writes that line, without what follows the question mark
    )


if __name__ == "__main__":
    serve(settings_or_exit())
