"""A mission enters the ledger, once: new, known already, or in conflict with a known one (contract streams §5)."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from sqlalchemy import Connection

from corporation.envelope import MissionEnvelope, body_digest, wire
from corporation.missions.kinds import ResolvedKind
from corporation.missions.retry import attempts_total, read_retry_count
from corporation.missions.states import State
from corporation.missions.store import submitting
from corporation.missions.store.submitting import Known
from corporation.strict_json import dump
from corporation.wakeups import DISPATCH, wake


@dataclass(frozen=True)
class Submission:
    """A valid mission that somebody asks for; `source` is where (contract http §7)."""

    envelope: MissionEnvelope
    resolved: ResolvedKind
    source: str


@dataclass(frozen=True)
class Receipt:
    """What became of a submission: which mission answers for it, and its state now."""

    outcome: Literal["stored", "existed", "conflict"]
    job_id: str
    state: str


def submit(connection: Connection, submissions: Sequence[Submission], default_ttl_seconds: int) -> list[Receipt]:
    """Store every new mission of `submissions` with its first event, and answer for each in order.

    Nothing is true before the caller commits. Calling again with the same missions stores nothing and answers
    `existed`; so do two calls at once, since the unique keys decide (H-24).
    """
    receipts: list[Receipt] = []
    fresh: set[str] = set()
    # One round, unless job_ids and keys cross in a batch: J1/k1 in conflict leaves k1 to the J2/k1 behind it. The first
    # of every round is stored or known by then, so each round answers at least one.
    while left := submissions[len(receipts) :]:
        fresh |= _store(connection, _first_of_each(left), default_ttl_seconds)
        answers, aliases = _answer(left, fresh, _known(connection, left))
        submitting.add_aliases(connection, aliases)
        receipts += answers
    return receipts


def _store(connection: Connection, candidates: Sequence[Submission], default_ttl_seconds: int) -> set[str]:
    stored = submitting.insert(connection, [_row(one, default_ttl_seconds) for one in candidates])
    _tell_oddities(connection, [one for one in candidates if one.envelope.job_id in stored])
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


def _answer(
    submissions: Sequence[Submission], fresh: set[str], known: Sequence[Known]
) -> tuple[list[Receipt], list[tuple[str, int]]]:
    """The receipts of `submissions` up to the first that is not known yet, and the aliases they make.

    A job_id in `fresh` was stored just now; it is taken out, since a repetition further on has merely existed.
    """
    by_job = {found.alias or found.job_id: found for found in known}
    by_key = {found.idempotency_key: found for found in known}
    receipts: list[Receipt] = []
    aliases: list[tuple[str, int]] = []
    for envelope in (one.envelope for one in submissions):
        if envelope.job_id in fresh:
            fresh.discard(envelope.job_id)
            receipts.append(Receipt("stored", envelope.job_id, State.WAITING))
        elif (found := by_job.get(envelope.job_id)) is not None:
            receipts.append(_same_or_conflict(envelope, found))
        elif (found := by_key.get(envelope.idempotency_key)) is not None:
            by_job[envelope.job_id] = replace(found, alias=envelope.job_id)  # spares a round for each J2/k2 behind it
            aliases.append((envelope.job_id, found.mission_id))
            receipts.append(Receipt("existed", found.job_id, found.state))
        else:
            break
    return receipts, aliases


def _same_or_conflict(envelope: MissionEnvelope, found: Known) -> Receipt:
    """A known job_id: the same mission again, unless its body differs. An alias has no body of its own to differ."""
    same = found.alias is not None or body_digest(envelope) == found.body_digest
    return Receipt("existed" if same else "conflict", found.job_id, found.state)


def _row(one: Submission, default_ttl_seconds: int) -> dict[str, Any]:
    envelope, context = one.envelope, one.envelope.payload.context
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
    }


def _tell_oddities(connection: Connection, submissions: Sequence[Submission]) -> None:
    for one in submissions:
        job_id = one.envelope.job_id
        if not one.resolved.known:
            detail = json.dumps({"requested_kind": one.resolved.requested_kind})
            submitting.add_event(connection, job_id, "unknown_kind", detail)
        if read_retry_count(one.envelope.payload.context.get("_retry_count")) is None:
            submitting.add_event(connection, job_id, "retry_count_ignored")
