"""Who did what by HTTP, and from where: the acts that routes write into the audit log in their own transaction."""

from collections.abc import Mapping
from typing import Any

from starlette.requests import HTTPConnection

from corporation.trust.audit import Act, Outcome
from hq_api.access import Principal


def act_of(
    request: HTTPConnection,
    principal: Principal,
    action: str,
    target: str | None,
    note: str | None = None,
    outcome: Outcome = "done",
    detail: Mapping[str, Any] | None = None,
) -> Act:
    """The act of `principal`, who asked by `request`; write it in the transaction that does it."""
    return Act(principal.subject, action, target, origin_of(request), note, outcome, detail or {})


def origin_of(request: HTTPConnection) -> str:
    """`rest` and the address that asked."""
    return f"rest {request.client.host if request.client else 'unknown'}"
