"""New missions into the ledger."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text

# In the order of the keys, so that two batches with the same keys wait for each other in one order and never for ever.
# The rows must be sorted here: the plan that a connection chose decides the order in which the join gives them.
INSERT = text("""
    WITH given AS (
      SELECT * FROM unnest(
        CAST(:job_id AS text[]), CAST(:idempotency_key AS text[]), CAST(:mission_kind AS text[]),
        CAST(:requested_kind AS text[]), CAST(:source AS text[]), CAST(:target AS text[]),
        CAST(:priority AS bigint[]), CAST(:timeout_seconds AS bigint[]), CAST(:max_retries AS bigint[]),
        CAST(:attempts_total AS bigint[]), CAST(:attempts_before AS bigint[]), CAST(:envelope AS text[]),
        CAST(:body_digest AS bytea[]), CAST(:ttl_seconds AS double precision[]))
      AS t(job_id, idempotency_key, mission_kind, requested_kind, source, target, priority, timeout_seconds,
           max_retries, attempts_total, attempts_before, envelope, body_digest, ttl_seconds)
    ), new AS (
      INSERT INTO corporation.missions
        (job_id, idempotency_key, mission_kind, requested_kind, source, target_factory_id, priority, broker_priority,
         timeout_seconds, max_retries, attempts_total, attempts_before, envelope, body_digest, deadline_at, event_seq)
      SELECT job_id, idempotency_key, mission_kind, requested_kind, source, target, priority,
             least(greatest(priority, 0), 9), timeout_seconds, max_retries, attempts_total, attempts_before,
             CAST(envelope AS json), body_digest, now() + ttl_seconds * interval '1 second', 1
        FROM given
       WHERE NOT EXISTS (SELECT 1 FROM corporation.mission_aliases a WHERE a.job_id = given.job_id)
       ORDER BY idempotency_key
          ON CONFLICT DO NOTHING
      RETURNING id, job_id, source
    ), told AS (
      INSERT INTO corporation.mission_events (mission_id, seq, type, detail)
      SELECT id, 1, CASE source WHEN 'redis_bridge' THEN 'imported' ELSE 'published' END,
             json_build_object('source', source)
        FROM new
    )
    SELECT job_id FROM new
""")

FIND_KNOWN = text("""
    SELECT m.id, m.job_id, m.idempotency_key, m.state, m.body_digest, NULL AS alias
      FROM corporation.missions m
     WHERE m.job_id = ANY(CAST(:job_ids AS text[])) OR m.idempotency_key = ANY(CAST(:keys AS text[]))
    UNION ALL
    SELECT m.id, m.job_id, m.idempotency_key, m.state, m.body_digest, a.job_id
      FROM corporation.mission_aliases a JOIN corporation.missions m ON m.id = a.mission_id
     WHERE a.job_id = ANY(CAST(:job_ids AS text[]))
""")

ADD_ALIASES = text("""
    INSERT INTO corporation.mission_aliases (job_id, mission_id)
    SELECT * FROM unnest(CAST(:job_ids AS text[]), CAST(:mission_ids AS bigint[]))
        ON CONFLICT DO NOTHING
""")

ADD_EVENT = text("""
    WITH counted AS (
      UPDATE corporation.missions SET event_seq = event_seq + 1 WHERE job_id = :job_id RETURNING id, event_seq
    )
    INSERT INTO corporation.mission_events (mission_id, seq, type, detail)
    SELECT id, event_seq, :type, CAST(:detail AS json) FROM counted
""")


@dataclass(frozen=True)
class Known:
    """A mission the ledger had already, and by which alias it was found, if by one."""

    mission_id: int
    job_id: str
    idempotency_key: str
    state: str
    body_digest: bytes
    alias: str | None


def insert(connection: Connection, rows: Sequence[dict[str, Any]]) -> set[str]:
    """Store those of `rows` whose job_id and key are both new, each with its first event; their job_ids are returned.

    The whole batch is one statement. A row that loses a race against another transaction is simply not returned.
    """
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    return {row.job_id for row in connection.execute(INSERT, columns)}


def find_known(connection: Connection, job_ids: Sequence[str], keys: Sequence[str]) -> list[Known]:
    """Every mission that has one of `job_ids` (also as an alias) or one of `keys`."""
    rows = connection.execute(FIND_KNOWN, {"job_ids": list(job_ids), "keys": list(keys)})
    return [
        Known(row.id, row.job_id, row.idempotency_key, row.state, bytes(row.body_digest), row.alias) for row in rows
    ]


def add_aliases(connection: Connection, aliases: Sequence[tuple[str, int]]) -> None:
    """Make each (job_id, mission) pair resolve to that mission from now on; known pairs are left alone."""
    if aliases:
        # Sorted, so that two batches that make the same aliases wait for each other in one order.
        job_ids, mission_ids = zip(*sorted(aliases), strict=True)
        connection.execute(ADD_ALIASES, {"job_ids": list(job_ids), "mission_ids": list(mission_ids)})


def add_event(connection: Connection, job_id: str, event: str, detail: str = "{}") -> None:
    """Append one event to the mission's history; `detail` is JSON text."""
    connection.execute(ADD_EVENT, {"job_id": job_id, "type": event, "detail": detail})
