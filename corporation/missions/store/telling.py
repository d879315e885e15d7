"""What the streams have still to be told: the ends of missions, and dead letters (contract streams §7, §8)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text

from corporation.missions.store.locking import lock_missions

# A result may have a megabyte; what is too large for a stream is not even read (`largest` in bytes).
TAKE_RESULTS = text("""
    SELECT o.id, m.id AS mission_id, m.job_id, m.state, m.error,
           CASE WHEN octet_length(CAST(m.result AS text)) <= :largest THEN m.result
                WHEN m.result IS NOT NULL THEN json_strip_nulls(json_build_object(
                  'mission_id', m.job_id, 'mission_kind', m.mission_kind, 'factory_id', m.factory_id,
                  'attempts', m.attempt, 'result_ref', left(m.result ->> 'result_ref', 4000),
                  'terminal_status', m.result -> 'terminal_status', 'result_truncated', true))
            END AS result
      FROM corporation.stream_outbox o JOIN corporation.missions m ON m.id = o.mission_id
     WHERE o.mission_id IS NOT NULL
     ORDER BY o.id LIMIT :limit
       FOR UPDATE OF o SKIP LOCKED
""")

TAKE_LETTERS = text("""
    SELECT o.id, d.id AS letter_id, d.mission_id, d.job_id, d.cause, d.failure_error, d.retry_count, d.raw, d.raw_size,
           d.raw_sha256, m.raw_envelope, m.envelope
      FROM corporation.stream_outbox o
      JOIN corporation.dead_letters d ON d.id = o.dead_letter_id
      LEFT JOIN corporation.missions m ON m.id = d.mission_id AND d.cause IN ('failed', 'timed_out')
     WHERE o.dead_letter_id IS NOT NULL
     ORDER BY o.id LIMIT :limit
       FOR UPDATE OF o SKIP LOCKED
""")

FORGET = text("DELETE FROM corporation.stream_outbox WHERE id = ANY(CAST(:ids AS bigint[]))")

MARK_RESULTS = text("""
    WITH given AS (
      SELECT * FROM unnest(CAST(:mission_ids AS bigint[]), CAST(:entry_ids AS text[])) AS t(mission_id, entry_id)
    ), counted AS (
      UPDATE corporation.missions m SET result_published_at = now(), event_seq = m.event_seq + 1
        FROM given g WHERE m.id = g.mission_id RETURNING m.id, m.event_seq, g.entry_id
    )
    INSERT INTO corporation.mission_events (mission_id, seq, type, detail)
    SELECT id, event_seq, 'result_published', json_build_object('entry_id', entry_id) FROM counted
""")

MARK_LETTERS = text("""
    WITH given AS (
      SELECT * FROM unnest(CAST(:letter_ids AS bigint[]), CAST(:entry_ids AS text[])) AS t(letter_id, entry_id)
    ), marked AS (
      UPDATE corporation.dead_letters d SET published_at = now()
        FROM given g WHERE d.id = g.letter_id
      RETURNING d.id, d.mission_id, d.cause, g.entry_id
    ), counted AS (
      UPDATE corporation.missions m SET event_seq = m.event_seq + 1
        FROM marked k WHERE m.id = k.mission_id AND k.cause IN ('failed', 'timed_out')
      RETURNING m.id, m.event_seq, k.id AS letter_id, k.entry_id
    )
    INSERT INTO corporation.mission_events (mission_id, seq, type, detail)
    SELECT id, event_seq, 'dead_lettered', json_build_object('dlq_id', 'dl-' || letter_id, 'entry_id', entry_id)
      FROM counted
""")


@dataclass(frozen=True)
class ToldEnd:
    """A mission that ended, to be told on the results stream."""

    outbox_id: int
    mission_id: int
    job_id: str
    state: str
    result: Mapping[str, Any] | None
    error: str | None


@dataclass(frozen=True)
class ToldLetter:
    """A dead letter to be told; `envelope` is the stored one of a mission that came in by no stream."""

    outbox_id: int
    letter_id: int
    mission_id: int | None
    job_id: str
    cause: str
    failure_error: str
    retry_count: int
    raw: bytes | None
    raw_size: int | None
    raw_sha256: bytes | None
    envelope: Mapping[str, Any] | None


def take_ends(connection: Connection, limit: int, largest_bytes: int) -> list[ToldEnd]:
    """Lock up to `limit` ends to tell, the oldest first; a larger result is left out but for our own keys."""
    rows = connection.execute(TAKE_RESULTS, {"limit": limit, "largest": largest_bytes}).all()
    # Before anything is told: a lock that cannot be had afterwards would have all of it told again.
    lock_missions(connection, [row.mission_id for row in rows])
    return [ToldEnd(row.id, row.mission_id, row.job_id, row.state, row.result, row.error) for row in rows]


def take_letters(connection: Connection, limit: int) -> list[ToldLetter]:
    """Lock up to `limit` dead letters to tell, the oldest first."""
    rows = connection.execute(TAKE_LETTERS, {"limit": limit}).all()
    lock_missions(connection, [row.mission_id for row in rows if row.mission_id])
    return [
        ToldLetter(
            outbox_id=row.id,
            letter_id=row.letter_id,
            mission_id=row.mission_id,
            job_id=row.job_id,
            cause=row.cause,
            failure_error=row.failure_error,
            retry_count=row.retry_count,
            raw=_raw(row.raw, row.raw_envelope),
            raw_size=row.raw_size,
            raw_sha256=bytes(row.raw_sha256) if row.raw_sha256 else None,
            envelope=row.envelope,
        )
        for row in rows
    ]


def mark_ends(connection: Connection, told: Sequence[tuple[ToldEnd, str]]) -> None:
    """Each of these ends is on the stream, as the entry named beside it, and the mission's history says so."""
    if told:
        mission_ids = [end.mission_id for end, _ in told]
        lock_missions(connection, mission_ids)
        connection.execute(MARK_RESULTS, {"mission_ids": mission_ids, "entry_ids": [entry_id for _, entry_id in told]})
        connection.execute(FORGET, {"ids": [end.outbox_id for end, _ in told]})


def mark_letters(connection: Connection, told: Sequence[tuple[ToldLetter, str]]) -> None:
    """Each of these letters is on the dead-letter stream, and the history of the mission that failed says so."""
    if told:
        lock_missions(connection, [letter.mission_id for letter, _ in told if letter.mission_id])
        values = {"letter_ids": [letter.letter_id for letter, _ in told], "entry_ids": [entry for _, entry in told]}
        connection.execute(MARK_LETTERS, values)
        connection.execute(FORGET, {"ids": [letter.outbox_id for letter, _ in told]})


def count_untold(connection: Connection) -> int:
    """How many ends of missions the results stream has not been told yet."""
    statement = text("SELECT count(*) FROM corporation.stream_outbox WHERE mission_id IS NOT NULL")
    return int(connection.execute(statement).scalar_one())


def _raw(kept: bytes | None, envelope: str | None) -> bytes | None:
    if kept is not None:
        return bytes(kept)
    return envelope.encode() if envelope is not None else None
