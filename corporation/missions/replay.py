"""A mission that ended is asked for again: the same order under a name of its own (contract http H-27)."""

import hashlib
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import Connection

from corporation.envelope import MissionEnvelope, MissionPayload, wire
from corporation.errors import CorporationError
from corporation.missions.kinds import resolve
from corporation.missions.queries import advertised_kinds
from corporation.missions.states import FINAL
from corporation.missions.store import replaying, submitting
from corporation.missions.store.replaying import Repeatable
from corporation.missions.store.submitting import Remark
from corporation.missions.submit import Receipt, Submission, submit
from corporation.strict_json import dump

SOURCE: Final = "replay"
LONGEST_NAME: Final = 300
"""Characters of a name that may still be made longer; the ledger takes a hundred more."""


class ReplayRefused(CorporationError):
    """The mission is not asked for again; the message says why and what to do."""

    code = "replay_refused"


@dataclass(frozen=True)
class Names:
    """What the new mission is called and where it goes; None is made up, or stays as it was."""

    job_id: str | None = None
    idempotency_key: str | None = None
    target_factory_id: str | None = None


@dataclass(frozen=True)
class Replayed:
    """A new mission and its state, and the first job_id of the one that it repeats."""

    job_id: str
    state: str
    replay_of: str


def replay(
    connection: Connection,
    job_id: str,
    names: Names,
    default_ttl_seconds: int,
    edited: MissionEnvelope | None = None,
) -> Replayed | None:
    """A new mission with the order of `job_id`, attempts counted from zero; None when there is no such mission.

    With `edited` that is its order; what it is called is in `names` nevertheless.
    Raises ReplayRefused when it has not ended yet, or when the names are taken. Calling twice without names makes two
    missions, `…-r1` and `…-r2`, also at the same moment: the old one is locked. Nothing is true before the commit.
    """
    mission = replaying.take(connection, job_id)
    if mission is None:
        return None
    if mission.state not in FINAL:
        raise ReplayRefused(f"the mission is {mission.state}; replay it when it has ended, or cancel it first")
    if edited is not None:
        mission = replace(mission, envelope=wire(edited))
    receipt = store_again(connection, mission, names, default_ttl_seconds)
    return Replayed(receipt.job_id, receipt.state, mission.job_id)


def store_again(connection: Connection, mission: Repeatable, names: Names, default_ttl_seconds: int) -> Receipt:
    """The order of `mission`, which is locked, as a new mission that waits; raises ReplayRefused as `replay` does."""
    number = replaying.count(connection, mission.mission_id) + 1
    suffix = replaying.free_suffix(connection, mission.job_id, key_stem(mission.idempotency_key), number)
    return store(connection, repeated(mission, names, suffix), default_ttl_seconds, mission.mission_id)


def key_stem(key: str) -> str:
    """What a suffix is put behind: `key`, or of one too long its beginning and what tells it from others (pure)."""
    if len(key) <= LONGEST_NAME:
        return key
    digest = hashlib.sha256(key.encode()).hexdigest()[:32]
    return f"{key[: LONGEST_NAME - len(digest) - 1]}~{digest}"


def store(
    connection: Connection, order: MissionEnvelope, default_ttl_seconds: int, replay_of: int | None = None
) -> Receipt:
    """`order` as a new mission, of which the one that it repeats is told if there is one.

    Raises ReplayRefused when its names are taken: nothing would run again.
    """
    resolved = resolve(order, advertised_kinds(connection))
    [receipt] = submit(connection, [Submission(order, resolved, SOURCE, replay_of=replay_of)], default_ttl_seconds)
    if receipt.outcome != "stored":
        raise ReplayRefused("a mission has this job_id or idempotency_key already; give others, or none")
    if replay_of is not None:
        submitting.add_remarks(connection, [Remark(replay_of, "replayed", dump({"job_id": receipt.job_id}))])
    return receipt


def repeated(mission: Repeatable, names: Names, suffix: str) -> MissionEnvelope:
    """The order of `mission` for another run: new names, no attempts used, the other target if there is one (pure)."""
    if names.job_id is None and len(mission.job_id) > LONGEST_NAME:
        raise ReplayRefused("the job_id has grown too long for another suffix; give a job_id")
    context = {**mission.envelope["payload"]["context"], "_retry_count": 0}
    if names.target_factory_id is not None:
        context["target_factory_id"] = names.target_factory_id
    # Not validated again: it was when it came in, perhaps by a laxer door.
    written: dict[str, Any] = {
        **mission.envelope,
        "job_id": names.job_id or f"{mission.job_id}{suffix}",
        "idempotency_key": names.idempotency_key or f"{key_stem(mission.idempotency_key)}{suffix}",
        "payload": MissionPayload.model_construct(task=mission.envelope["payload"]["task"], context=context),
    }
    return MissionEnvelope.model_construct(**written)
