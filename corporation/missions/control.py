"""Operators pause, drain and resume factories: the order, and with it HQ's flag and its history, in one transaction."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, text

from corporation.envelope import MissionEnvelope, MissionPayload
from corporation.errors import CorporationError
from corporation.factories.control import Word, ends_at, expect, flag, is_known
from corporation.factories.staleness import Thresholds
from corporation.missions.broadcast import addressees
from corporation.missions.kinds import resolve
from corporation.missions.orders import CONTROL, RESUME
from corporation.missions.store.broadcasting import read_listeners
from corporation.missions.submit import Submission, submit
from corporation.wakeups import DISPATCH, RECALL, wake

PRIORITY: Final = 5
TIMEOUT_SECONDS: Final = 30

COUNT = text("""
    SELECT count(*) FILTER (WHERE a.state = 'queued') AS queued,
           count(*) FILTER (WHERE a.state IN ('claimed', 'running')) AS running
      FROM corporation.attempts a JOIN corporation.missions m ON m.attempt_id = a.id
     WHERE a.factory_id = ANY(CAST(:factory_ids AS text[])) AND a.state IN ('queued', 'claimed', 'running')
       AND m.mission_kind NOT LIKE 'system:%'
""")


class TargetUnknown(CorporationError):
    """No factory of this name was ever heard of, and nobody said that it is expected."""

    code = "unknown_factory"


@dataclass(frozen=True)
class Controlled:
    """What is true now: the order, until when it holds by itself, and what the factories hold at this moment."""

    job_id: str
    until: datetime | None
    factories: Sequence[str]
    queued: int
    """Missions that lie in their queues, which nobody has received; paused or drained, they lose them."""
    running: int
    """Missions that they run, which they finish."""


def control(
    connection: Connection,
    target: str | None,
    word: Word,
    number: str,
    thresholds: Thresholds,
    default_ttl_seconds: int,
    *,
    wait: bool = False,
) -> Controlled:
    """The flag of `target`, or without one of every live factory but HQ's own (S-25), is as `word` says, and a mission
    `<action>-<number>` tells them. The commit wakes the loops that give their queues back.

    Raises TargetUnknown unless `wait`: then the factory is expected, and finds its flag when it comes. Raises
    IntegrityError when `number` was used before, or as `expect`.
    """
    if target is not None and not is_known(connection, target):
        if not wait:
            raise TargetUnknown(f"no factory has registered as {target!r}; wait=true leaves the order for it")
        expect(connection, target)
    factories = [target] if target is not None else addressees(read_listeners(connection, thresholds))
    held = connection.execute(COUNT, {"factory_ids": factories}).one()
    if target is None:
        # Now, and not only when it is spread: then those follow that came meanwhile (`orders.obey_spread`).
        flag(connection, factories, word)
        wake(connection, DISPATCH, RECALL)
    envelope = order_of(target, word, number)
    order = Submission(envelope, resolve(envelope), CONTROL, by=word.by, for_seconds=word.for_seconds)
    submit(connection, [order], default_ttl_seconds)
    return Controlled(envelope.job_id, ends_at(connection, factories), factories, held.queued, held.running)


def order_of(target: str | None, word: Word, number: str) -> MissionEnvelope:
    """The mission that tells factories what `word` says (contract http §6); it is void when that has ended by itself.

    A drain is a pause with `mode` `drain`: workers that do not know it yet take no missions either.
    """
    kind = RESUME if word.action == "resume" else "system:pause_factory"
    context: dict[str, Any] = {"mission_kind": kind, "target_factory_id": target or ""}
    context |= {"mode": "drain"} if word.action == "drain" else {}
    context |= {"note": word.note} if word.note else {}
    name = f"{word.action}-{number}"
    return MissionEnvelope(
        job_id=name,
        idempotency_key=name,
        payload=MissionPayload(task=f"{kind}: {target or 'every factory'}", context=context),
        priority=PRIORITY,
        timeout_seconds=TIMEOUT_SECONDS,
        max_retries=0,
        ttl_seconds=word.for_seconds if word.action != "resume" else None,
    )
