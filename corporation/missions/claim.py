"""A factory asks for missions over HTTPS: what it may have, and having it (contract http §8)."""

from collections.abc import Callable, Collection
from dataclasses import dataclass

from sqlalchemy import Connection

from corporation.missions.kinds import KINDS, SYSTEM_ORDERS, known_kinds, needed_label
from corporation.missions.store import claiming
from corporation.missions.store.claiming import ClaimedAttempt, ClaimerRow, Handover
from corporation.roles import private_queue
from corporation.strict_json import dump


@dataclass(frozen=True)
class Claim:
    """What a factory asks for; None leaves the condition out."""

    factory_id: str
    most: int
    kinds: frozenset[str] | None = None
    holding: frozenset[str] | None = None
    """The attempts it knows it holds. Only who says so is told again of what it claimed and never began."""
    worker_id: str | None = None


@dataclass(frozen=True)
class Claimed:
    """What it holds now, and whether it is to take no missions at all."""

    attempts: list[ClaimedAttempt]
    paused: bool


def claim(connection: Connection, asked: Claim, lease_seconds: float, new_id: Callable[[], str]) -> Claimed:
    """The factory holds up to `asked.most` more attempts, with a lease; calling again gives it further ones.

    First come those that it claimed and never heard of, then those that the dispatcher meant for it, then missions that
    wait. Two who ask at once never get the same.
    """
    claimer = claiming.read_claimer(connection, asked.factory_id)
    paused = claimer is not None and kept_away(claimer)
    kinds = claimable(asked.kinds, claimer, paused=paused)
    if not kinds:
        return Claimed([], paused)
    unheard = (
        claiming.take_unheard(connection, asked.factory_id, kinds, asked.holding, asked.most)
        if asked.holding is not None
        else []
    )
    claiming.lease_again(connection, unheard, lease_seconds)
    detail = dump({"over": "https"} | ({"worker_id": asked.worker_id} if asked.worker_id else {}))
    queue = private_queue(asked.factory_id)
    to = Handover(asked.factory_id, queue, asked.worker_id, lease_seconds, detail)
    queued = claiming.take_queued(connection, asked.factory_id, kinds, asked.most - len(unheard))
    claiming.claim_queued(connection, queued, to)
    room = asked.most - len(unheard) - len(queued)
    fresh = [
        (mission, had, new_id())
        for mission, had in claiming.take_waiting(connection, asked.factory_id, kinds, SYSTEM_ORDERS, room)
    ]
    claiming.claim_waiting(connection, fresh, to)
    return Claimed(
        claiming.read_claimed(connection, [*unheard, *queued, *(attempt_id for _, _, attempt_id in fresh)]), paused
    )


def kept_away(claimer: ClaimerRow) -> bool:
    """Whether this factory is to be given no missions: HQ wants it so, or it says so itself (F-16, F-21)."""
    return claimer.flagged or claimer.quarantined or claimer.status in ("paused", "draining")


def claimable(wanted: Collection[str] | None, claimer: ClaimerRow | None, *, paused: bool) -> list[str]:
    """The kinds that may be handed to who asks for `wanted`, or for all its labels allow when that is None.

    Orders to the factory itself need no label; while it is paused, only who names them is handed them (F-22). A factory
    that never registered has shown no labels: what it names is its word for what it can do. Who never beat is handed no
    order: HQ's flag of it is set with its first beat, and an order says the same or nothing (F-20).
    """
    if claimer is not None and claimer.quarantined:
        return []
    if claimer is None:
        named = known_kinds(frozenset(wanted or ()))
        return [kind for kind in named if kind in (wanted or ()) and not _is_system(kind)]
    orders = _orders(wanted, claimer, paused=paused)
    if paused:
        return orders
    advertised = frozenset(label.removeprefix("kind:") for label in claimer.labels if label.startswith("kind:"))
    able = [kind for kind in known_kinds(advertised) if not _is_system(kind) and _has_label(kind, claimer)]
    return sorted(orders + [kind for kind in able if wanted is None or kind in wanted])


def _orders(wanted: Collection[str] | None, claimer: ClaimerRow, *, paused: bool) -> list[str]:
    if not claimer.heard_of:
        return []
    if wanted is None:
        return [] if paused else sorted(SYSTEM_ORDERS)
    return sorted(SYSTEM_ORDERS & frozenset(wanted))


def _is_system(kind: str) -> bool:
    return kind in KINDS and KINDS[kind].system


def _has_label(kind: str, claimer: ClaimerRow) -> bool:
    label = needed_label(kind)
    return label is None or label in claimer.labels
