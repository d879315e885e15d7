"""A report goes to HQ over HTTPS (contract http §8): for factories that do not reach the mailbox's database."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import structlog

from corporation.errors import CorporationError
from corporation.federation.hq import HqRefusedError, HqUnavailableError
from factory_tasks.node import Node
from factory_tasks.stop_orders import STOP_CAUSES

log = structlog.get_logger()

NOT_NOW: Final = frozenset({401, 403, 407, 408, 425})
"""Refusals that say nothing about the report: a credential that ended, a proxy. The report waits in the spool."""

Deliver = Callable[[str, dict[str, Any]], None]


def deliver_over_https(here: Node) -> Deliver:
    """What takes one report of the spool to HQ; it raises CorporationError while HQ does not take it."""

    def deliver(attempt_id: str, report: dict[str, Any]) -> None:
        report_over_https(here, attempt_id, report)

    return deliver


def report_over_https(here: Node, attempt_id: str, report: Mapping[str, Any]) -> None:
    """HQ has the report when this returns, or has said that nobody counts on it; sending it again changes nothing.

    Raises HqUnavailableError, or HqRefusedError for what says nothing about the report; then it is to be sent again.
    """
    if here.hq is None:
        raise HqUnavailableError("this factory knows no address of HQ; set UA_HQ_BASE_URL")
    try:
        here.hq.result(attempt_id, body_of(report))
    except HqRefusedError as refused:
        if refused.cause in STOP_CAUSES:
            log.warning("reported_too_late", attempt_id=attempt_id, why=refused.cause)
            return
        if refused.status in NOT_NOW or refused.status == 404:
            raise
        log.error("report_refused", attempt_id=attempt_id, status=refused.status, cause=refused.cause)
        why = f"headquarters refused this attempt's report ({refused.status} {refused.cause})"
        # The outcome is worth more than its words, and a report that is never taken would hold up all that follow it.
        here.hq.result(attempt_id, body_of({"outcome": report.get("outcome"), "error": why}))


def body_of(report: Mapping[str, Any]) -> dict[str, Any]:
    """The body that says what a spool's `report` says: in the contract's words, and in ours as far as those lack it."""
    done = report.get("outcome") == "done"
    result = report.get("result")
    rest = {name: value for name, value in report.items() if name not in ("result", "error")}
    return {
        "status": "SUCCESS" if done else "FAILED",
        "result": result if isinstance(result, Mapping) else None,
        "error": None if done else str(report.get("error") or "no reason was given"),
        "retryable": report.get("outcome") != "stop",
        "report": rest,
    }


def is_reported(here: Node, attempt_id: str, report: Mapping[str, Any]) -> bool:
    """Tell HQ once; False when it could not be told now, and the report has to wait in the spool."""
    try:
        report_over_https(here, attempt_id, report)
    except CorporationError as error:
        log.warning("report_waits", attempt_id=attempt_id, error=str(error))
        return False
    return True
