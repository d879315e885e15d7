"""An attempt as HQ hands it out over HTTPS, read from its answer; what is none of ours is left out, kept and logged."""

import json
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from corporation.clock import iso, utc_now
from corporation.federation.refused_messages import refused_message
from corporation.trust.claimed_orders import check
from corporation.trust.keyring import public_keys
from corporation.trust.signatures import ForgedError
from factory_tasks.mission_task import Order, read_order
from factory_tasks.node import Node

log = structlog.get_logger()

PLACE: Final = "https"
"""Where the refused messages of a factory say that this one came from, in place of a queue."""
UNREADABLE: Final = "bad_body"
Refuse = Callable[[Mapping[str, Any], str | None, str, str], None]
"""Called with what was refused, its attempt's id if it has one, the reason and why."""


@dataclass(frozen=True)
class Claimed:
    """An attempt that this factory holds now."""

    attempt_id: str
    kind: str
    order: Order


@dataclass(frozen=True)
class Trust:
    """Whose word counts: what HQ signed with one of `keys`, by their ids, at a moment that is not long before `now`."""

    keys: Mapping[str, Ed25519PublicKey]
    now: datetime


@dataclass(frozen=True)
class Answered:
    """What an answer to a claim holds: attempts to be run, and the ids of those that are not."""

    claimed: list[Claimed]
    refused: frozenset[str]


class Reader:
    """Reads the answers to a node's claims, and keeps and counts what it refuses, as the gate of its queues does."""

    def __init__(self, here: Node, now: Callable[[], datetime] = utc_now) -> None:
        self._here = here
        self._now = now

    def read(self, answer: Mapping[str, Any]) -> Answered:
        """The attempts in the answer; where the node was given keys, those that HQ signed for it."""
        node, refused = self._here, set[str]()

        def refuse(one: Mapping[str, Any], attempt_id: str | None, reason: str, why: str) -> None:
            refused.update([attempt_id] if attempt_id else [])
            self._keep(one, attempt_id, reason, why)

        trust = Trust(node.mission_keys(), self._now()) if public_keys(node.settings) else None
        return Answered(read_claimed(answer, node.settings.factory_id, trust, refuse), frozenset(refused))

    def _keep(self, one: Mapping[str, Any], attempt_id: str | None, reason: str, why: str) -> None:
        raw = json.dumps(dict(one)).encode()
        try:
            self._here.refused.keep(refused_message(iso(self._now()), PLACE, reason, why, raw, attempt_id))
        except (sqlite3.Error, ValueError) as error:  # a full disk, or text that no file takes
            log.error("refusal_not_kept", reason=reason, error=type(error).__name__)


def _forget(one: Mapping[str, Any], attempt_id: str | None, reason: str, why: str) -> None:
    """Nobody wants to know of it."""


def read_claimed(
    answer: Mapping[str, Any], factory_id: str, trust: Trust | None = None, refuse: Refuse = _forget
) -> list[Claimed]:
    """The attempts in HQ's answer to a claim; without `trust` none has to be signed."""
    given = answer.get("attempts")
    ones = [one for one in given if isinstance(one, Mapping)] if isinstance(given, list) else []
    found = [_read(one, factory_id, trust, refuse) for one in ones]
    return [one for one in found if one is not None]


def _read(one: Mapping[str, Any], factory_id: str, trust: Trust | None, refuse: Refuse) -> Claimed | None:
    attempt_id = _identity(one.get("attempt_id"))
    try:
        # First of all: nothing of it is looked at more closely before it is known to be HQ's.
        if trust:
            check(one, factory_id, trust.keys, trust.now.timestamp())
        if attempt_id is None:
            raise ValueError
        return Claimed(attempt_id, str(one["mission_kind"]), read_order({**one, "factory_id": factory_id}))
    except ForgedError as error:
        log.error("claim_refused", attempt_id=attempt_id, reason=error.code, why=str(error))
        refuse(one, attempt_id, error.code, str(error))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        log.error("claim_unreadable", attempt_id=str(one.get("attempt_id"))[:100], error=type(error).__name__)
        refuse(one, attempt_id, UNREADABLE, f"it is no attempt of ours ({type(error).__name__})")
    return None


def _identity(given: object) -> str | None:
    try:
        return str(UUID(str(given)))
    except ValueError:
        return None
