"""Who asks for a page or its data: an operator, by token or by cookie; and how one signs in and out (contract H-13)."""

from collections.abc import Mapping
from typing import Annotated, Final

import structlog
from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import RedirectResponse, Response

from corporation.clock import new_id, utc_now
from corporation.db import transaction
from corporation.errors import LedgerUnavailableError
from corporation.settings import Settings
from corporation.tokens.revocation import revoke_token
from corporation.trust import audit
from hq_api.access import OPS, NotSignedIn, Principal, Unauthorized
from hq_api.auditing import NOBODY, act_of, note_if_possible
from hq_api.dashboard.login_form import LOGIN, LOGOUT, LoginForm, local_page, read_form
from hq_api.dashboard.node import KINDS
from hq_api.dashboard.page_route import PageRoute
from hq_api.dashboard.rendering import page
from hq_api.dashboard.same_origin import SAFE_METHODS, is_same_origin
from hq_api.dashboard.session import (
    COOKIE,
    LIFE_SECONDS,
    CookieRefused,
    Session,
    only_value,
    open_session,
    seal,
    unseal,
)
from hq_api.dependencies import ReadSettings, authenticate, bearer, principal_of, refuse_revoked
from hq_api.rate_limits import LOGIN_FAILURES, address_of, limits_of
from hq_api.responses import Refusal

GUARDED: Final = ("/dashboard", "/api/v1/dashboard")
WRONG: Final = "This token was not accepted. Check that it is the whole token, of an operator, and not expired."
NOT_HERE: Final = (
    "Signing in is switched off: UA_OPS_JWT_SECRET is not set. Set it to at least 32 random bytes where this server "
    "runs, and start the server again."
)
FOREIGN: Final = (
    "The form did not come from this page, so nobody was signed in. Open this page directly and try again; a program "
    "sends the header Origin with the address of this server, scheme and port included"
)

log = structlog.get_logger()
router = APIRouter(route_class=PageRoute, include_in_schema=False)


def operator(request: Request) -> Principal:
    """The operator who asks, by a token of scope `ops`, else by the cookie; for addresses of the dashboard only.

    Raises NotSignedIn, Refusal (403) for a token of another scope, or LedgerUnavailableError. A change made with the
    cookie must come from one of our own pages.
    """
    try:
        return _operator(request)
    except Unauthorized:
        raise NotSignedIn(LOGIN) from None


def _operator(request: Request) -> Principal:
    if bearer(request) is not None:
        caller = authenticate(request)
        if not caller.may():
            raise Refusal(403, "forbidden", "this needs the scope ops")
        return caller
    session = _session(request)
    if session is None or not _is_guarded(request.url.path):
        raise Unauthorized
    if request.method not in SAFE_METHODS and not _from_our_page(request):
        raise Unauthorized
    refuse_revoked(request, session.jti, session.token_jti)
    return Principal(session.owner_id, OPS, token_id=session.jti)


def from_our_page(request: Request) -> None:
    """403 unless a page of ours sent this; before the body, so that a stranger's form is not even read."""
    if not _from_our_page(request):
        raise Refusal(403, "foreign_form", FOREIGN)


@router.get(LOGIN)
def login_page(request: Request, settings: ReadSettings, goal: Annotated[str, Query(alias="next")] = "") -> Response:
    """The form, or at once the page it leads to for whoever is signed in."""
    try:
        operator(request)
    except (Unauthorized, LedgerUnavailableError):
        return _login_page(request, settings, local_page(goal))
    return RedirectResponse(local_page(goal), 303)


@router.post(LOGIN)
def login(
    request: Request,
    settings: ReadSettings,
    _: Annotated[None, Depends(from_our_page)],
    form: Annotated[LoginForm, Depends(read_form)],
) -> Response:
    """Whoever showed an operator's token has the cookie and is led to the page they wanted."""
    secret = settings.ops_jwt_secret
    if secret is None:
        return _login_page(request, settings, form.goal)
    try:
        caller = principal_of(request, form.token, LOGIN_FAILURES)
        if not caller.may():
            limits_of(request).count(LOGIN_FAILURES, address_of(request))
            raise Unauthorized
    except Unauthorized:
        return _refused(request, settings, form)
    except Refusal as refusal:
        told = f"Too many tokens were refused: {refusal.message}."
        return _login_page(request, settings, form.goal, refusal.status, told, refusal.headers)
    log.info("dashboard_signed_in", owner=caller.subject)
    answer = RedirectResponse(form.goal, 303)
    session = open_session(caller.subject or OPS, new_id(), utc_now(), caller.token_id)
    note_if_possible(request, act_of(request, caller, "login.accept", None))
    _set_cookie(answer, seal(session, secret, settings.ops_token), LIFE_SECONDS, _over_https(request, settings))
    return answer


@router.post(LOGOUT)
def logout(request: Request, settings: ReadSettings) -> Response:
    """The browser has no cookie any more, and the one it had opens nothing. Safe to call twice."""
    if not _from_our_page(request):
        raise Unauthorized
    session = _session(request)
    if session is not None and request.app.state.ledger is not None:
        _end(request, session)
    answer = RedirectResponse(LOGIN, 303)
    _set_cookie(answer, "", 0, _over_https(request, settings))
    return answer


def _session(request: Request) -> Session | None:
    """What the cookie says, None for every cookie that is not exactly ours and current."""
    settings: Settings = request.app.state.settings
    secret = settings.ops_jwt_secret
    value = only_value(request.headers.getlist("cookie"))
    if secret is None or not value:
        return None
    try:
        return unseal(value, secret, settings.ops_token, utc_now())
    except CookieRefused:
        return None


def _end(request: Request, session: Session) -> None:
    try:
        with transaction(request.app.state.ledger) as connection:
            revoke_token(connection, session.jti, session.owner_id)
            audit.write(connection, act_of(request, Principal(session.owner_id, OPS), "login.end", None))
    except LedgerUnavailableError:
        # The browser still forgets the cookie; only a copy of it would live on, until the day is over.
        log.warning("dashboard_sign_out_not_recorded", owner=session.owner_id)
        return
    log.info("dashboard_signed_out", owner=session.owner_id)


def _is_guarded(path: str) -> bool:
    return any(path == root or path.startswith(f"{root}/") for root in GUARDED)


def _from_our_page(request: Request) -> bool:
    said = request.headers
    return is_same_origin(
        said.getlist("sec-fetch-site"), said.getlist("origin"), request.url.scheme, said.get("host", "")
    )


def _over_https(request: Request, settings: Settings) -> bool:
    """Whether the cookie may travel over https only.

    Not on plain loopback http, where such a cookie would never come back; a browser that reached us through a proxy
    that ends TLS says so in its Origin, and a vps is always behind one.
    """
    origin = request.headers.get("origin", "")
    return settings.deployment_profile == "vps" or request.url.scheme == "https" or origin.startswith("https://")


def _set_cookie(answer: Response, value: str, seconds: int, secure: bool) -> None:
    # Path=/ and no __Host- prefix: /dashboard and /api/v1/dashboard share it, and its name is the contract's.
    answer.set_cookie(COOKIE, value, max_age=seconds, path="/", secure=secure, httponly=True, samesite="strict")


def _refused(request: Request, settings: Settings, form: LoginForm) -> Response:
    """One answer for every token that opens nothing, so that none is told what was wrong (H-10)."""
    log.warning("dashboard_sign_in_refused", client=request.client.host if request.client else None)
    if form.token:
        # Behind the count of failures, which ends in a 429: else any stranger could fill the log.
        note_if_possible(request, act_of(request, NOBODY, "login.refuse", None, outcome="refused"))
    return _login_page(request, settings, form.goal, 401, WRONG)


def _login_page(
    request: Request,
    settings: Settings,
    goal: str,
    status: int = 200,
    message: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """The form, which leads to `goal`; without a secret to sign cookies with, 503 and what to set."""
    can_sign = settings.ops_jwt_secret is not None
    return page(
        "login.html",
        status if can_sign else 503,
        headers,
        node=settings.factory_id,
        kind=KINDS[settings.policy.factory_role],
        goal=goal,
        message=message if can_sign else NOT_HERE,
        open=can_sign,
        from_elsewhere=request.headers.get("sec-fetch-site") == "cross-site",
    )
