"""Waiting missions to factories: read who is there, let `routing` decide, write attempts into the outbox."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from corporation.factories.staleness import Thresholds, judge_status
from corporation.missions.broadcast import is_broadcast
from corporation.missions.kinds import KINDS, SYSTEM_ORDERS, known_kinds, needed_label
from corporation.missions.routing import Assigned, FactoryView, Held, Need, obstacles, plan, route
from corporation.missions.store import dispatching
from corporation.missions.store.dispatching import Assignment, Due, FactoryRow
from corporation.wakeups import SEND, wake


@dataclass(frozen=True)
class DispatchRules:
    """The numbers a dispatcher works by; `lease_seconds` is how long an attempt may wait to be received."""

    lease_seconds: float
    thresholds: Thresholds
    batch: int = 500


def dispatch_some(connection: Connection, rules: DispatchRules, new_id: Callable[[], str]) -> int:
    """Give the most urgent due missions their next attempt, as far as there is room; how many is returned.

    Does nothing while another dispatcher is at it. Nothing is sent: the outbox is, after the commit.
    """
    if not dispatching.take_dispatch_lock(connection):
        return 0
    factories = read_views(connection, rules.thresholds)
    due = [*_due_orders(connection, factories, rules.batch), *_due_missions(connection, factories, rules.batch)]
    assignments = _assignments(due, factories, new_id)
    if assignments:
        dispatching.assign(connection, assignments, rules.lease_seconds)
        wake(connection, SEND)
    return len(assignments)


def _due_orders(connection: Connection, factories: Sequence[FactoryView], limit: int) -> list[Due]:
    """Orders to factories themselves wait for no slot."""
    targets = dispatching.targets_of_orders(connection)
    able = [
        (factory.factory_id, kind)
        for factory in factories
        if factory.factory_id in targets
        for kind in sorted(SYSTEM_ORDERS)
        if not obstacles(need_of(0, kind, factory.factory_id), factory)
    ]
    return dispatching.take_orders(connection, able, limit)


def _due_missions(connection: Connection, factories: Sequence[FactoryView], limit: int) -> list[Due]:
    roomy = [one for one in factories if one.status == "online" and one.takes_messages and one.room > 0]
    able = [(factory.factory_id, kind) for factory in roomy for kind in kinds_of(factory)]
    return dispatching.take_due(connection, able, min(sum(factory.room for factory in roomy), limit))


def _assignments(due: Sequence[Due], factories: Sequence[FactoryView], new_id: Callable[[], str]) -> list[Assignment]:
    by_id = {one.mission_id: one for one in due}
    needs = [replace(need_of(one.mission_id, one.kind, one.target), avoid=one.avoid, size=one.size) for one in due]
    answers = plan(needs, factories)
    return [
        Assignment(by_id[need.mission_id], new_id(), answer) for need, answer in answers if isinstance(answer, Assigned)
    ]


def explain_waiting(connection: Connection, rules: DispatchRules) -> None:
    """Every due waiting mission says why it waits; the work grows with the kinds and factories, not with the missions.

    A broadcast keeps the reason it was stored with: no factory is looked for, it waits behind its own children (S-25).
    """
    factories = read_views(connection, rules.thresholds)
    # Anybody may invent a target: those that nobody knows are explained together, however many there are.
    known = [factory.factory_id for factory in factories]
    dispatching.explain_unknown_targets(connection, known)
    for kind, target in dispatching.waiting_groups(connection, known):
        if is_broadcast(kind, target):
            continue
        answer = route(need_of(0, kind, target), factories)
        reason = answer.reason if isinstance(answer, Held) else "behind_others"
        dispatching.explain_group(connection, kind, target, reason)


def read_views(connection: Connection, thresholds: Thresholds) -> list[FactoryView]:
    """The factories as routing sees them, each judged by when it was last heard of."""
    return [judged(row, thresholds) for row in dispatching.read_factories(connection)]


def judged(row: FactoryRow, thresholds: Thresholds) -> FactoryView:
    """The factory of `row` as routing sees it: its status by when it was last heard of, and not only as it said.

    One that is quarantined is `offline`, whatever it says.
    """
    status = judge_status(row.view.status, row.silent_seconds, row.paused, thresholds, draining=row.draining)
    return replace(row.view, status="offline" if row.view.quarantined else status)


def need_of(mission_id: int, kind: str, target: str | None) -> Need:
    """What a mission of this kind and target needs of a factory.

    An order to the factory itself is sent only to a target: without one it is spread into one order for each.
    """
    system = kind in KINDS and KINDS[kind].system
    routable = not system or (kind in SYSTEM_ORDERS and target is not None)
    return Need(mission_id, needed_label(kind), target, routable=routable, system=system)


def kinds_of(factory: FactoryView) -> list[str]:
    """Every kind that this factory can be sent; a label that claims one of ours is not believed."""
    advertised = {label.removeprefix("kind:") for label in factory.labels if label.startswith("kind:")}
    return [kind for kind in known_kinds(frozenset(advertised)) if _can_run(kind, factory)]


def _can_run(kind: str, factory: FactoryView) -> bool:
    need = need_of(0, kind, None)
    return need.routable and (need.label is None or need.label in factory.labels)
