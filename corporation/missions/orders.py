"""Orders to pause or resume a factory: HQ's flag follows each as it is stored, whatever its way in, and each one ends.

The flag is the authority (F-20). A factory with a control worker, or that claims such orders, carries them out; any
other one hears of its flag in the answer to its next beat, and that is the end of the order (S-33).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection

from corporation.factories.control import Action, Word, expect, flag
from corporation.factories.enrolment import was_heard_of
from corporation.missions.kinds import SYSTEM_ORDERS
from corporation.missions.outcomes import Done, to_report
from corporation.missions.results import Result, take_result
from corporation.missions.retry import RetryPolicy
from corporation.missions.store import claiming, ordering
from corporation.missions.store.claiming import Handover
from corporation.missions.store.ordering import WaitingOrder
from corporation.roles import private_queue
from corporation.strict_json import dump
from corporation.wakeups import DISPATCH, RECALL, wake

CONTROL: Final = "ops"
"""The source of orders that operators give by `control`."""
RESUME: Final = "system:resume_factory"
LONGEST_NOTE: Final = 1000
MOST_TOLD: Final = 50
"""Orders that one beat ends; further ones wait for the next."""
HELD_SECONDS: Final = 60.0
"""The lease of an attempt that ends in the transaction in which it begins."""
BY_BEAT: Final = dump({"over": "beat"})


@dataclass(frozen=True)
class Order:
    """What is said of a factory; without a `target` of each that lives, once the order was spread (S-25)."""

    target: str | None
    word: Word


def order_in(kind: str, context: Mapping[str, Any], by: str, for_seconds: int | None = None) -> Order | None:
    """The order in a mission of this kind and context, None when it is none; pure.

    A drain is a pause with `mode` `drain`. The note is shown to people, on one line.
    """
    if kind not in SYSTEM_ORDERS:
        return None
    action: Action = "resume" if kind == RESUME else "drain" if context.get("mode") == "drain" else "pause"
    target = context.get("target_factory_id")
    word = Word(action, by, note_in(context) or None, for_seconds)
    return Order(target if isinstance(target, str) and target else None, word)


def note_in(context: Mapping[str, Any]) -> str:
    """Why the order is given, as far as one line that can be stored and shown holds it; empty when nobody says."""
    note = context.get("note")
    shown = "".join(one if one.isprintable() else " " for one in note) if isinstance(note, str) else ""
    return shown.strip()[:LONGEST_NOTE].rstrip()


def lock_targets(connection: Connection, orders: Sequence[Order | None]) -> None:
    """Until the commit nobody else gives an order to these factories; called before any mission is stored or locked."""
    if targets := _targets(orders):
        ordering.lock(connection, targets)


def obey(connection: Connection, orders: Sequence[Order | None]) -> None:
    """HQ's flag of each target is as the last of `orders` for it says, and the loops that act on it are woken.

    A target that HQ does not know gets its flag with its first beat (`obey_early`). The targets must be locked.
    """
    words = {order.target: order.word for order in orders if order is not None and order.target is not None}
    if not words:
        return
    for target, word in words.items():
        flag(connection, [target], word)
    wake(connection, DISPATCH, RECALL)


def obey_early(connection: Connection, factory_id: str) -> None:
    """Before its first beat is taken: a factory that was ordered before HQ knew it is flagged as the newest order says.

    Not when somebody has said something of it since. An order that was cancelled or has expired says nothing any more.
    Raises IntegrityError when another factory has its name once it is written in a queue's name.
    """
    if was_heard_of(connection, factory_id):
        return
    ordering.lock_name(connection, factory_id)
    waiting = ordering.newest(connection, factory_id)
    if waiting is None or ordering.said_since(connection, waiting.mission_id, [factory_id]):
        return
    expect(connection, factory_id)
    obey(connection, [_read(waiting)])


def obey_spread(connection: Connection, broadcast: WaitingOrder, factory_ids: Sequence[str]) -> None:
    """Each of these factories, for which `broadcast` has a child now, is flagged as it says.

    Not where somebody has said something since it was given: an older order never overrides a newer one.
    """
    said = ordering.said_since(connection, broadcast.mission_id, factory_ids)
    order = _read(broadcast)
    if order is not None:
        obey(connection, [Order(one, order.word) for one in factory_ids if one not in said])


def tell(connection: Connection, factory_id: str, new_id: Callable[[], str]) -> int:
    """The orders that wait for a factory to which HQ sends none have succeeded: the answer to the beat that this
    transaction takes tells it its flag. How many it were is returned.

    Whoever is first counts: what a worker of the factory has claimed is not touched. It is the last that its
    transaction does, since it locks missions that nobody else waits for, and waits for none.
    """
    waiting = ordering.take_unsent(connection, factory_id, MOST_TOLD)
    given = [(order, new_id()) for order in waiting]
    to = Handover(factory_id, private_queue(factory_id), None, HELD_SECONDS, BY_BEAT)
    claiming.claim_waiting(connection, [(order.mission_id, order.attempt, one) for order, one in given], to)
    for order, attempt_id in given:
        report = to_report(Done(_done(order)))
        take_result(connection, Result(attempt_id, report, report, worker="beat"), None, RetryPolicy(), lambda: 0.0)
    return len(given)


def _done(order: WaitingOrder) -> dict[str, Any]:
    """What a worker of the factory would report of it (S-35)."""
    given = _read(order)
    action = given.word.action if given else "resume"
    note = _context(order).get("note")
    said = {"action": "resume" if action == "resume" else "pause", "note": note if isinstance(note, str) else ""}
    return said | ({"mode": "drain"} if action == "drain" else {})


def _read(order: WaitingOrder) -> Order | None:
    # Of what `control` makes, the time for which it may wait is the time after which it ends by itself.
    for_seconds = order.envelope.get("ttl_seconds") if order.source == CONTROL else None
    return order_in(order.kind, _context(order), order.source, for_seconds)


def _context(order: WaitingOrder) -> Mapping[str, Any]:
    return order.envelope["payload"]["context"]


def _targets(orders: Sequence[Order | None]) -> set[str]:
    return {order.target for order in orders if order is not None and order.target is not None}
