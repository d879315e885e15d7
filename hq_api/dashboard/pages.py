"""The pages of the dashboard: this node, and at headquarters the whole fleet. Each is one reading of what is now."""

from importlib.metadata import version
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from sqlalchemy import Engine
from starlette.responses import RedirectResponse, Response

from corporation.agents.personas import personas_of
from corporation.clock import utc_now
from corporation.db import transaction
from corporation.errors import LedgerUnavailableError
from corporation.factories.staleness import Thresholds
from corporation.settings import Settings
from hq_api.access import Principal
from hq_api.dashboard.door import operator
from hq_api.dashboard.fleet import read_fleet
from hq_api.dashboard.login_form import HOME
from hq_api.dashboard.navigation import menu
from hq_api.dashboard.node import DUTIES, KINDS, ledger_light, policy_lines, redis_light
from hq_api.dashboard.overview import NEEDS_SHOWN, Fleet, needs
from hq_api.dashboard.page_route import PageRoute
from hq_api.dashboard.rendering import ASSETS, asset, page
from hq_api.dependencies import ReadSettings
from hq_api.responses import Refusal

PRODUCT = "corporation"
LINKS = (
    ("/api/v1/health", "whether it is well, for monitors"),
    ("/api/v1/version", "the commit it runs"),
    ("/api/v1/dashboard/navigation", "this menu, for programs"),
)
router = APIRouter(route_class=PageRoute, include_in_schema=False)
Operator = Annotated[Principal, Depends(operator)]


@router.get(HOME)
def node(request: Request, caller: Operator, settings: ReadSettings) -> Response:
    """This node: what it is, what its policy lets it do, and whether its servers answer."""
    state, policy = request.app.state, settings.policy
    return page(
        "node.html",
        **_frame(request, caller, settings),
        kind=KINDS[policy.factory_role],
        duty=DUTIES[policy.factory_role],
        lights=(ledger_light(state.ledger), redis_light(state.redis, settings.redis_delegation_enabled)),
        started_at=state.started_at,
        uptime=(utc_now() - state.started_at).total_seconds(),
        lines=policy_lines(policy),
        facts=_facts(settings),
        personas=_personas(settings),
        links=LINKS,
    )


@router.get("/dashboard/")
def slash() -> Response:
    """The way to the first page for those who type one sign too many."""
    return RedirectResponse(HOME, 303)


@router.get("/dashboard/corporation")
def corporation(request: Request, caller: Operator, settings: ReadSettings) -> Response:
    """The factories and missions of the fleet; 403 where there is no fleet to show, 503 while the ledger is away."""
    if not settings.policy.shows_corporation_view:
        kind = KINDS[settings.policy.factory_role]
        raise Refusal(
            403, "forbidden", f"this node is {kind} and shows itself only; the fleet is shown at headquarters"
        )
    fleet = _fleet(request.app.state.ledger, settings)
    return page(
        "corporation.html",
        200 if fleet else 503,
        **_frame(request, caller, settings),
        fleet=fleet,
        needs=needs(fleet, settings.factory_id) if fleet else (),
        needs_shown=NEEDS_SHOWN,
        alone=fleet is not None and all(one.factory_id == settings.factory_id for one in fleet.factories),
    )


@router.get(ASSETS + "{name}")
def file(name: str) -> Response:
    """One of our files, open to everybody: the login page needs them too."""
    found = asset(name)
    if found is None:
        raise Refusal(404, "not_found", "there is no such file; reload the page that named it")
    return found


def _frame(request: Request, caller: Principal, settings: Settings) -> dict[str, Any]:
    """What is around every page."""
    return {
        "menu": menu(settings.policy),
        "here": request.url.path,
        "owner": caller.subject,
        "node": settings.factory_id,
        "version": version(PRODUCT),
    }


def _fleet(ledger: Engine | None, settings: Settings) -> Fleet | None:
    if ledger is None:
        return None
    try:
        with transaction(ledger) as connection:
            thresholds = Thresholds(settings.factory_stale_seconds, settings.factory_offline_seconds)
            return read_fleet(connection, thresholds, settings.attempt_lease_seconds)
    except LedgerUnavailableError:
        return None


def _facts(settings: Settings) -> tuple[tuple[str, str], ...]:
    return (
        ("Factory id", settings.factory_id),
        ("Role", str(settings.policy.factory_role)),
        ("Deployment", settings.deployment_profile),
        ("Stage", settings.runtime_stage),
        ("Host", settings.host),
        ("Version", version(PRODUCT)),
    )


def _personas(settings: Settings) -> tuple[tuple[str, str | None], ...]:
    """Each duty of this node's agents, and who has it; None where the policy has nobody for it."""
    policy = settings.policy
    names = personas_of(policy, settings.coder_display_name)
    return (
        ("Primary agent", names.primary),
        ("Coder", names.coder if policy.enable_vp_coder else None),
        ("Generalist", names.general if policy.enable_vp_general else None),
    )
