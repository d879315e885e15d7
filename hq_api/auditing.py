"""Who did what by HTTP, and from where: the acts that routes write into the audit log in their own transaction."""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import structlog
from starlette.requests import HTTPConnection

from corporation.db import transaction
from corporation.errors import LedgerUnavailableError
from corporation.trust.audit import Act, Outcome, write
from hq_api.access import OPS, Principal
from hq_api.responses import Refusal

NOBODY: Final = Principal("nobody", OPS)
"""Who showed something that opens nothing; the scope is what was wished for."""

CONFLICT: Final = 409

log = structlog.get_logger()


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
    return Act(principal.subject or principal.scope, action, target, origin_of(request), note, outcome, detail or {})


def origin_of(request: HTTPConnection) -> str:
    """`rest` and the address that asked."""
    return f"rest {request.client.host if request.client else 'unknown'}"


@contextmanager
def refusals_noted(
    request: HTTPConnection, principal: Principal, action: str, target: str | None, note: str | None = None
) -> Generator[None]:
    """What this block refuses because of how things are (409) is in the log as refused, if the ledger is there.

    Who may do such acts is known, and what they send is counted as everything of theirs: no bound of its own. What
    names nothing that there is (404), or cannot be read, is no act.
    """
    try:
        yield
    except Refusal as refusal:
        if refusal.status == CONFLICT:
            detail = {"code": refusal.code}
            note_if_possible(request, act_of(request, principal, action, target, note, "refused", detail))
        raise


def note_if_possible(request: HTTPConnection, act: Act) -> None:
    """`act`, which changes nothing in the ledger, is written down if that is there; else a line in the log says so.

    For those who try to get in: they are answered, and an operator signs in, while the ledger is away too.
    """
    if request.app.state.ledger is None:
        return
    try:
        with transaction(request.app.state.ledger) as connection:
            write(connection, act)
    except LedgerUnavailableError:
        log.warning("audit_not_written", action=act.action)
