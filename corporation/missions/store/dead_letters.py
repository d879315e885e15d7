"""Dead letters read, and marked with what became of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Row, text

from corporation.missions.store import letter_selection
from corporation.missions.store.letter_selection import LetterFilter
from corporation.strict_json import JsonRefused, parse

LARGEST_LISTED: Final = 8 * 1024
"""Bytes of an order, and of the text it came as, in a list; two hundred of both are 3 MiB, and twenty at the very worst
that JSON makes of them. An order of ours has some hundred bytes."""

# Whose failure it was; a letter of an entry that conflicted names the mission that has its job_id, which did not fail.
OWN = "d.cause IN ('failed', 'timed_out')"

COLUMNS = f"""
    d.id, d.mission_id, d.job_id, d.cause, d.failure_error, d.retry_count, d.raw, d.raw_size,
    d.raw_sha256, d.status, d.created_at, d.resolved_at, d.replay_job_id,
    CASE WHEN {OWN} THEN m.job_id END AS mission_job_id,
    CASE WHEN {OWN} THEN m.envelope END AS envelope,
    CASE WHEN {OWN} THEN m.raw_envelope END AS raw_envelope,
    coalesce(d.stream_entry_id, m.stream_entry_id) AS entry_id, false AS raw_left_out, false AS envelope_left_out
"""

JOINED = "corporation.dead_letters d LEFT JOIN corporation.missions m ON m.id = d.mission_id"

# A page may hold two hundred of them, and a document 256 KiB: longer ones are read by themselves.
LIST = f"""
    SELECT d.id, d.mission_id, d.job_id, d.cause, d.failure_error, d.retry_count, d.raw_size, d.raw_sha256, d.status,
           d.created_at, d.resolved_at, d.replay_job_id, CASE WHEN {OWN} THEN m.job_id END AS mission_job_id,
           CASE WHEN octet_length(d.raw) <= :largest THEN d.raw END AS raw,
           CASE WHEN {OWN} AND octet_length(m.raw_envelope) <= :largest THEN m.raw_envelope END AS raw_envelope,
           CASE WHEN {OWN} AND octet_length(CAST(m.envelope AS text)) <= :largest THEN m.envelope END AS envelope,
           coalesce(octet_length(d.raw) > :largest, {OWN} AND octet_length(m.raw_envelope) > :largest, false)
             AS raw_left_out,
           coalesce(CASE WHEN {OWN} THEN octet_length(CAST(m.envelope AS text)) > :largest
                         WHEN d.cause = 'conflict' THEN octet_length(d.raw) > :largest END, false)
             AS envelope_left_out,
           coalesce(d.stream_entry_id, m.stream_entry_id) AS entry_id
      FROM {JOINED}
     WHERE d.id = ANY(CAST(:ids AS bigint[])) ORDER BY d.id DESC
"""  # noqa: S608 - what is put in stands above

FIND = f"SELECT {COLUMNS} FROM {JOINED} WHERE d.id = :id"  # noqa: S608

TAKE = f"SELECT {COLUMNS} FROM {JOINED} WHERE d.id = :id FOR NO KEY UPDATE OF d"  # noqa: S608

RESOLVE = text("""
    UPDATE corporation.dead_letters
       SET status = :status, resolved_at = now(), resolved_why = :why, replay_job_id = :replay_job_id
     WHERE id = :id AND status = 'open'
""")


@dataclass(frozen=True)
class StoredLetter:
    """A dead letter; `document` is the order in it, None when it holds none that can be read.

    `mission_job_id` is the mission that failed, None when the letter is of an entry. `raw_sha256` is set where `raw` is
    only the beginning of `raw_size` bytes.
    """

    letter_id: int
    mission_id: int | None
    mission_job_id: str | None
    job_id: str
    cause: str
    failure_error: str
    retry_count: int
    raw: bytes | None
    raw_size: int | None
    raw_sha256: bytes | None
    document: Any
    entry_id: str | None
    status: str
    created_at: datetime
    resolved_at: datetime | None
    replay_job_id: str | None
    left_out: tuple[str, ...] = ()
    """Which of `raw` and `envelope` is too long for a list: `find` has it."""


def list_letters(
    connection: Connection, wanted: LetterFilter, limit: int, before: int | None = None
) -> Sequence[StoredLetter]:
    """Up to `limit` dead letters that match, the newest first, from right after letter `before`.

    A document of more than LARGEST_LISTED bytes is left out, and `left_out` says so.
    """
    ids = letter_selection.newest(connection, wanted, limit, before)
    rows = connection.execute(text(LIST), {"ids": ids, "largest": LARGEST_LISTED})
    return [_letter(row) for row in rows]


def find(connection: Connection, letter_id: int) -> StoredLetter | None:
    """The letter as it is now; None when there is none."""
    row = connection.execute(text(FIND), {"id": letter_id}).first()
    return _letter(row) if row else None


def take(connection: Connection, letter_id: int) -> StoredLetter | None:
    """The letter, locked until the commit; None when there is none."""
    row = connection.execute(text(TAKE), {"id": letter_id}).first()
    return _letter(row) if row else None


def resolve(connection: Connection, letter_id: int, status: str, why: str | None, replay_job_id: str | None) -> None:
    """An open letter has this status from now on; one that is not open any more is left alone."""
    values = {"id": letter_id, "status": status, "why": why, "replay_job_id": replay_job_id}
    connection.execute(RESOLVE, values)


def count_open(connection: Connection) -> int:
    """How many dead letters nobody did anything with."""
    return int(
        connection.execute(text("SELECT count(*) FROM corporation.dead_letters WHERE status = 'open'")).scalar_one()
    )


def _letter(row: Row[Any]) -> StoredLetter:
    raw = bytes(row.raw) if row.raw is not None else None
    return StoredLetter(
        letter_id=row.id,
        mission_id=row.mission_id,
        mission_job_id=row.mission_job_id,
        job_id=row.job_id,
        cause=row.cause,
        failure_error=row.failure_error,
        retry_count=row.retry_count,
        raw=row.raw_envelope.encode() if raw is None and row.raw_envelope is not None else raw,
        raw_size=row.raw_size,
        raw_sha256=bytes(row.raw_sha256) if row.raw_sha256 is not None else None,
        document=row.envelope if row.cause != "conflict" else _object(raw),
        entry_id=row.entry_id,
        status=row.status,
        created_at=row.created_at,
        resolved_at=row.resolved_at,
        replay_job_id=row.replay_job_id,
        left_out=(*("raw",) * row.raw_left_out, *("envelope",) * row.envelope_left_out),
    )


def _object(raw: bytes | None) -> Any:
    try:
        return parse(raw or b"")
    except JsonRefused:
        return None
