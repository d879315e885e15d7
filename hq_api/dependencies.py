"""What routers ask for. Order matters: name the principal before the body, so that strangers make us read nothing."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request
from limits import RateLimitItem
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError
from starlette.requests import HTTPConnection

from corporation.clock import utc_now
from corporation.db import transaction
from corporation.errors import LedgerUnavailableError
from corporation.settings import Settings
from corporation.tokens.comparison import may_be_guessed
from corporation.tokens.revocation import FactoryToken, has_ended, is_revoked
from hq_api import body
from hq_api.access import FACTORY, Principal, Unauthorized, judge
from hq_api.body import read_object as read_object
from hq_api.rate_limits import FAILURES, address_of, count_request, limits_of
from hq_api.responses import Refusal

OPS_HEADER = b"x-ua-ops-token"
TOKEN_PARAMETERS = frozenset({"token", "access_token", "ops_token", "jwt", "x-ua-ops-token", "x-ua-internal-token"})


def settings(request: Request) -> Settings:
    """The settings this process was started with."""
    return request.app.state.settings


def ledger(request: Request) -> Engine:
    """The ledger's engine; open a transaction at the edge with `corporation.db.transaction`."""
    return request.app.state.ledger


@dataclass(frozen=True)
class PrincipalWith:
    """A dependency that is the caller, who has one of `scopes` or `ops`; else 401 or 403 (H-10)."""

    scopes: tuple[str, ...]

    def __call__(self, request: Request) -> Principal:
        """The caller of `request`."""
        caller = authenticate(request)
        if not caller.may(*self.scopes):
            raise Refusal(403, "forbidden", f"this needs the scope {' or '.join(('ops', *self.scopes))}")
        return caller


def principal_with(*scopes: str) -> PrincipalWith:
    """The dependency of a route for operators and for whoever has one of `scopes`; the description shows them."""
    return PrincipalWith(scopes)


def authenticate(connection: HTTPConnection) -> Principal:
    """The principal whose token `connection` carries (H-7), a request or a WebSocket; as `principal_of` otherwise.

    Also raises Refusal (400) for a token that is ambiguous or stands in the address.
    """
    return principal_of(connection, bearer(connection))


def principal_of(connection: HTTPConnection, token: bytes | None, failures: RateLimitItem = FAILURES) -> Principal:
    """The principal of `token`, which is valid and not revoked; it counts as a failure of the caller's address if not.

    Raises Unauthorized, or in its place Refusal (429) once there were too many `failures`. They hold up nobody whose
    token cannot be guessed; one that can is refused with them, or guessing it would not be slowed down. Refusal (429)
    also for a publisher or a factory that asked too often. Otherwise as `valid_principal`.
    """
    limits, address = limits_of(connection), address_of(connection)
    try:
        principal = valid_principal(connection, token)
    except Unauthorized:
        if token:  # who shows none has guessed nothing
            limits.count(failures, address)
        raise
    if may_be_guessed(token or b""):
        limits.check(failures, address)
    count_request(connection, principal.scope, principal.factory_id or principal.subject)
    return principal


def valid_principal(connection: HTTPConnection, token: bytes | None) -> Principal:
    """The principal of `token`, valid now, not revoked, its factory not shut out; nothing is counted, so ask again.

    Raises Unauthorized or LedgerUnavailableError. It reads the ledger: from async code call it in a thread.
    """
    principal = judge(token, connection.app.state.settings, utc_now())
    if principal.scope == FACTORY and principal.factory_id:
        shown = FactoryToken(principal.factory_id, principal.issued_at, principal.epoch)
        _refuse_if(connection, lambda reading: has_ended(reading, principal.token_id, shown))
    else:
        refuse_revoked(connection, principal.token_id)
    return principal


def refuse_revoked(connection: HTTPConnection, *names: str | None) -> None:
    """Raise Unauthorized when one of `names`, each the `jti` of a token or session, was revoked; None is no name.

    Where no ledger is kept nobody could know, so whoever has a name is refused, but on a closed surface: that opens
    nothing to anybody (H-14). A ledger that does not say it is a LedgerUnavailableError, whatever is wrong with it.
    """
    known = [name for name in names if name is not None]
    if known:
        _refuse_if(connection, lambda reading: any(is_revoked(reading, name) for name in known))


def _refuse_if(connection: HTTPConnection, ended: Callable[[Connection], bool]) -> None:
    """Raise Unauthorized when the ledger says that it has `ended`; otherwise as `refuse_revoked`."""
    node: Settings = connection.app.state.settings
    if node.database_url is None:
        if node.policy.health_only:
            return
        raise Unauthorized
    try:
        with transaction(connection.app.state.ledger) as reading:
            revoked = ended(reading)
    except SQLAlchemyError as error:
        raise LedgerUnavailableError(f"The ledger does not say what is revoked ({type(error).__name__})") from error
    if revoked:
        raise Unauthorized


async def json_object(request: Request) -> dict[str, Any]:
    """The JSON object of the body, at most 256 KiB."""
    return await body.read_object(request)


def bearer(connection: HTTPConnection) -> bytes | None:
    """The token to be judged (H-7): `Authorization: Bearer`, else `x-ua-ops-token`; as `presented`."""
    return presented(connection, OPS_HEADER)


def presented(connection: HTTPConnection, *fallbacks: bytes) -> bytes | None:
    """The secret to be judged: that of `Authorization: Bearer`, else of the first header of `fallbacks` that is there.

    None when there is none, empty when an empty one is shown; Refusal (400) when it is ambiguous or in the address.
    """
    if TOKEN_PARAMETERS & {name.lower() for name in connection.query_params}:
        raise Refusal(400, "token_in_query", "addresses end in logs; send the token in the header Authorization")
    scheme, _, token = (_only(connection, b"authorization") or b"").partition(b" ")
    if scheme.lower() == b"bearer":
        return token.strip()
    shown = (_only(connection, name) for name in fallbacks)
    return next((value for value in shown if value is not None), None)


def _only(connection: HTTPConnection, name: bytes) -> bytes | None:
    given = [value for header, value in connection.headers.raw if header == name]
    if len(given) > 1:
        raise Refusal(400, "ambiguous_token", f"send one {name.decode().title()} header")
    return given[0] if given else None


Ledger = Annotated[Engine, Depends(ledger)]
ReadSettings = Annotated[Settings, Depends(settings)]
JsonObject = Annotated[dict[str, Any], Depends(json_object)]
