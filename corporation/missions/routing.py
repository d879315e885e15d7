"""Which factory gets a mission, or the reason why none does: pure, so that every answer can be tested by table."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

QUEUE_SECONDS = 2.0
"""How much work a factory should have in its queue: enough to bridge the dispatcher's own turn-around, and no more,
because what lies in Redis can no longer be ordered, cancelled or sent elsewhere (architecture §6)."""

QUEUE_LIMIT = 2000
"""The most messages we ever keep in one factory's queue, however fast it works."""


@dataclass(frozen=True)
class FactoryView:
    """What routing must know of one factory."""

    factory_id: str
    status: str
    """`online`, `paused`, `draining`, `stale` or `offline`, as judged from its last beat."""
    labels: frozenset[str]
    slots: int
    held: int
    """Attempts it holds now: queued, claimed and running."""
    finished_per_second: float = 0.0
    queue: str = ""
    """The factory's private queue: what lies there reaches it and nobody else (ops/decisions/0008)."""

    @property
    def room(self) -> int:
        """How many more attempts it may be sent now; none without slots, however fast it was a moment ago."""
        if self.slots < 1:
            return 0
        return max(0, self.slots + queue_target(self.slots, self.finished_per_second) - self.held)


@dataclass(frozen=True)
class Need:
    """What routing must know of one mission."""

    mission_id: int
    label: str | None
    """The capability it needs, or None when every factory can run it."""
    target: str | None
    """The only factory that may run it, or None."""
    routable: bool = True
    """False for kinds that no factory of this version takes from a queue (system missions)."""


@dataclass(frozen=True)
class Assigned:
    """The mission goes to this factory, by this queue."""

    factory_id: str
    queue: str


@dataclass(frozen=True)
class Held:
    """The mission waits; `reason` is a code of contract http H-29."""

    reason: str


def queue_target(slots: int, finished_per_second: float) -> int:
    """How many attempts may queue at a factory beside those it runs.

    Two a slot for ordinary missions; when missions are so short that this would run dry before the dispatcher comes
    round again, as many as the factory finished lately in QUEUE_SECONDS.
    """
    return min(max(2 * slots, round(finished_per_second * QUEUE_SECONDS)), QUEUE_LIMIT)


def route(need: Need, factories: Sequence[FactoryView]) -> Assigned | Held:
    """The factory for `need`: able, online, with room, the least loaded first; ties go by id, so it is repeatable."""
    if need.target is not None and all(factory.factory_id != need.target for factory in factories):
        return Held("target_unknown")
    able = [factory for factory in factories if may_run(need, factory)]
    online = [factory for factory in able if factory.status == "online"]
    free = [factory for factory in online if factory.room > 0]
    if not free:
        return Held(_why_held(need, factories, able, online))
    best = min(free, key=lambda factory: (factory.held / max(factory.slots, 1), factory.factory_id))
    return Assigned(best.factory_id, best.queue)


def obstacles(need: Need, factory: FactoryView) -> tuple[str, ...]:
    """Why this factory is not sent the mission now, as codes, the hardest to remove first; none when it could be.

    `route` judges by the same conditions: it assigns exactly when some factory has no obstacle.
    """
    found = [
        (not _is_meant(need, factory), "not_the_target"),
        (not need.routable, "takes_no_orders"),
        (need.routable and not _is_able(need, factory), "lacks_label"),
        (factory.status != "online", factory.status),
        (factory.slots < 1, "no_mission_worker"),
        (factory.slots > 0 and factory.room < 1, "no_free_slot"),
    ]
    return tuple(code for is_so, code in found if is_so)


def may_run(need: Need, factory: FactoryView) -> bool:
    """Whether this factory could ever be sent the mission: it is meant, and it has what the mission needs."""
    return _is_meant(need, factory) and _is_able(need, factory)


def _is_meant(need: Need, factory: FactoryView) -> bool:
    return need.target is None or need.target == factory.factory_id


def _is_able(need: Need, factory: FactoryView) -> bool:
    return need.routable and (need.label is None or need.label in factory.labels)


def _why_held(
    need: Need, factories: Sequence[FactoryView], able: Sequence[FactoryView], online: Sequence[FactoryView]
) -> str:
    if online:
        return "no_free_slot"
    resting = any(factory.status in ("paused", "draining") for factory in able)
    if need.target is not None and able:
        return "target_paused" if resting else "target_offline"
    if resting:
        return "all_paused"
    if able or all(factory.status in ("stale", "offline") for factory in factories):
        return "no_live_factory"
    return "no_capable_factory"


def plan(needs: Sequence[Need], factories: Sequence[FactoryView]) -> list[tuple[Need, Assigned | Held]]:
    """The answers for `needs` in their order, each knowing what the ones before it took."""
    views = {factory.factory_id: factory for factory in factories}
    answers: list[tuple[Need, Assigned | Held]] = []
    for need in needs:
        answer = route(need, list(views.values()))
        if isinstance(answer, Assigned):
            view = views[answer.factory_id]
            views[answer.factory_id] = replace(view, held=view.held + 1)
        answers.append((need, answer))
    return answers
