"""A mission enters the ledger, once: new, known already, or in conflict with a known one (contract streams §5)."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from sqlalchemy import Connection

from corporation.envelope import MissionEnvelope, body_digest, wire
from corporation.missions.kinds import ResolvedKind
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

    @property
    def entry(self) -> tuple[str, str] | None:
        """The stream and the id of the entry it came in by, if it came in by one."""
        return self.origin.entry if self.origin else None


@dataclass(frozen=True)
class Receipt:
    """What became of a submission: which mission answers for it, and its state now."""

    outcome: Literal["stored", "existed", "conflict"]
    job_id: str
    state: str
    mission_id: int = field(default=0, compare=False)
    """The ledger's own number of that mission."""


@dataclass
class _Answers:
    """What a round found out: a receipt for each submission it reached, and what follows from them."""

    receipts: list[Receipt] = field(default_factory=list[Receipt])
    aliases: list[Alias] = field(default_factory=list[Alias])
    remarks: list[Remark] = field(default_factory=list[Remark])


def submit(connection: Connection, submissions: Sequence[Submission], default_ttl_seconds: int) -> list[Receipt]:
    """Store every new mission of `submissions` with its first events, and answer for each in order.

    A known mission is told of the duplicate or the conflict, but not when it is the same stream entry read again.
    Nothing is true before the caller commits. Calling again with the same missions stores nothing and answers
    `existed`; so do two calls at once, since the unique keys decide (H-24).
    """
    receipts: list[Receipt] = []
    remarks: list[Remark] = []
    fresh: set[str] = set()
    # One round, unless job_ids and keys cross in a batch: J1/k1 in conflict leaves k1 to the J2/k1 behind it. The first
    # of every round is stored or known by then, so each round answers at least one.
    while left := submissions[len(receipts) :]:
        fresh |= _store(connection, _first_of_each(left), default_ttl_seconds)
        answers = _answer(left, fresh, _known(connection, left))
        submitting.add_aliases(connection, answers.aliases)
        receipts += answers.receipts
        remarks += answers.remarks
    # Last, since it waits for whoever changes those missions now, and must hold nothing that they could wait for.
    submitting.add_remarks(connection, remarks)
    return receipts


def _store(connection: Connection, candidates: Sequence[Submission], default_ttl_seconds: int) -> set[str]:
    stored = submitting.insert(connection, [_row(one, default_ttl_seconds) for one in candidates])
    if stored:
        wake(connection, DISPATCH)
    return stored


def _first_of_each(submissions: Sequence[Submission]) -> list[Submission]:
    by_job: dict[str, Submission] = {}
    for one in submissions:
        by_job.setdefault(one.envelope.job_id, one)
    by_key: dict[str, Submission] = {}
    for one in by_job.values():
        by_key.setdefault(one.envelope.idempotency_key, one)
    return list(by_key.values())


def _known(connection: Connection, submissions: Sequence[Submission]) -> list[Known]:
    job_ids = [one.envelope.job_id for one in submissions]
    keys = [one.envelope.idempotency_key for one in submissions]
    return submitting.find_known(connection, job_ids, keys)


def _answer(submissions: Sequence[Submission], fresh: set[str], known: Sequence[Known]) -> _Answers:
    """The answers for `submissions` up to the first that is not known yet.

    A job_id in `fresh` was stored just now; it is taken out, since a repetition further on has merely existed.
    """
    by_job = {found.alias or found.job_id: found for found in known}
    by_key = {found.idempotency_key: found for found in known}
    answers = _Answers()
    for one in submissions:
        job_id, key = one.envelope.job_id, one.envelope.idempotency_key
        if job_id in fresh:
            fresh.discard(job_id)
            answers.receipts.append(Receipt("stored", job_id, State.WAITING, by_job[job_id].mission_id))
            answers.remarks += _oddities(one, by_job[job_id].mission_id)
        elif (found := by_job.get(job_id)) is not None:
            _answer_known(answers, one, found)
        elif (found := by_key.get(key)) is not None:
            by_job[job_id] = replace(found, alias=job_id, entry=one.entry)  # spares a round for each J2/k2 behind it
            answers.aliases.append(Alias(job_id, found.mission_id, one.entry))
            answers.receipts.append(Receipt("existed", found.job_id, found.state, found.mission_id))
            answers.remarks.append(_remark("duplicate", one, found))
        else:
            break
    return answers


def _answer_known(answers: _Answers, one: Submission, found: Known) -> None:
    """A known job_id: the same mission again, unless its body differs. An alias has no body of its own to differ."""
    same = found.alias is not None or body_digest(one.envelope) == found.body_digest
    receipt = Receipt("existed" if same else "conflict", found.job_id, found.state, found.mission_id)
    answers.receipts.append(receipt)
    if one.entry is None or one.entry != found.entry:
        answers.remarks.append(_remark("duplicate" if same else "conflict", one, found))


def _remark(event: str, one: Submission, found: Known) -> Remark:
    detail: dict[str, Any] = {"source": one.source}
    if one.origin:
        detail |= {"stream": one.origin.stream, "entry_id": one.origin.entry_id}
    if one.envelope.job_id != found.job_id:
        detail["job_id"] = one.envelope.job_id
    return Remark(found.mission_id, event, dump(detail))


def _oddities(one: Submission, mission_id: int) -> list[Remark]:
    """What was strange about a mission that was stored all the same (S-14, S-27)."""
    remarks: list[Remark] = []
    if not one.resolved.known:
        detail = dump({"requested_kind": one.resolved.requested_kind})
        remarks.append(Remark(mission_id, "unknown_kind", detail))
    if read_retry_count(one.envelope.payload.context.get("_retry_count")) is None:
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
        "body_digest": body_digest(envelope),
        "ttl_seconds": float(ttl) if ttl else None,
        "stream": origin.stream if origin else None,
        "entry_id": origin.entry_id if origin else None,
        "raw": origin.raw if origin else None,
        "told_job_id": origin.told_job_id if origin else None,
        "parent_id": one.parent_id,
        "replay_of": one.replay_of,
    }
