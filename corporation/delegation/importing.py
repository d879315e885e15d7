"""A batch of stream entries into the ledger, in one transaction: missions, or dead letters (contract streams §5)."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection

from corporation.delegation.codec import Readable, Unreadable, kept_raw
from corporation.missions.kinds import resolve
from corporation.missions.queries import advertised_kinds
from corporation.missions.retry import read_retry_count
from corporation.missions.store import dead_lettering
from corporation.missions.store.dead_lettering import Letter
from corporation.missions.submit import Origin, Receipt, Submission, submit

SOURCE = "redis_bridge"


@dataclass(frozen=True)
class Imported:
    """What became of a batch: `stored`, `existed`, `conflict`, and the dead letters by code."""

    outcomes: Mapping[str, int] = field(default_factory=dict[str, int])
    dead_letters: Mapping[str, int] = field(default_factory=dict[str, int])


def import_some(
    connection: Connection, stream: str, entries: Sequence[Readable | Unreadable], default_ttl_seconds: int
) -> Imported:
    """Every entry is a mission, a duplicate or a dead letter once the caller commits; only then acknowledge them.

    Entries that were imported before make no second mission and no second letter (S-19), whatever crashed between the
    commit and the acknowledgement; one that was a duplicate or a conflict then is noted as one again.
    """
    readable = [entry for entry in entries if isinstance(entry, Readable)]
    receipts = submit(connection, _submissions(connection, stream, readable), default_ttl_seconds) if readable else []
    conflicts = [
        _conflict(stream, entry, receipt)
        for entry, receipt in zip(readable, receipts, strict=True)
        if receipt.outcome == "conflict"
    ]
    malformed = [_malformed(stream, entry) for entry in entries if isinstance(entry, Unreadable)]
    dead_lettering.keep(connection, [*malformed, *conflicts])
    return Imported(Counter(one.outcome for one in receipts), Counter(one.code for one in malformed))


def _submissions(connection: Connection, stream: str, entries: Sequence[Readable]) -> list[Submission]:
    kinds: frozenset[str] = frozenset()
    if not all(resolve(entry.envelope).known for entry in entries):
        kinds = advertised_kinds(connection)
    return [
        Submission(
            entry.envelope,
            resolve(entry.envelope, kinds),
            SOURCE,
            Origin(stream, entry.entry_id, entry.raw, entry.told_job_id),
        )
        for entry in entries
    ]


def _malformed(stream: str, entry: Unreadable) -> Letter:
    raw, size, digest = kept_raw(entry.raw) if entry.raw is not None else (None, None, None)
    return Letter(stream, entry.entry_id, entry.job_id, entry.code, entry.failure_error, raw, size, digest)


def _conflict(stream: str, entry: Readable, receipt: Receipt) -> Letter:
    raw = entry.raw.encode()
    return Letter(
        stream,
        entry.entry_id,
        entry.envelope.job_id,
        "conflict",
        f"job_id conflict: {receipt.job_id} exists with a different body",
        raw,
        len(raw),
        mission_id=receipt.mission_id,
        retry_count=read_retry_count(entry.envelope.payload.context.get("_retry_count")) or 0,
    )
