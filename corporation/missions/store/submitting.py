"""New missions into the ledger."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text

from corporation.missions.store.locking import lock_missions

# In the order of the keys, so that two batches with the same keys wait for each other in one order and never for ever.
# The rows must be sorted here: the plan that a connection chose decides the order in which the join gives them. Their
# places in the batch are kept, so that missions of one moment run in the order in which they were given (S-11).
INSERT = text("""
    WITH given AS (
      SELECT * FROM unnest(
        CAST(:job_id AS text[]), CAST(:idempotency_key AS text[]), CAST(:mission_kind AS text[]),
        CAST(:requested_kind AS text[]), CAST(:source AS text[]), CAST(:target AS text[]),
        CAST(:priority AS bigint[]), CAST(:timeout_seconds AS bigint[]), CAST(:max_retries AS bigint[]),
        CAST(:attempts_total AS bigint[]), CAST(:attempts_before AS bigint[]), CAST(:envelope AS text[]),
        CAST(:body_digest AS bytea[]), CAST(:ttl_seconds AS double precision[]), CAST(:stream AS text[]),
        CAST(:entry_id AS text[]), CAST(:raw AS text[]), CAST(:told_job_id AS text[]), CAST(:parent_id AS bigint[]),
        CAST(:replay_of AS bigint[])) WITH ORDINALITY
      AS t(job_id, idempotency_key, mission_kind, requested_kind, source, target, priority, timeout_seconds,
           max_retries, attempts_total, attempts_before, envelope, body_digest, ttl_seconds, stream, entry_id, raw,
           told_job_id, parent_id, replay_of, place)
    ), new AS (
      INSERT INTO corporation.missions
        (job_id, idempotency_key, mission_kind, requested_kind, source, target_factory_id, priority, broker_priority,
         timeout_seconds, max_retries, attempts_total, attempts_before, envelope, body_digest, deadline_at, event_seq,
         stream, stream_entry_id, raw_envelope, parent_id, replay_of, place)
      SELECT job_id, idempotency_key, mission_kind, requested_kind, source, target, priority,
             CASE WHEN mission_kind LIKE 'system:%' THEN 0 ELSE least(greatest(priority, 0), 9) END,
             timeout_seconds, max_retries, attempts_total, attempts_before,
             CAST(envelope AS json), body_digest, now() + ttl_seconds * interval '1 second', 1,
             stream, entry_id, raw, parent_id, replay_of, place
        FROM given
       WHERE NOT EXISTS (SELECT 1 FROM corporation.mission_aliases a WHERE a.job_id = given.job_id)
       ORDER BY idempotency_key
          ON CONFLICT DO NOTHING
      RETURNING id, job_id, source, stream, stream_entry_id
    ), told AS (
      INSERT INTO corporation.mission_events (mission_id, seq, type, detail)
      SELECT new.id, 1, CASE new.source WHEN 'redis_bridge' THEN 'imported' ELSE 'published' END,
             json_strip_nulls(json_build_object('source', new.source, 'stream', new.stream,
                                                'entry_id', new.stream_entry_id, 'entry_job_id', given.told_job_id,
                                                'parent_job_id', parent.job_id))
        FROM new JOIN given USING (job_id) LEFT JOIN corporation.missions parent ON parent.id = given.parent_id
    )
    SELECT id, job_id FROM new
""")

# Read after INSERT, whose snapshot is older than what it may have waited for.
BECAME_ALIASES = text("SELECT job_id FROM corporation.mission_aliases WHERE job_id = ANY(CAST(:job_ids AS text[]))")

TAKE_BACK = text("""
    WITH untold AS (
      DELETE FROM corporation.mission_events WHERE mission_id = ANY(CAST(:mission_ids AS bigint[]))
    )
    DELETE FROM corporation.missions WHERE id = ANY(CAST(:mission_ids AS bigint[]))
""")

FIND_KNOWN = text("""
    SELECT m.id, m.job_id, m.idempotency_key, m.state, m.body_digest, NULL AS alias, m.stream, m.stream_entry_id
      FROM corporation.missions m
     WHERE m.job_id = ANY(CAST(:job_ids AS text[])) OR m.idempotency_key = ANY(CAST(:keys AS text[]))
    UNION ALL
    SELECT m.id, m.job_id, m.idempotency_key, m.state, m.body_digest, a.job_id, a.stream, a.stream_entry_id
      FROM corporation.mission_aliases a JOIN corporation.missions m ON m.id = a.mission_id
     WHERE a.job_id = ANY(CAST(:job_ids AS text[]))
""")

# A name is a mission or an alias, never both. Two transactions that do not see each other can only meet in an index, so
# whoever makes an alias holds its name among the missions too until the commit, by a row that nobody ever sees. The
# missions' own way pays nothing for it, and no lock is taken that the server would have to keep a place for.
HOLD_NAMES = text("""
    INSERT INTO corporation.missions (job_id, idempotency_key, mission_kind, requested_kind, source, priority,
                                      broker_priority, timeout_seconds, max_retries, attempts_total, envelope,
                                      body_digest)
    SELECT job_id, CAST(gen_random_uuid() AS text), 'alias', 'alias', 'rest', 0, 0, 1, 0, 1,
           CAST('{}' AS json), CAST('' AS bytea)
      FROM unnest(CAST(:job_ids AS text[])) AS given(job_id) ORDER BY job_id
        ON CONFLICT DO NOTHING
    RETURNING id, job_id
""")

ADD_ALIASES = text("""
    WITH held AS (
      DELETE FROM corporation.missions WHERE id = ANY(CAST(:held_ids AS bigint[]))
    )
    INSERT INTO corporation.mission_aliases (job_id, mission_id, stream, stream_entry_id)
    SELECT * FROM unnest(CAST(:job_ids AS text[]), CAST(:mission_ids AS bigint[]), CAST(:streams AS text[]),
                         CAST(:entry_ids AS text[]))
        ON CONFLICT DO NOTHING
    RETURNING job_id
""")

ADD_REMARKS = text("""
    WITH given AS (
      SELECT * FROM unnest(CAST(:mission_ids AS bigint[]), CAST(:types AS text[]), CAST(:details AS text[]))
             WITH ORDINALITY AS t(mission_id, type, detail, place)
    ), counted AS (
      UPDATE corporation.missions m SET event_seq = m.event_seq + g.n
        FROM (SELECT mission_id, count(*) AS n FROM given GROUP BY mission_id) g
       WHERE m.id = g.mission_id AND m.event_seq < :most_events
      RETURNING m.id, m.event_seq, g.n
    )
    INSERT INTO corporation.mission_events (mission_id, seq, type, detail)
    SELECT c.id, c.event_seq - c.n + row_number() OVER (PARTITION BY c.id ORDER BY g.place), g.type,
           CAST(g.detail AS json)
      FROM given g JOIN counted c ON c.id = g.mission_id
""")

# Whoever tells a mission of a repetition holds its first event, which nobody else ever locks.
TELLABLE = text("""
    SELECT mission_id FROM corporation.mission_events
     WHERE mission_id = ANY(CAST(:mission_ids AS bigint[])) AND seq = 1
     ORDER BY mission_id FOR NO KEY UPDATE SKIP LOCKED
""")

MOST_EVENTS = 1000
"""A mission with more events is told no further remarks: one producer that repeats itself must not fill the ledger."""


@dataclass(frozen=True)
class Known:
    """A mission the ledger had already, and by which alias it was found, if by one."""

    mission_id: int
    job_id: str
    idempotency_key: str
    state: str
    body_digest: bytes
    alias: str | None
    entry: tuple[str, str] | None
    """The stream and the entry that made this mission, or this alias."""


@dataclass(frozen=True)
class Alias:
    """Another job_id for a mission, and the stream's entry that said so, if one did."""

    job_id: str
    mission_id: int
    entry: tuple[str, str] | None


@dataclass(frozen=True)
class Remark:
    """An event that changes nothing; `detail` is JSON text."""

    mission_id: int
    event: str
    detail: str = "{}"
    joins: bool = False
    """One of many that may come at once: left out while another transaction tells the mission of one like it."""


def insert(connection: Connection, rows: Sequence[dict[str, Any]]) -> dict[str, int]:
    """Store those of `rows` whose job_id and key are both new, each with its first event: job_id → the mission's id.

    The whole batch is one statement. A row that loses a race against another transaction is simply not returned, also
    when its job_id became an alias meanwhile.
    """
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    stored: dict[str, int] = {row.job_id: row.id for row in connection.execute(INSERT, columns)}
    aliases = connection.execute(BECAME_ALIASES, {"job_ids": list(stored)}) if stored else ()
    if lost := [stored.pop(row.job_id) for row in aliases]:
        connection.execute(TAKE_BACK, {"mission_ids": lost})
    return stored


def find_known(connection: Connection, job_ids: Sequence[str], keys: Sequence[str]) -> list[Known]:
    """Every mission that has one of `job_ids` (also as an alias) or one of `keys`."""
    rows = connection.execute(FIND_KNOWN, {"job_ids": list(job_ids), "keys": list(keys)})
    return [
        Known(
            row.id,
            row.job_id,
            row.idempotency_key,
            row.state,
            bytes(row.body_digest),
            row.alias,
            (row.stream, row.stream_entry_id) if row.stream else None,
        )
        for row in rows
    ]


def add_aliases(connection: Connection, aliases: Sequence[Alias]) -> set[str]:
    """Make each alias resolve to its mission from now on; the job_ids that do so now are returned.

    Left alone is one that another transaction made a mission or an alias meanwhile: it is known when this returns.
    """
    if not aliases:
        return set()
    # In one order, so that two batches that make the same aliases do not wait for each other for ever.
    names = {"job_ids": [one.job_id for one in aliases]}
    held: dict[str, int] = {row.job_id: row.id for row in connection.execute(HOLD_NAMES, names)}
    ordered = sorted((one for one in aliases if one.job_id in held), key=lambda alias: alias.job_id)
    values = {
        "held_ids": list(held.values()),
        "job_ids": [one.job_id for one in ordered],
        "mission_ids": [one.mission_id for one in ordered],
        "streams": [one.entry[0] if one.entry else None for one in ordered],
        "entry_ids": [one.entry[1] if one.entry else None for one in ordered],
    }
    return {row.job_id for row in connection.execute(ADD_ALIASES, values)}


def add_remarks(connection: Connection, remarks: Sequence[Remark]) -> None:
    """Append each remark to its mission's history, in order; of a mission with MOST_EVENTS events nothing more.

    It waits for whoever changes the missions. Of those that `joins` only one transaction a mission waits so, and the
    others, which leave theirs out, are done at once: many callers with one key must not hold every connection, one
    behind the other, for one row. So one that comes alone is always told, and of many at once at least one, unless the
    transaction that was telling it is given up.
    """
    if told := _told_now(connection, remarks):
        mission_ids = [one.mission_id for one in told]
        lock_missions(connection, mission_ids)
        connection.execute(
            ADD_REMARKS,
            {
                "mission_ids": mission_ids,
                "types": [one.event for one in told],
                "details": [one.detail for one in told],
                "most_events": MOST_EVENTS,
            },
        )


def _told_now(connection: Connection, remarks: Sequence[Remark]) -> list[Remark]:
    joining = {one.mission_id for one in remarks if one.joins}
    if not joining:
        return list(remarks)
    ours = set(connection.execute(TELLABLE, {"mission_ids": sorted(joining)}).scalars())
    return [one for one in remarks if not one.joins or one.mission_id in ours]
