"""Cancelling a mission: at once while nobody works on it; what runs is asked to stop, and is cancelled when it has."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import Connection

from corporation.errors import CorporationError
from corporation.missions.finish import cancelled_unrun
from corporation.missions.states import FINAL, State
from corporation.missions.store import cancelling
from corporation.missions.store.broadcasting import end_broadcasts
from corporation.missions.store.cancelling import Cancellable
from corporation.wakeups import DISPATCH, SEND, wake

DEFAULT_REASON: Final = "stopped by operator"


class CancelRefused(CorporationError):
    """The mission ended in another way before; the message says how."""

    code = "already_final"


@dataclass(frozen=True)
class Cancelling:
    """What is true of the mission now: `cancelled`, or still on its way there because a factory has to stop it."""

    job_id: str
    state: str
    changed: bool = field(default=True, compare=False)
    """False when it was cancelled before."""


@dataclass(frozen=True)
class Order:
    """Why a mission is stopped, and who says so, as far as that is known."""

    reason: str
    by: str | None


def cancel(connection: Connection, job_id: str, reason: str, by: str | None = None) -> Cancelling | None:
    """The mission that `job_id` names is cancelled, or is to be; None when there is no such mission.

    Waiting, queued and claimed ones are cancelled at once. A running one stays `running` until its factory reports that
    it stopped, or its lease ends; if its report says that the work was done, it has succeeded after all. A broadcast
    is cancelled with its children. Its history says `by` whom. Calling twice changes nothing; the first reason stays.
    Raises CancelRefused when it has ended otherwise. Nothing is true before the commit.
    """
    mission = cancelling.take(connection, job_id)
    if mission is None or mission.state == State.CANCELLED:
        return Cancelling(mission.job_id, mission.state, changed=False) if mission else None
    if mission.state in FINAL:
        raise CancelRefused(f"the mission is {mission.state} already; what has ended cannot be cancelled")
    order = Order(reason, by)
    state = _cancel_spread(connection, mission, order) if mission.spread else _cancel(connection, [mission], order)
    wake(connection, SEND)
    wake(connection, DISPATCH)
    return Cancelling(mission.job_id, state)


def _cancel(connection: Connection, missions: Sequence[Cancellable], order: Order) -> str:
    """What nobody works on is over; the rest is asked. `running` is returned as long as one of them has to be."""
    at_once = [one for one in missions if one.state != State.RUNNING]
    runs = [one for one in missions if one.state == State.RUNNING]
    finishes = [(one, cancelled_unrun(one.job_id, one.mission_kind, one.used, order.reason)) for one in at_once]
    cancelling.end(connection, finishes, order.by)
    cancelling.request(connection, runs, order.reason, order.by)
    return State.RUNNING if runs else State.CANCELLED


def _cancel_spread(connection: Connection, parent: Cancellable, order: Order) -> str:
    """The children's states decide: while one of them runs, the whole waits for it and is to be cancelled (S-25)."""
    children = cancelling.take_children(connection, parent.mission_id)
    cancelling.request(connection, [parent], order.reason, order.by)
    _cancel(connection, children, order)
    end_broadcasts(connection, only=parent.mission_id)
    after = cancelling.take(connection, parent.job_id)
    return after.state if after else parent.state
