"""What this node's policy lets pass (contract http §3): the gates of routes, and the surface that shows health only.

A gate stands after the principal, so that strangers learn nothing of the node. None of them compares roles.
"""

from typing import Annotated, Final

from fastapi import Depends, FastAPI, Request
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from corporation.errors import LedgerUnavailableError
from corporation.roles import DelegationMode, FactoryRuntimePolicy
from hq_api.access import Unauthorized, accepts_tokens
from hq_api.dependencies import authenticate
from hq_api.responses import Refusal, answer_to, not_there

SURFACE_IS_CLOSED: Final = 4403
"""The close code of a WebSocket that may not be here (H-15)."""
OPEN_PATHS: Final = frozenset({"/api/v1/health", "/api/v1/hooks/readyz"})
OPS_PREFIX: Final = "/api/v1/ops/"


def headquarters(connection: HTTPConnection) -> None:
    """403 on every node that does not keep the fleet."""
    policy = _policy(connection)
    if not policy.is_headquarters:
        # Who reads a 403 looks for a better token first; here none would help.
        raise _closed(f"this node is a {policy.factory_role} and keeps no fleet, so no token helps; ask headquarters")


def publishing(connection: HTTPConnection) -> None:
    """403 where missions may not be given away, whatever the role."""
    policy = _policy(connection)
    _keeps_ledger(policy)
    if not policy.can_publish_delegations:
        needed = f"publishing needs {DelegationMode.PUBLISH_AND_LISTEN}"
        raise _closed(f"{_named(policy)}; {needed}, ask headquarters")


def consuming(connection: HTTPConnection) -> None:
    """403 where no mission may be taken, whatever the role."""
    policy = _policy(connection)
    _keeps_ledger(policy)
    if not policy.can_listen_delegations:
        needed = f"taking missions needs {DelegationMode.LISTEN_ONLY} or {DelegationMode.PUBLISH_AND_LISTEN}"
        raise _closed(f"{_named(policy)}; {needed}, ask headquarters")


def ledger_keeping(connection: HTTPConnection) -> None:
    """403 on a worker, which has no ledger to answer from (E-7)."""
    _keeps_ledger(_policy(connection))


def _keeps_ledger(policy: FactoryRuntimePolicy) -> None:
    if not policy.opens_ledger:
        raise _closed(f"this node is a {policy.factory_role} and keeps no ledger; ask headquarters")


def _named(policy: FactoryRuntimePolicy) -> str:
    return f"this node is a {policy.factory_role} whose delegation_mode is {policy.delegation_mode}"


def _closed(message: str) -> Refusal:
    return Refusal(403, "forbidden", message)


def _policy(connection: HTTPConnection) -> FactoryRuntimePolicy:
    return connection.app.state.settings.policy


Headquarters = Annotated[None, Depends(headquarters)]
MayPublish = Annotated[None, Depends(publishing)]
MayConsume = Annotated[None, Depends(consuming)]
KeepsLedger = Annotated[None, Depends(ledger_keeping)]


class HealthOnly:
    """Everything but the two health addresses is refused before any router sees it, whatever its method (H-14, H-15).

    The path is judged as routers read it: decoded once, and compared exactly.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what is open; else 403 naming the role, 401 for strangers on ops addresses, 4403 for a WebSocket."""
        if scope["type"] == "websocket":
            await _accept_and_close(receive, send)
        elif scope["type"] != "http" or scope["path"] in OPEN_PATHS:
            await self.app(scope, receive, send)
        else:
            refusal = await run_in_threadpool(_refusal, HTTPConnection(scope))
            await answer_to(refusal)(scope, receive, send)


def _refusal(connection: HTTPConnection) -> Refusal | Unauthorized | LedgerUnavailableError:
    refusal = _refused_to_know(connection) if accepts_tokens(connection.app.state.settings) else None
    if refusal is not None:
        return refusal
    role = _policy(connection).factory_role
    return _closed(f"this node is a {role} and shows its health only; ask headquarters")


def _refused_to_know(connection: HTTPConnection) -> Refusal | Unauthorized | LedgerUnavailableError | None:
    """Why this caller may not even know what is there, None when they may: operators' addresses ask for a token."""
    if connection.scope["path"].startswith(OPS_PREFIX):
        try:
            authenticate(connection)
        except (Refusal, Unauthorized, LedgerUnavailableError) as refusal:
            return refusal
    return None


def hide_operators_addresses(app: FastAPI) -> None:
    """From now on a stranger gets 401 for whatever is not there below `/api/v1/ops/`, too, and a caller 404 or 405."""
    app.add_exception_handler(HTTPException, _not_there)


def _not_there(request: Request, error: Exception) -> Response:
    refusal = _refused_to_know(request)
    return not_there(request, error) if refusal is None else answer_to(refusal)


async def _accept_and_close(receive: Receive, send: Send) -> None:
    # Closed before it is accepted, a client would see a failed handshake and no code.
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.close", "code": SURFACE_IS_CLOSED, "reason": "this node shows its health only"})
