"""What people do with dead letters: look at them, run them again as they were or edited, or put them away (http §9)."""

from typing import Any, Literal

from sqlalchemy import Connection

from corporation.envelope import Defaults, EnvelopeRefused, MissionEnvelope, Problem, parse_strict, parse_wire
from corporation.errors import CorporationError
from corporation.missions import replay
from corporation.missions.replay import Names, ReplayRefused
from corporation.missions.store import dead_letters as store
from corporation.missions.store import replaying
from corporation.missions.store.dead_letters import StoredLetter
from corporation.missions.store.locking import lock_missions

Status = Literal["open", "replayed", "discarded"]


class LetterResolvedError(CorporationError):
    """Somebody did something else with this dead letter already; nothing changed."""

    code = "already_resolved"


def replay_letter(
    connection: Connection, letter_id: int, edited: MissionEnvelope | None, made_up: str, default_ttl_seconds: int
) -> str | None:
    """The job_id of the mission that runs again for this letter, which is `replayed`; None for an unknown letter.

    `made_up` is the name that stands in `edited` where nobody gave one; the letter's own is better then.
    Calling again gives the same mission, whatever `edited` says then. Raises LetterResolvedError when it was discarded,
    EnvelopeRefused when a malformed one is not given an order, ReplayRefused when the names in it are taken.
    """
    letter = _taken_after_its_mission(connection, letter_id)
    if letter is None:
        return None
    if letter.status == "discarded":
        raise LetterResolvedError("the dead letter was discarded; publish its mission anew instead")
    if letter.status == "replayed":
        return letter.replay_job_id
    job_id = _again(connection, letter, edited and _under(letter.job_id, edited, made_up), default_ttl_seconds)
    store.resolve(connection, letter_id, "replayed", None, job_id)
    return job_id


def discard_letter(connection: Connection, letter_id: int, reason: str | None) -> Status | None:
    """The letter is `discarded` and stays readable; None for an unknown one. Calling again changes nothing.

    Raises LetterResolvedError when it was replayed.
    """
    letter = store.take(connection, letter_id)
    if letter is None:
        return None
    if letter.status == "replayed":
        raise LetterResolvedError(f"the dead letter was replayed as {letter.replay_job_id}")
    if letter.status == "open":
        store.resolve(connection, letter_id, "discarded", reason, None)
    return "discarded"


def _taken_after_its_mission(connection: Connection, letter_id: int) -> StoredLetter | None:
    """The letter, locked behind its mission: in that order the publisher locks them too, so nobody waits in a ring."""
    letter = store.find(connection, letter_id)
    if letter is None:
        return None
    if letter.mission_id is not None:
        lock_missions(connection, [letter.mission_id])
    return store.take(connection, letter_id)


def _again(
    connection: Connection, letter: StoredLetter, edited: MissionEnvelope | None, default_ttl_seconds: int
) -> str:
    if edited is None and letter.mission_job_id is not None:
        replayed = replay.replay(connection, letter.mission_job_id, Names(), default_ttl_seconds)
        if replayed is None:
            raise ReplayRefused("its mission is no longer in the ledger; send an envelope")
        return replayed.job_id
    order = _named_anew(connection, letter, edited or _as_it_came(letter.document))
    replay_of = letter.mission_id if letter.mission_job_id is not None else None
    return replay.store(connection, order, default_ttl_seconds, replay_of).job_id


def _as_it_came(document: Any) -> MissionEnvelope:
    """The order of an entry that conflicted with a known mission: it was valid in itself."""
    if document is None:
        raise EnvelopeRefused([Problem("missing", ("envelope",), "A malformed entry is replayed with an envelope")])
    order = parse_wire(document)
    context = {**order.payload.context, "_retry_count": 0}
    return order.model_copy(update={"payload": order.payload.model_copy(update={"context": context})})


def _under(job_id: str, order: MissionEnvelope, made_up: str) -> MissionEnvelope:
    """`order` under the name `job_id` wherever its own was only made up; unless that is a name REST would refuse."""
    named = {"job_id": order.job_id, "idempotency_key": order.idempotency_key}
    better = order.model_copy(update={name: job_id for name, value in named.items() if value == made_up})
    try:
        return parse_strict(better.model_dump(exclude_none=True), Defaults(made_up))
    except EnvelopeRefused:
        return order


def _named_anew(connection: Connection, letter: StoredLetter, order: MissionEnvelope) -> MissionEnvelope:
    """`order` under names that nobody has: the letter's own with a number behind, unless it brings others."""
    if order.job_id != letter.job_id:
        return order
    key = replay.key_stem(order.idempotency_key)
    suffix = replaying.free_suffix(connection, order.job_id, key)
    return order.model_copy(update={"job_id": f"{order.job_id}{suffix}", "idempotency_key": f"{key}{suffix}"})
