"""The HTTP application: `create_app(settings)`, and the attribute `app` that a server imports by name."""

import os
import sys
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from importlib.metadata import version
from typing import Annotated, Any

import redis
import structlog
from fastapi import Depends, FastAPI, Request
from redis.backoff import NoBackoff
from redis.retry import Retry
from sqlalchemy import Engine
from starlette.responses import Response

from corporation.clock import utc_now
from corporation.db import open_ledger
from corporation.errors import EXIT_CONFIG, SettingsError
from corporation.logs import configure_logs
from corporation.roles import FactoryRole, read_role
from corporation.settings import Settings, load_settings
from hq_api import responses
from hq_api.access import Principal, accepts_tokens
from hq_api.dependencies import principal_with
from hq_api.edge import Edge
from hq_api.routers import attempts, bundles, closed, factories, health, mission_log, missions
from hq_api.self_registration import SelfRegistration

LEDGER_CONNECTIONS = 10
NO_TOKEN = "UA_OPS_TOKEN is missing; set it or UA_OPS_JWT_SECRET: a gateway without either would be open to nobody"  # noqa: S105

log = structlog.get_logger()


def create_app(settings: Settings) -> FastAPI:
    """The application for `settings`; it opens nothing before its lifespan starts."""
    app = FastAPI(title="Corporation", version=version("corporation"), docs_url=None, redoc_url=None, openapi_url=None)
    app.router.lifespan_context = _lifespan
    app.state.settings = settings
    responses.install(app)
    app.add_middleware(Edge)
    app.include_router(health.router)
    if settings.role is FactoryRole.LOCAL_WORKER:
        app.include_router(closed.router)
        return app
    app.include_router(health.fleet_router)
    app.add_api_route("/openapi.json", _openapi, include_in_schema=False)
    # The log before the missions: their last route takes every address below /missions/.
    for router in (mission_log.router, missions.router, factories.router, attempts.router, bundles.router):
        app.include_router(router)
    return app


def _openapi(request: Request, _: Annotated[Principal, Depends(principal_with())]) -> Response:
    return responses.Json(request.app.openapi())


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncGenerator[None]:
    settings: Settings = app.state.settings
    if settings.ops_token and settings.ops_auth_allow_legacy:
        log.warning("static_token_accepted", why="UA_OPS_TOKEN never expires", end_it="UA_OPS_AUTH_ALLOW_LEGACY=0")
    app.state.started_at = utc_now()
    app.state.redis = _redis(settings)
    app.state.ledger = open_ledger(settings.database_url, LEDGER_CONNECTIONS) if settings.database_url else None
    try:
        with _registered(app.state.ledger, settings):
            yield
    finally:
        app.state.redis.close()
        if app.state.ledger is not None:
            app.state.ledger.dispose()


@contextmanager
def _registered(ledger: Engine | None, settings: Settings) -> Generator[None]:
    """Within the block headquarters is heard of like every factory; other nodes register elsewhere."""
    if ledger is None or settings.role is not FactoryRole.HEADQUARTERS:
        yield
        return
    registration = SelfRegistration(ledger, settings)
    registration.start()
    try:
        yield
    finally:
        registration.stop()


def _redis(settings: Settings) -> redis.Redis:
    # Only asked whether it is there, so it may answer quickly or not at all.
    retry = Retry(NoBackoff(), 0)
    return redis.Redis.from_url(settings.redis_url, socket_timeout=1, socket_connect_timeout=1, retry=retry)


def read_settings(environ: Mapping[str, str]) -> Settings:
    """The settings of a node that can serve HTTP; raises SettingsError, also when nobody could ever log in (E-11)."""
    worker = read_role(environ.get("FACTORY_ROLE")) is FactoryRole.LOCAL_WORKER
    settings = load_settings(environ, *(() if worker else ("UA_DATABASE_URL",)))
    if not worker and not accepts_tokens(settings):
        raise SettingsError([NO_TOKEN])
    return settings


def settings_or_exit() -> Settings:
    """The settings of this process; it ends with 78 and one line per problem when they cannot be used."""
    try:
        return read_settings(os.environ)
    except SettingsError as error:
        sys.stderr.write("".join(f"{problem}\n" for problem in error.problems))
        sys.exit(EXIT_CONFIG)


def __getattr__(name: str) -> Any:
    # Importing this module reads no environment; asking it for `app`, as a server does, is what starts a process.
    if name != "app":
        raise AttributeError(name)
    settings = settings_or_exit()
    configure_logs(settings)
    application = create_app(settings)
    globals()["app"] = application
    return application
