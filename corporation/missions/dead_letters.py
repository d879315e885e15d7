"""What people do with dead letters: look at them, run them again as they were or edited, or put them away (http §9)."""

from typing import Any, Literal

from sqlalchemy import Connection

from corporation.envelope import EnvelopeRefused, MissionEnvelope, Problem, parse_wire
from corporation.errors import CorporationError
from corporation.missions import replay
from corporation.missions.replay import Names, ReplayRefused
from corporation.missions.store import dead_letters as store
from corporation.missions.store import replaying
from corporation.missions.store.dead_letters import StoredLetter
from corporation.missions.submit import Receipt

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
    letter = store.take(connection, letter_id)
    if letter is None:
        return None
    if letter.status == "discarded":
        raise LetterResolvedError("the dead letter was discarded; publish its mission anew instead")
    if letter.status == "replayed":
        return letter.replay_job_id
    receipt = _again(connection, letter, edited and _under(letter.job_id, edited, made_up), default_ttl_seconds)
    store.resolve(connection, letter_id, "replayed", None, receipt.job_id)
    return receipt.job_id


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


def _again(
    connection: Connection, letter: StoredLetter, edited: MissionEnvelope | None, default_ttl_seconds: int
) -> Receipt:
    if edited is None and letter.cause in ("failed", "timed_out") and letter.mission_job_id:
        receipt = replay.replay(connection, letter.mission_job_id, Names(), default_ttl_seconds)
        if receipt is None:
            raise ReplayRefused("its mission is no longer in the ledger; send an envelope")
        return receipt
    order = edited or _as_it_came(letter.document)
    replay_of = letter.mission_id if letter.cause in ("failed", "timed_out") else None
    return replay.store(connection, _named_anew(connection, letter, order), default_ttl_seconds, replay_of)


def _as_it_came(document: Any) -> MissionEnvelope:
    """The order of an entry that conflicted with a known mission: it was valid in itself."""
    if document is None:
        raise EnvelopeRefused([Problem("missing", ("envelope",), "A malformed entry is replayed with an envelope")])
    order = parse_wire(document)
    context = {**order.payload.context, "_retry_count": 0}
    return order.model_copy(update={"payload": order.payload.model_copy(update={"context": context})})


def _under(job_id: str, order: MissionEnvelope, made_up: str) -> MissionEnvelope:
    """`order` under the name `job_id` wherever its own was only made up."""
    own = {"job_id": order.job_id, "idempotency_key": order.idempotency_key}
    return order.model_copy(update={name: job_id for name, value in own.items() if job_id and value == made_up})


def _named_anew(connection: Connection, letter: StoredLetter, order: MissionEnvelope) -> MissionEnvelope:
    """`order` under names that nobody has: the letter's own with a number behind, unless it brings others."""
    if order.job_id != letter.job_id:
        return order
    suffix = replaying.free_suffix(connection, order.job_id, order.idempotency_key)
    return order.model_copy(
        update={"job_id": f"{order.job_id}{suffix}", "idempotency_key": f"{order.idempotency_key}{suffix}"}
    )
