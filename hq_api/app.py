"""The HTTP application: `create_app(settings)`, and the attribute `app` that a server imports by name."""

import os
import sys
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from importlib.metadata import version
from typing import Annotated, Any, Final

import redis
import structlog
from fastapi import Depends, FastAPI, Request
from sqlalchemy import Engine
from starlette.responses import Response

from corporation.bootstrap import PROJECT_ROOT, bootstrap
from corporation.broker_link import open_link
from corporation.clock import utc_now
from corporation.database_role import why_role_is_refused
from corporation.db import open_ledger
from corporation.errors import EXIT_CONFIG, SettingsError
from corporation.roles import FactoryRuntimePolicy, HeartbeatScope, build_factory_runtime_policy, read_role
from corporation.secrets import load_secrets
from corporation.settings import Settings
from corporation.trust.keyring import signer_of, why_keys_are_refused
from hq_api import dashboard, rate_limits, responses
from hq_api.access import Principal, is_configured
from hq_api.addresses import WithoutEmptyValues
from hq_api.api_description import describe
from hq_api.broker_sight import BrokerSight
from hq_api.cors import Cors
from hq_api.dependencies import principal_with
from hq_api.edge import Edge
from hq_api.gates import HealthOnly, hide_operators_addresses
from hq_api.long_poll import Waiting
from hq_api.metrics import HistoryCount
from hq_api.own_health import OwnHealth
from hq_api.rebuild_waiting import Patience
from hq_api.routers import (
    adoption,
    attempts,
    audit,
    bootstrap_jobs,
    bundles,
    cancelling,
    capabilities,
    claims,
    dead_letters,
    dead_letters_in_bulk,
    delegation,
    enrolment,
    explanations,
    factories,
    factory_control,
    fleet_costs,
    health,
    metrics,
    mission_log,
    mission_log_socket,
    missions,
    queues,
    results,
    tokens,
)
from hq_api.self_registration import SelfRegistration
from hq_api.server_log import hide_queries
from hq_api.stream_counts import StreamCounting

LEDGER_CONNECTIONS: Final = 10
NO_TOKEN: Final = (
    "UA_OPS_TOKEN is missing; set it or UA_OPS_JWT_SECRET: a gateway without either would be open to nobody"  # noqa: S105
)

log = structlog.get_logger()


def create_app(settings: Settings) -> FastAPI:
    """The application that the policy of `settings` asks for; it opens nothing before its lifespan starts."""
    app = FastAPI(
        title="Corporation",
        version=version("corporation"),
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,  # the target would be built from the Host header, which is the caller's
    )
    app.router.lifespan_context = _lifespan
    app.state.settings = settings
    key = settings.mission_signing_key
    app.state.rebuild_patience = Patience()
    app.state.signer = signer_of(key.get_secret_value()) if key else None
    responses.install(app)
    rate_limits.install(app, settings)
    # The last one added is met first.
    app.add_middleware(WithoutEmptyValues)
    if settings.policy.health_only:
        app.add_middleware(HealthOnly)
    app.add_middleware(Cors, origins=settings.cors_allowed_origins)
    app.add_middleware(Edge)
    app.include_router(health.router)
    if not settings.policy.health_only:
        _include_all(app, settings.policy)
    return app


def _include_all(app: FastAPI, policy: FactoryRuntimePolicy) -> None:
    """Every route that is not health; each has its own gate, so none has to be left out for a role."""
    hide_operators_addresses(app)
    app.include_router(health.full_router)
    app.add_api_route("/openapi.json", _openapi, include_in_schema=False)
    # The log before the missions: their last route takes every address below /missions/.
    for subject in (
        mission_log,
        mission_log_socket,
        dead_letters,
        dead_letters_in_bulk,
        explanations,
        cancelling,
        adoption,
        audit,
        metrics,
        missions,
        factories,
        factory_control,
        enrolment,
        capabilities,
        claims,
        attempts,
        results,
        bundles,
        bootstrap_jobs,
        delegation,
        fleet_costs,
        queues,
        tokens,
    ):
        app.include_router(subject.router)
    # Without a ledger nobody could tell whether a session was ended.
    if policy.serves_pages:
        app.include_router(dashboard.router)


def _openapi(request: Request, _: Annotated[Principal, Depends(principal_with())]) -> Response:
    return responses.Json(describe(request.app))


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncGenerator[None]:
    settings: Settings = app.state.settings
    hide_queries()
    if settings.ops_token and settings.ops_auth_allow_legacy:
        log.warning("static_token_accepted", why="UA_OPS_TOKEN never expires", end_it="UA_OPS_AUTH_ALLOW_LEGACY=0")
    app.state.started_at = utc_now()
    app.state.redis = open_link(settings.redis_url)
    app.state.ledger = open_ledger(settings.database_url, LEDGER_CONNECTIONS) if settings.database_url else None
    app.state.history_count = HistoryCount()
    app.state.stream_counting = StreamCounting()
    app.state.health = OwnHealth(settings.database_url, app.state.redis)
    app.state.broker_sight = BrokerSight(app.state.health.broker_answers)
    app.state.waiting = Waiting(settings.database_url)
    app.state.waiting.start()
    try:
        with _registered(app.state.ledger, app.state.redis, settings):
            yield
    finally:
        app.state.waiting.close()
        app.state.health.close()
        app.state.redis.close()
        if app.state.ledger is not None:
            app.state.ledger.dispose()


@contextmanager
def _registered(ledger: Engine | None, broker: redis.Redis, settings: Settings) -> Generator[None]:
    """Within the block headquarters is heard of like every factory; other nodes register elsewhere."""
    policy = settings.policy
    if ledger is None or not policy.is_headquarters or policy.heartbeat_scope is not HeartbeatScope.GLOBAL:
        yield
        return
    registration = SelfRegistration(ledger, broker, settings)
    registration.start()
    try:
        yield
    finally:
        registration.stop()


def read_settings(environ: Mapping[str, str]) -> Settings:
    """The settings of a node that can serve HTTP; raises SettingsError. The process logs from now on."""
    # Which role it is may come from where the secrets come from; they are fetched once a process.
    role = read_role(load_secrets(environ, PROJECT_ROOT).environ.get("FACTORY_ROLE"))
    required = ("UA_DATABASE_URL",) if build_factory_runtime_policy(role).opens_ledger else ()
    return bootstrap(
        environ, *required, checks=(somebody_can_log_in, why_role_is_refused, why_keys_are_refused)
    ).settings


def somebody_can_log_in(settings: Settings) -> list[str]:
    """The problem of a full gateway with no token set, whatever the role (E-11, H-6); it has no open mode."""
    return [] if settings.policy.health_only or is_configured(settings) else [NO_TOKEN]


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
    application = create_app(settings_or_exit())
    globals()["app"] = application
    return application
