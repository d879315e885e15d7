"""Which dead letters are meant: filters, and what stands behind them, without reading what they hold."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, text

FROM = "FROM corporation.dead_letters d LEFT JOIN corporation.missions m ON m.id = d.mission_id"
OWN = "d.cause IN ('failed', 'timed_out')"

# Each only where it is asked for: a plan for "any status or this one" could not use the index of the status.
CONDITIONS = {
    "status": "d.status = :status",
    "causes": "d.cause = ANY(CAST(:causes AS text[]))",
    "kinds": f"{OWN} AND m.mission_kind = ANY(CAST(:kinds AS text[]))",
    "factory_id": f"{OWN} AND m.factory_id = :factory_id",
    "job_id": "d.job_id = :job_id",
    "error": "position(lower(:error) IN lower(d.failure_error)) > 0",
    "created_after": "d.created_at > :created_after",
    "created_before": "d.created_at < :created_before",
    "ids": "d.id = ANY(CAST(:ids AS bigint[]))",
    "after": "d.id > :after",
    "up_to": "d.id <= :up_to",
    "before": "d.id < :before",
}

# The missions first and by rising id, then the letters: so the publisher locks them too, and nobody waits in a ring.
LOCK_LETTERS = text("""
    SELECT id FROM corporation.dead_letters WHERE id = ANY(CAST(:ids AS bigint[])) ORDER BY id FOR NO KEY UPDATE
""")
MISSIONS_OF = text("""
    SELECT DISTINCT mission_id AS id FROM corporation.dead_letters
     WHERE id = ANY(CAST(:ids AS bigint[])) AND mission_id IS NOT NULL
""")


@dataclass(frozen=True)
class LetterFilter:
    """Which dead letters are meant; None means any, and all that are given must hold.

    `kinds` and `factory_id` are those of a mission that failed, so that an entry that was none never matches; `error`
    is a part of the reason, in any case. `after` and `up_to` are numbers of letters: later than the one, at most the
    other.
    """

    status: str | None = "open"
    causes: Sequence[str] | None = None
    kinds: Sequence[str] | None = None
    factory_id: str | None = None
    job_id: str | None = None
    error: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    ids: Sequence[int] | None = None
    after: int | None = None
    up_to: int | None = None


@dataclass(frozen=True)
class Chosen:
    """One of the letters that are meant, as far as one must know to decide about it."""

    letter_id: int
    mission_id: int | None
    job_id: str
    cause: str
    kind: str | None
    """Of the mission that failed; None when the letter is of an entry."""
    failure_error: str
    status: str
    replay_job_id: str | None
    created_at: datetime


@dataclass(frozen=True)
class Tally:
    """How many letters are meant, and what they are."""

    count: int
    by_cause: dict[str, int]
    by_kind: dict[str, int]
    """Only of missions that failed."""
    newest: int | None
    """The number of the newest of them."""


def newest(connection: Connection, wanted: LetterFilter, limit: int, before: int | None) -> list[int]:
    """The numbers of up to `limit` letters that match, the newest first, from right after letter `before`."""
    where, values = _where(wanted, before=before)
    statement = f"SELECT d.id {FROM} {where} ORDER BY d.id DESC LIMIT :limit"
    return [row.id for row in connection.execute(text(statement), {**values, "limit": limit})]


def oldest(connection: Connection, wanted: LetterFilter, limit: int) -> list[Chosen]:
    """Up to `limit` letters that match, the oldest first, as their missions were asked for."""
    where, values = _where(wanted)
    statement = f"""
        SELECT d.id, d.mission_id, d.job_id, d.cause, CASE WHEN {OWN} THEN m.mission_kind END AS kind, d.failure_error,
               d.status, d.replay_job_id, d.created_at {FROM} {where} ORDER BY d.id LIMIT :limit
    """
    return [_chosen(row) for row in connection.execute(text(statement), {**values, "limit": limit})]


def tally(connection: Connection, wanted: LetterFilter) -> Tally:
    """How many letters match, by cause and by kind."""
    where, values = _where(wanted)
    statement = f"""
        SELECT d.cause, CASE WHEN {OWN} THEN m.mission_kind END AS kind, count(*) AS n, max(d.id) AS newest
          {FROM} {where} GROUP BY 1, 2 ORDER BY 1, 2
    """
    by_cause: dict[str, int] = {}
    by_kind: dict[str, int] = {}
    newest = 0
    for row in connection.execute(text(statement), values):
        by_cause[row.cause] = by_cause.get(row.cause, 0) + row.n
        if row.kind is not None:
            by_kind[row.kind] = by_kind.get(row.kind, 0) + row.n
        newest = max(newest, row.newest)
    return Tally(sum(by_cause.values()), by_cause, by_kind, newest or None)


def missions_of(connection: Connection, letter_ids: Sequence[int]) -> list[int]:
    """The missions that these letters name."""
    return [row.id for row in connection.execute(MISSIONS_OF, {"ids": list(letter_ids)})]


def lock_letters(connection: Connection, letter_ids: Sequence[int]) -> None:
    """These letters are changed by nobody else before the commit; their missions must be locked already."""
    connection.execute(LOCK_LETTERS, {"ids": list(letter_ids)})


def _where(wanted: LetterFilter, before: int | None = None) -> tuple[str, dict[str, Any]]:
    given = {name: getattr(wanted, name, None) for name in CONDITIONS} | {"before": before}
    values = {
        name: list(value) if isinstance(value, tuple) else value for name, value in given.items() if value is not None
    }
    conditions = " AND ".join(CONDITIONS[name] for name in values)
    return f"WHERE {conditions}" if conditions else "", values


def _chosen(row: Row[Any]) -> Chosen:
    return Chosen(
        letter_id=row.id,
        mission_id=row.mission_id,
        job_id=row.job_id,
        cause=row.cause,
        kind=row.kind,
        failure_error=row.failure_error,
        status=row.status,
        replay_job_id=row.replay_job_id,
        created_at=row.created_at,
    )
