"""A mission enters the ledger, once: new, known already, or in conflict with a known one (contract streams §5)."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final, Literal

from sqlalchemy import Connection

from corporation.envelope import MissionEnvelope, body_digest, wire
from corporation.errors import LedgerUnavailableError
from corporation.missions.kinds import ResolvedKind
from corporation.missions.orders import Order, lock_targets, obey, order_in
from corporation.missions.retry import attempts_total, read_retry_count
from corporation.missions.states import State
from corporation.missions.store import submitting
from corporation.missions.store.submitting import Alias, Known, Remark
from corporation.strict_json import dump
from corporation.wakeups import DISPATCH, wake


@dataclass(frozen=True)
class Origin:
    """The stream's entry that a mission came in by: its text to the letter (S-23), and what its sibling field said."""

    stream: str
    entry_id: str
    raw: str
    told_job_id: str | None = None
    """The entry's field `job_id` where it differs from the envelope's, which decides (S-8)."""

    @property
    def entry(self) -> tuple[str, str]:
        """What no other entry has."""
        return self.stream, self.entry_id


@dataclass(frozen=True)
class Submission:
    """A valid mission that somebody asks for; `source` is where (contract http §7)."""

    envelope: MissionEnvelope
    resolved: ResolvedKind
    source: str
    origin: Origin | None = None
    parent_id: int | None = None
    """The broadcast that it is a part of (S-25)."""
    replay_of: int | None = None
    """The mission that it repeats (H-27)."""
    by: str | None = None
    """Who asks, where that is known better than by the source."""
    for_seconds: int | None = None
    """After how long the pause that it orders ends by itself; None for any other mission."""

    @property
    def order(self) -> Order | None:
        """What it says of a factory, if it is an order to rest or to go on."""
        return order_in(self.resolved.kind, self.envelope.payload.context, self.by or self.source, self.for_seconds)

    @property
    def entry(self) -> tuple[str, str] | None:
        """The stream and the id of the entry it came in by, if it came in by one."""
        return self.origin.entry if self.origin else None

    @cached_property
    def digest(self) -> bytes:
        """The digest of its body (S-17), reckoned once."""
        return body_digest(self.envelope)


Outcome = Literal["stored", "existed", "conflict"]


@dataclass(frozen=True)
class Receipt:
    """What became of a submission: which mission answers for it, and its state now."""

    outcome: Outcome
    job_id: str
    state: str
    mission_id: int = field(default=0, compare=False)
    """The ledger's own number of that mission."""


@dataclass(frozen=True)
class _Answer:
    """What becomes of one submission, and the job_id of the mission that answers for it."""

    one: Submission
    outcome: Outcome
    job_id: str
    state: str
    makes_alias: bool = False
    """Whether its job_id stands for that mission from now on."""
    told: bool = False
    """Whether that mission's history tells of it already: the same stream entry was read again."""


@dataclass
class _Ours:
    """What this call made so far: the missions it stored (job_id → the ledger's number), and aliases."""

    stored: dict[str, int] = field(default_factory=dict[str, int])
    aliases: set[str] = field(default_factory=set[str])


ROUNDS: Final = 100
"""A round is lost only to another transaction that took one of our names meanwhile and committed; the next one knows
it. Nobody meets so many of those, so that many lost rounds mean that the ledger is not what we think it is."""


def submit(connection: Connection, submissions: Sequence[Submission], default_ttl_seconds: int) -> list[Receipt]:
    """Store every new mission of `submissions` with its first events, and answer for each in order.

    HQ's flag of a factory is as a new order for it says (F-20); one that is known already says nothing again. A known
    mission is told of the duplicate or the conflict, but not when it is the same stream entry read again; of many that
    come at once by other ways than a stream, of one at least (`add_remarks`).
    Nothing is true before the caller commits. Calling again with the same missions stores nothing and answers
    `existed`; so do two calls at once, since the unique keys decide (H-24). However the names cross in a batch, it
    takes the same few statements. Raises LedgerUnavailableError when others took its names ROUNDS times meanwhile.
    """
    ours = _Ours()
    lock_targets(connection, [one.order for one in submissions])
    for _ in range(ROUNDS):
        known = _known(connection, submissions)
        answers = _judge(submissions, known, ours)
        if _carry_out(connection, answers, known, ours, default_ttl_seconds):
            ids = _ids(known, ours)
            obey(connection, [one.one.order for one in answers if one.outcome == "stored"])
            # Last, since it waits for whoever changes those missions now, and must hold nothing they could wait for.
            submitting.add_remarks(connection, [remark for one in answers for remark in _remarks(one, ids)])
            return [Receipt(one.outcome, one.job_id, one.state, ids[one.job_id]) for one in answers]
    raise LedgerUnavailableError("Others stored missions with the same names all the time; try again")


def _known(connection: Connection, submissions: Sequence[Submission]) -> list[Known]:
    job_ids = [one.envelope.job_id for one in submissions]
    keys = [one.envelope.idempotency_key for one in submissions]
    return submitting.find_known(connection, job_ids, keys)


def _judge(submissions: Sequence[Submission], known: Sequence[Known], ours: _Ours) -> list[_Answer]:
    """An answer for each of `submissions`, as if they had come one by one to a ledger that knows `known` (pure)."""
    by_job = {found.alias: found for found in known if found.alias is not None}
    by_job |= {found.job_id: found for found in known if found.alias is None}
    by_key = {found.idempotency_key: found for found in known}
    first_seen = set(ours.stored) | ours.aliases
    answers: list[_Answer] = []
    for one in submissions:
        job_id, key = one.envelope.job_id, one.envelope.idempotency_key
        found = by_job.get(job_id)
        if found is not None and job_id not in first_seen:
            answers.append(_repeated(one, found))
        elif found is not None:
            # What we made in a round that was lost; a repetition further on has merely existed.
            first_seen.discard(job_id)
            outcome: Outcome = "stored" if job_id in ours.stored else "existed"
            answers.append(_Answer(one, outcome, found.job_id, found.state, makes_alias=outcome == "existed"))
        elif (found := by_key.get(key)) is not None:
            by_job[job_id] = replace(found, alias=job_id, entry=one.entry)
            answers.append(_Answer(one, "existed", found.job_id, found.state, makes_alias=True))
        else:
            by_job[job_id] = by_key[key] = Known(0, job_id, key, State.WAITING, one.digest, None, one.entry)
            answers.append(_Answer(one, "stored", job_id, State.WAITING))
    return answers


def _repeated(one: Submission, found: Known) -> _Answer:
    """A known job_id: the same mission again, unless its body differs. An alias has no body of its own to differ."""
    same = found.alias is not None or one.digest == found.body_digest
    told = one.entry is not None and one.entry == found.entry
    return _Answer(one, "existed" if same else "conflict", found.job_id, found.state, told=told)


def _carry_out(
    connection: Connection, answers: Sequence[_Answer], known: Sequence[Known], ours: _Ours, default_ttl_seconds: int
) -> bool:
    """Make what `answers` say; False when somebody else took one of the names meanwhile, so that they are wrong."""
    new = [one.one for one in answers if one.outcome == "stored" and one.job_id not in ours.stored]
    if new:
        stored = submitting.insert(connection, [_row(one, default_ttl_seconds) for one in new])
        ours.stored |= stored
        if stored:
            wake(connection, DISPATCH)
        if len(stored) < len(new):
            return False
    ids = _ids(known, ours)
    aliases = [
        Alias(one.one.envelope.job_id, ids[one.job_id], one.one.entry)
        for one in answers
        if one.makes_alias and one.one.envelope.job_id not in ours.aliases
    ]
    made = submitting.add_aliases(connection, aliases)
    ours.aliases |= made
    return len(made) == len(aliases)


def _ids(known: Sequence[Known], ours: _Ours) -> dict[str, int]:
    return {found.job_id: found.mission_id for found in known} | ours.stored


def _remarks(answer: _Answer, ids: dict[str, int]) -> list[Remark]:
    """What the history of the mission that answers is told."""
    mission_id = ids[answer.job_id]
    if answer.outcome == "stored":
        return _oddities(answer.one, mission_id)
    if answer.told:
        return []
    return [_remark("duplicate" if answer.outcome == "existed" else "conflict", answer, mission_id)]


def _remark(event: str, answer: _Answer, mission_id: int) -> Remark:
    one = answer.one
    detail: dict[str, Any] = {"source": one.source}
    if one.origin:
        detail |= {"stream": one.origin.stream, "entry_id": one.origin.entry_id}
    if one.envelope.job_id != answer.job_id:
        detail["job_id"] = one.envelope.job_id
    # The streams' rules name an event for each such entry (streams §5), and one importer at a time reads them.
    return Remark(mission_id, event, dump(detail), joins=one.origin is None)


def _oddities(one: Submission, mission_id: int) -> list[Remark]:
    """What was strange about a mission that was stored all the same (S-14, S-27)."""
    remarks: list[Remark] = []
    if not one.resolved.known:
        detail = dump({"requested_kind": one.resolved.requested_kind})
        remarks.append(Remark(mission_id, "unknown_kind", detail))
    if read_retry_count(one.envelope.payload.context.get("_retry_count", 0)) is None:
        remarks.append(Remark(mission_id, "retry_count_ignored"))
    return remarks


def _row(one: Submission, default_ttl_seconds: int) -> dict[str, Any]:
    envelope, context, origin = one.envelope, one.envelope.payload.context, one.origin
    used = read_retry_count(context.get("_retry_count")) or 0
    ttl = envelope.ttl_seconds if envelope.ttl_seconds is not None else default_ttl_seconds
    target = context.get("target_factory_id")
    return {
        "job_id": envelope.job_id,
        "idempotency_key": envelope.idempotency_key,
        "mission_kind": one.resolved.kind,
        "requested_kind": one.resolved.requested_kind,
        "source": one.source,
        "target": target if isinstance(target, str) and target else None,
        "priority": envelope.priority,
        "timeout_seconds": envelope.timeout_seconds,
        "max_retries": envelope.max_retries,
        "attempts_total": attempts_total(envelope.max_retries, used),
        "attempts_before": used,
        "envelope": dump(wire(envelope)),
        "body_digest": one.digest,
        "ttl_seconds": float(ttl) if ttl else None,
        "stream": origin.stream if origin else None,
        "entry_id": origin.entry_id if origin else None,
        "raw": origin.raw if origin else None,
        "told_job_id": origin.told_job_id if origin else None,
        "parent_id": one.parent_id,
        "replay_of": one.replay_of,
    }
