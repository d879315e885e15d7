"""An order to every factory: which of them get a child, what each child is, and how the whole ends (S-25)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from corporation.envelope import MissionEnvelope, MissionPayload
from corporation.missions.finish import Finish
from corporation.missions.kinds import KINDS
from corporation.missions.states import State
from corporation.roles import FactoryRole

LIVE: Final = frozenset({"online", "paused", "draining"})
"""The statuses of factories that an order to all of them reaches: also one that takes no missions must obey."""

LONGEST_JOB_ID: Final = 400
LONGEST_KEY: Final = 500
"""What the ledger takes (migrations 0001 and 0004): a child's names are its parent's and its factory's together."""

MOST_NAMED: Final = 10
"""How many factories or missions an error names; `children` of the result names all of them."""


@dataclass(frozen=True)
class Broadcast:
    """A system mission without a target that waits, as the ledger has it."""

    mission_id: int
    job_id: str
    idempotency_key: str
    mission_kind: str
    requested_kind: str
    source: str
    priority: int
    timeout_seconds: int
    max_retries: int
    attempts_total: int
    attempts_before: int
    envelope: Mapping[str, Any]
    seconds_left: float | None
    """Until its deadline; None when it has none."""


@dataclass(frozen=True)
class Listener:
    """A registered factory; `status` is judged by when it was last heard of, `role` is what it says it is."""

    factory_id: str
    role: str
    status: str


@dataclass(frozen=True)
class Child:
    """One factory's part of a broadcast, and the state it is in."""

    job_id: str
    factory_id: str
    state: str


def is_broadcast(kind: str, target: str | None) -> bool:
    """Whether a mission of this kind and target is an order to every factory."""
    return target is None and kind in KINDS and KINDS[kind].system


def addressees(factories: Sequence[Listener]) -> list[str]:
    """The ids of the factories that get a child, sorted: all that live but HQ's own, which obeys only when named."""
    return sorted(
        factory.factory_id
        for factory in factories
        if factory.status in LIVE and factory.role != FactoryRole.HEADQUARTERS
    )


def child_of(parent: Broadcast, factory_id: str) -> MissionEnvelope:
    """What `factory_id` is ordered: the parent's order to the letter, under the child's own name and for it alone."""
    ordered = dict(parent.envelope["payload"])
    ordered["context"] = {**ordered["context"], "target_factory_id": factory_id}
    names = {"job_id": f"{parent.job_id}.{factory_id}", "idempotency_key": f"{parent.idempotency_key}:{factory_id}"}
    # Not validated again: it was when it came in, and a child's name may be longer than a publisher's.
    written: dict[str, Any] = {**parent.envelope, **names, "payload": MissionPayload.model_construct(**ordered)}
    return MissionEnvelope.model_construct(**written)


def end_of(job_id: str, kind: str, children: Sequence[Child], cancel_reason: str | None = None) -> Finish:
    """How a broadcast ends whose `children` have all ended: it succeeds exactly when each of them did (S-25, S-35).

    With a `cancel_reason` it was to be cancelled, and is unless all of it was done before.
    """
    ordered = sorted(children, key=lambda child: child.factory_id)
    result: dict[str, Any] = {
        "mission_id": job_id,
        "mission_kind": kind,
        "children": [
            {"job_id": child.job_id, "factory_id": child.factory_id, "status": _status(child)} for child in ordered
        ],
    }
    bad = [f"{child.factory_id} ({child.state})" for child in ordered if child.state != State.SUCCEEDED]
    if not bad:
        return Finish(State.SUCCEEDED, {**result, "result_ref": ""}, None)
    if cancel_reason is not None:
        return Finish(State.CANCELLED, {**result, "terminal_status": str(State.CANCELLED)}, cancel_reason)
    why = f"{len(bad)} of {len(children)} factories did not do it: {_some(bad)}; the missions in `children` say why"
    return Finish(State.FAILED, {**result, "terminal_status": str(State.FAILED)}, why)


def nobody_lives(job_id: str, kind: str) -> Finish:
    """The end of a broadcast that reaches no factory."""
    why = (
        f"no factory is live, so nobody was sent {kind}: it goes to factories that are online, paused or draining, and "
        "to HQ's own only when it is the target; publish it again under a new job_id when one beats"
    )
    return _failed_unspread(job_id, kind, why)


def names_taken(job_id: str, kind: str, taken: Sequence[str]) -> Finish:
    """The end of a broadcast whose children cannot be named; `taken` are the job_ids and keys that others have."""
    why = (
        f"other missions have the names of its children, so nobody was sent {kind}: {_some(taken)}; "
        "publish it again under another job_id and idempotency_key"
    )
    return _failed_unspread(job_id, kind, why)


def names_too_long(job_id: str, kind: str) -> Finish:
    """The end of a broadcast whose children would have names that the ledger cannot hold."""
    why = (
        f"its job_id or idempotency_key is too long to name a child for each factory, so nobody was sent {kind}; "
        "publish it again under shorter ones"
    )
    return _failed_unspread(job_id, kind, why)


def can_be_named(children: Sequence[MissionEnvelope]) -> bool:
    """Whether the ledger can hold every child's names."""
    return all(len(child.job_id) <= LONGEST_JOB_ID and len(child.idempotency_key) <= LONGEST_KEY for child in children)


def _failed_unspread(job_id: str, kind: str, why: str) -> Finish:
    result: dict[str, Any] = {"mission_id": job_id, "mission_kind": kind, "children": []}
    return Finish(State.FAILED, {**result, "terminal_status": str(State.FAILED)}, why)


def _status(child: Child) -> str:
    return "SUCCESS" if child.state == State.SUCCEEDED else "FAILED"


def _some(names: Sequence[str]) -> str:
    more = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
