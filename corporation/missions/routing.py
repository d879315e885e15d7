"""Which factory gets a mission, or the reason why none does: pure, so that every answer can be tested by table."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from hashlib import blake2b
from typing import Final

QUEUE_SECONDS = 2.0
"""How much work a factory should have in its queue: enough to bridge the dispatcher's own turn-around, and no more,
because what lies in Redis can no longer be ordered, cancelled or sent elsewhere (architecture §6)."""

QUEUE_LIMIT = 2000
"""The most messages we ever keep in one factory's queue, however fast it works."""

LARGEST_ORDER_BYTES: Final = 256 * 1024
"""An envelope as HQ takes it; what is sent of it is up to five and a half times as large (`message_frame.py`)."""

MOST_HELD_BYTES: Final = 64 * LARGEST_ORDER_BYTES
"""Bytes of the orders that a factory holds, beyond which it is sent no more: 16 MiB, which lie in Redis as 22 MiB as a
rule and 88 at worst. HQ reads no more than 128 MiB of a key (`queue_look.py`), and nobody honest is to come near that.
The last order may go beyond it, so one always fits where none is held."""

LIVE: Final = frozenset({"online", "paused", "draining"})
"""The statuses of factories that are heard of: orders to the factory itself reach them (F-22)."""

SILENT: Final = frozenset({"stale", "offline"})
"""The statuses of those that are not."""


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
    held_bytes: int = 0
    """Bytes of their orders, as far as they were sent to it over Redis."""
    finished_per_second: float = 0.0
    queue: str = ""
    """The factory's private queue: what lies there reaches it and nobody else (ops/decisions/0008)."""
    control_queue: str | None = None
    """Where orders to the factory itself go; None while no control worker of it listens."""
    takes_messages: bool = True
    """False for a factory that asks for its missions over HTTPS: nothing is sent to it."""
    quarantined: bool = False
    """HQ has cut it off: it is given nothing at all."""
    known_labels: frozenset[str] = frozenset()
    """What its mission workers last said they can run; it counts while none of them lives."""

    @property
    def is_laden(self) -> bool:
        """Whether its orders are as many bytes as HQ ever keeps in Redis for one factory."""
        return self.held_bytes >= MOST_HELD_BYTES

    @property
    def room(self) -> int:
        """How many more attempts it may be sent now; none without slots, however fast it was a moment ago.

        None either while it is laden; it may become so before it has been sent as many.
        """
        if self.slots < 1 or self.is_laden:
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
    """False for what no factory is ever sent: kinds that this version does not run, and orders to all factories."""
    system: bool = False
    """An order to the factory itself: it goes to the control queue, needs no slot, and reaches who is paused (F-22)."""
    avoid: frozenset[str] = frozenset()
    """Factories where an earlier attempt of this mission failed or was lost: any other one is tried before them."""
    size: int = 0
    """Bytes of its order."""


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
    """The factory for `need`: able, open, with room; one that has not failed it first, then the least loaded.

    Equals share what comes, each mission by its own draw, which is the same whenever it is repeated.
    """
    if need.target is not None and all(factory.factory_id != need.target for factory in factories):
        return Held("target_unknown")
    able = [factory for factory in factories if may_run(need, factory)]
    listening = [factory for factory in able if _is_open(need, factory)]
    free = [factory for factory in listening if _is_sent(need, factory) and _has_room(need, factory)]
    if not free:
        return Held(_why_held(need, factories, able, listening))
    best = _best(need, [factory for factory in free if factory.factory_id not in need.avoid] or free)
    return Assigned(best.factory_id, (best.control_queue or best.queue) if need.system else best.queue)


def obstacles(need: Need, factory: FactoryView) -> tuple[str, ...]:
    """Why this factory is not sent the mission now, as codes, the hardest to remove first; none when it could be.

    `route` judges by the same conditions: it assigns exactly when some factory has no obstacle.
    """
    ordinary = need.routable and not need.system
    found = [
        (not _is_meant(need, factory), "not_the_target"),
        (not need.routable, "takes_no_orders"),
        (ordinary and not _is_able(need, factory) and not says_nothing(factory), "lacks_label"),
        (need.routable and need.system and factory.takes_messages and not _is_sent(need, factory), "no_control_worker"),
        (factory.quarantined, "quarantined"),
        (not factory.quarantined and not _is_open(need, factory), factory.status),
        (not factory.takes_messages, "asks_itself"),
        (not need.system and factory.slots < 1, "no_mission_worker"),
        (not need.system and factory.slots > 0 and factory.room < 1, "no_free_slot"),
    ]
    return tuple(code for is_so, code in found if is_so)


def may_run(need: Need, factory: FactoryView) -> bool:
    """Whether this factory could ever be sent the mission: it is meant, and it has what the mission needs."""
    return _is_meant(need, factory) and _is_able(need, factory)


def says_nothing(factory: FactoryView) -> bool:
    """Whether nobody knows what this factory has: it has joined and never came, or its last worker said goodbye.

    What is missing is that it runs, and not a label: labels are those of its workers.
    """
    return factory.slots < 1 and factory.status in SILENT


def might_run(need: Need, factory: FactoryView) -> bool:
    """Whether it may run the mission, or nobody knows since it says nothing."""
    ordinary = need.routable and not need.system
    return may_run(need, factory) or (ordinary and _is_meant(need, factory) and says_nothing(factory))


def _is_meant(need: Need, factory: FactoryView) -> bool:
    return need.target is None or need.target == factory.factory_id


def _is_able(need: Need, factory: FactoryView) -> bool:
    has_it = need.label in factory.labels or (factory.slots < 1 and need.label in factory.known_labels)
    return need.routable and (need.system or need.label is None or has_it)


def _is_sent(need: Need, factory: FactoryView) -> bool:
    """Whether HQ sends it such missions; else it asks for them, or hears of an order in the answer to its next beat."""
    return factory.takes_messages and (not need.system or factory.control_queue is not None)


def _is_open(need: Need, factory: FactoryView) -> bool:
    """Whether it takes such missions now, as far as its state goes."""
    return not factory.quarantined and factory.status in (LIVE if need.system else ("online",))


def _has_room(need: Need, factory: FactoryView) -> bool:
    return need.system or factory.room > 0


def _best(need: Need, free: Sequence[FactoryView]) -> FactoryView:
    loads = [factory.held / max(factory.slots, 1) for factory in free]
    least = min(loads)
    equals = [factory for factory, load in zip(free, loads, strict=True) if load == least]
    return max(equals, key=lambda factory: (_draw(need.mission_id, factory.factory_id), factory.factory_id))


def _draw(mission_id: int, factory_id: str) -> int:
    """This factory's lot for this mission: the highest wins (rendezvous hashing).

    With one fixed order among equals the first of them would get nearly everything while there is little to do.
    """
    return (_number_of(factory_id) ^ (mission_id * _ODD)) * _ODD % 2**64 >> 16


@lru_cache(maxsize=10_000)
def _number_of(factory_id: str) -> int:
    return int.from_bytes(blake2b(factory_id.encode("utf-8", "surrogatepass"), digest_size=8).digest())


_ODD: Final = 0x9E3779B97F4A7C15
"""2**64 divided by the golden ratio: a product with it carries every bit of a number into its upper half."""


def _why_held(
    need: Need, factories: Sequence[FactoryView], able: Sequence[FactoryView], listening: Sequence[FactoryView]
) -> str:
    if listening:
        # Who asks for missions over HTTPS and has room takes it with its next question, an order with its next beat.
        asks = any(not _is_sent(need, factory) and _has_room(need, factory) for factory in listening)
        return "behind_others" if asks else "no_free_slot"
    resting = any(factory.status in ("paused", "draining") for factory in able)
    if need.target is not None and any(might_run(need, factory) for factory in factories):
        return "target_paused" if resting else "target_offline"
    if resting:
        return "all_paused"
    # Who has the label and is silent is no live factory that has it (F-19); the explanation names them.
    live = any(factory.status in LIVE and not factory.quarantined for factory in factories)
    return "no_capable_factory" if live else "no_live_factory"


def plan(needs: Sequence[Need], factories: Sequence[FactoryView]) -> list[tuple[Need, Assigned | Held]]:
    """The answers for `needs` in their order, each knowing what the ones before it took."""
    views = {factory.factory_id: factory for factory in factories}
    answers: list[tuple[Need, Assigned | Held]] = []
    for need in needs:
        answer = route(need, list(views.values()))
        if isinstance(answer, Assigned) and not need.system:
            view = views[answer.factory_id]
            views[answer.factory_id] = replace(view, held=view.held + 1, held_bytes=view.held_bytes + need.size)
        answers.append((need, answer))
    return answers
