"""What HQ says about stopping, read from its messages and answers; each of three ways is enough alone.

A task on the control queue (`control.py`), the answer to progress (contract http §8, H-30), and the instructions in a
heartbeat's answer (contract fleet §3). All end in the spool, where the attempt's own process and the warden look. What
is read here came over a network: of the wrong shape it is no order.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import structlog

from corporation.federation.hq import HqRefusedError
from corporation.federation.spool import Spool

log = structlog.get_logger()

LONGEST_ID: Final = 200
LONGEST_REASON: Final = 500
MOST_AT_ONCE: Final = 1_000
"""Orders taken from one answer; a factory runs no more missions at once, and what is missing comes with the next."""
SUPERSEDED: Final = "headquarters no longer counts on this attempt"
CANCELLED: Final = "cancelled at headquarters"
STOP_CAUSES: Final = frozenset({"unknown_attempt", "not_current"})
"""HQ's own words with 404 and 409 (H-30). A proxy that does not find HQ answers 404 as well, and stops nobody."""


@dataclass(frozen=True)
class StopOrder:
    """One attempt that is to stop, and why; both are short printable text."""

    attempt_id: str
    why: str


def read_order(attempt_id: object, reason: object) -> StopOrder | None:
    """The order in two values from outside; None when the id is none. A reason that is none becomes a plain one."""
    if not isinstance(attempt_id, str) or not 0 < len(attempt_id) <= LONGEST_ID or not attempt_id.isprintable():
        return None
    return StopOrder(attempt_id, _printable(reason) or CANCELLED)


def orders_in(answer: Mapping[str, Any]) -> list[StopOrder]:
    """The attempts that a heartbeat's answer tells this factory to stop."""
    instructions = answer.get("instructions")
    named = instructions.get("cancel") if isinstance(instructions, Mapping) else None
    entries = [one for one in named[:MOST_AT_ONCE] if isinstance(one, Mapping)] if isinstance(named, list) else []
    orders = (read_order(one.get("attempt_id"), one.get("reason")) for one in entries)
    return [order for order in orders if order is not None]


def why_to_stop(answer: Mapping[str, Any] | HqRefusedError) -> str | None:
    """What HQ's answer to progress means for the attempt: why it must stop, or None."""
    if isinstance(answer, HqRefusedError):
        return SUPERSEDED if answer.cause in STOP_CAUSES else None
    if answer.get("cancel_requested") is not True:
        return None
    return _printable(answer.get("cancel_reason")) or CANCELLED


def write_down(spool: Spool, order: StopOrder) -> None:
    """The order is in the spool, if it is about an attempt that is under way here; safe to call again and again."""
    if spool.request_stop(order.attempt_id, order.why):
        log.warning("stop_requested", attempt_id=order.attempt_id, why=order.why)


def _printable(text: object) -> str:
    """At most 500 characters of `text`, in one line; "" for what is no text."""
    if not isinstance(text, str):
        return ""
    return "".join(each if each.isprintable() else " " for each in text[:LONGEST_REASON]).strip()
