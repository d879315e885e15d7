"""An attempt as HQ hands it out over HTTPS, read from its answer; what is none of ours is left out and logged."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import structlog

from factory_tasks.mission_task import Order, read_order

log = structlog.get_logger()


@dataclass(frozen=True)
class Claimed:
    """An attempt that this factory holds now."""

    attempt_id: str
    kind: str
    order: Order


def read_claimed(answer: Mapping[str, Any], factory_id: str) -> list[Claimed]:
    """The attempts in HQ's answer to a claim."""
    given = answer.get("attempts")
    found = [_read(one, factory_id) for one in given if isinstance(one, Mapping)] if isinstance(given, list) else []
    return [one for one in found if one is not None]


def _read(one: Mapping[str, Any], factory_id: str) -> Claimed | None:
    try:
        attempt_id, kind = str(UUID(str(one["attempt_id"]))), str(one["mission_kind"])
        return Claimed(attempt_id, kind, read_order({**one, "factory_id": factory_id}))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        log.error("claim_unreadable", attempt_id=str(one.get("attempt_id"))[:100], error=type(error).__name__)
        return None
