"""What routers ask for. Order matters: name the principal before the body, so that strangers make us read nothing."""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Depends, Request
from sqlalchemy import Engine

from corporation.clock import utc_now
from corporation.roles import FactoryRole
from corporation.settings import Settings
from hq_api import body
from hq_api.access import Principal, judge
from hq_api.body import read_object as read_object
from hq_api.responses import Refusal

TOKEN_PARAMETERS = frozenset({"token", "access_token", "ops_token", "jwt"})


def settings(request: Request) -> Settings:
    """The settings this process was started with."""
    return request.app.state.settings


def ledger(request: Request) -> Engine:
    """The ledger's engine; open a transaction at the edge with `corporation.db.transaction`."""
    return request.app.state.ledger


def principal_with(*scopes: str) -> Callable[[Request], Principal]:
    """A dependency that is the caller, who has one of `scopes` or `ops`; else 401 or 403 (H-10)."""

    def principal(request: Request) -> Principal:
        caller = judge(bearer(request), settings(request), utc_now())
        if not caller.may(*scopes):
            raise Refusal(403, "forbidden", f"this needs the scope {' or '.join(('ops', *scopes))}")
        return caller

    return principal


def headquarters_only(request: Request) -> None:
    """403 on every node that is not headquarters (contract http §3); put it after the principal."""
    role = settings(request).role
    if role is not FactoryRole.HEADQUARTERS:
        raise Refusal(403, "forbidden", f"this node is a {role}; ask headquarters")


async def json_object(request: Request) -> dict[str, Any]:
    """The JSON object of the body, at most 256 KiB."""
    return await body.read_object(request)


def bearer(request: Request) -> bytes | None:
    """The token to be judged (H-7), None when there is none; 400 when it is ambiguous or stands in the address."""
    if TOKEN_PARAMETERS & request.query_params.keys():
        raise Refusal(400, "token_in_query", "addresses end in logs; send the token in the header Authorization")
    given = [value for name, value in request.headers.raw if name == b"authorization"]
    if len(given) > 1:
        raise Refusal(400, "ambiguous_token", "send one Authorization header")
    scheme, _, token = (given[0] if given else b"").partition(b" ")
    if scheme.lower() == b"bearer":
        return token.strip()
    return next((value for name, value in request.headers.raw if name == b"x-ua-ops-token"), None)


Ledger = Annotated[Engine, Depends(ledger)]
ReadSettings = Annotated[Settings, Depends(settings)]
JsonObject = Annotated[dict[str, Any], Depends(json_object)]
