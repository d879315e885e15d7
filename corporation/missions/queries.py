"""What people and programs read of missions, in the wire shape of contract http §7; nothing here changes anything."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, text

from corporation.clock import iso
from corporation.missions.kinds import stored_kind
from corporation.missions.store.naming import NAMED

COLUMNS = """
    m.id, m.job_id, m.idempotency_key, m.mission_kind, m.requested_kind, m.state, m.state_reason, m.priority, m.source,
    m.target_factory_id, m.factory_id, m.attempt, m.attempts_total, m.created_at, m.started_at, m.finished_at,
    m.deadline_at, m.next_attempt_at, m.error
"""

LIST = f"""
    SELECT {COLUMNS} FROM corporation.missions m
     WHERE (CAST(:states AS text[]) IS NULL OR m.state = ANY(CAST(:states AS text[])))
       AND (CAST(:kinds AS text[]) IS NULL OR m.mission_kind = ANY(CAST(:kinds AS text[])))
       AND (CAST(:factory_id AS text) IS NULL OR m.factory_id = :factory_id)
       AND (CAST(:target_factory_id AS text) IS NULL OR m.target_factory_id = :target_factory_id)
       AND (CAST(:source AS text) IS NULL OR m.source = :source)
       AND (CAST(:idempotency_key AS text) IS NULL OR m.idempotency_key = :idempotency_key)
       AND (CAST(:created_after AS timestamptz) IS NULL OR m.created_at > :created_after)
       AND (CAST(:created_before AS timestamptz) IS NULL OR m.created_at < :created_before)
       AND (CAST(:after_created_at AS timestamptz) IS NULL OR m.created_at < :after_created_at
            OR (m.created_at = :after_created_at AND m.job_id > :after_job_id))
     ORDER BY m.created_at DESC, m.job_id
     LIMIT :limit
"""  # noqa: S608 - the only thing put in is the list of columns above

FIND = f"""
    SELECT {COLUMNS}, m.timeout_seconds, m.max_retries, m.cancel_requested_at, m.cancel_reason, m.envelope,
           m.result, m.result_published_at,
           (SELECT p.job_id FROM corporation.missions p WHERE p.id = m.parent_id) AS parent_job_id,
           (SELECT o.job_id FROM corporation.missions o WHERE o.id = m.replay_of) AS replay_of
      FROM corporation.missions m
     WHERE m.id = ({NAMED})
"""  # noqa: S608

ALIASES = "SELECT job_id FROM corporation.mission_aliases WHERE mission_id = :id ORDER BY job_id"

ATTEMPTS = "SELECT * FROM corporation.attempts WHERE mission_id = :id ORDER BY number"

EVENTS = """
    SELECT e.seq, e.at, e.type, e.attempt, e.factory_id, e.detail
      FROM corporation.mission_events e WHERE e.mission_id = :id AND e.seq > :after ORDER BY e.seq LIMIT :limit
"""

LOG = """
    SELECT attempt, number, at, line FROM corporation.mission_log
     WHERE mission_id = :id AND (attempt, number) > (:attempt, :number) ORDER BY attempt, number LIMIT :limit
"""


@dataclass(frozen=True)
class MissionFilter:
    """Which missions to list; None means any, and all that are given must hold."""

    states: Sequence[str] | None = None
    kinds: Sequence[str] | None = None
    factory_id: str | None = None
    target_factory_id: str | None = None
    source: str | None = None
    idempotency_key: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None


@dataclass(frozen=True)
class Position:
    """The last row of a page: the next page begins right after it, whatever was inserted meanwhile."""

    created_at: datetime
    job_id: str


@dataclass(frozen=True)
class LogLine:
    """One line of a mission's output; `(attempt, number)` orders them."""

    attempt: int
    number: int
    at: str
    line: str


def list_missions(
    connection: Connection, wanted: MissionFilter, limit: int, after: Position | None = None
) -> list[dict[str, Any]]:
    """Up to `limit` missions that match, newest first and then by job_id, from right after `after`."""
    values = {
        "states": list(wanted.states) if wanted.states is not None else None,
        "kinds": [stored_kind(kind) for kind in wanted.kinds] if wanted.kinds is not None else None,
        "factory_id": wanted.factory_id,
        "target_factory_id": wanted.target_factory_id,
        "source": wanted.source,
        "idempotency_key": wanted.idempotency_key,
        "created_after": wanted.created_after,
        "created_before": wanted.created_before,
        "after_created_at": after.created_at if after else None,
        "after_job_id": after.job_id if after else None,
        "limit": limit,
    }
    return [_mission(row) for row in connection.execute(text(LIST), values)]


def find_mission(connection: Connection, job_id: str) -> dict[str, Any] | None:
    """All about the mission that `job_id` names, also as an alias, with its attempts; None if there is none."""
    row = connection.execute(text(FIND), {"job_id": job_id}).first()
    if row is None:
        return None
    aliases = connection.execute(text(ALIASES), {"id": row.id})
    attempts = connection.execute(text(ATTEMPTS), {"id": row.id})
    return {
        **_mission(row),
        "aliases": [alias.job_id for alias in aliases],
        "parent_job_id": row.parent_job_id,
        "replay_of": row.replay_of,
        "timeout_seconds": row.timeout_seconds,
        "max_retries": row.max_retries,
        "cancel_requested_at": _time(row.cancel_requested_at),
        "cancel_reason": row.cancel_reason,
        "envelope": row.envelope,
        "result": row.result,
        "result_published_at": _time(row.result_published_at),
        "attempts": [_attempt(attempt) for attempt in attempts],
    }


def list_events(connection: Connection, job_id: str, after: int, limit: int) -> list[dict[str, Any]] | None:
    """Up to `limit` events of the mission with `seq` above `after`, oldest first; None for an unknown mission."""
    mission_id = find_id(connection, job_id)
    if mission_id is None:
        return None
    rows = connection.execute(text(EVENTS), {"id": mission_id, "after": after, "limit": limit})
    return [
        {
            "seq": row.seq,
            "at": iso(row.at),
            "type": row.type,
            "attempt": row.attempt,
            "factory_id": row.factory_id,
            "detail": row.detail,
        }
        for row in rows
    ]


def read_log(connection: Connection, mission_id: int, attempt: int, number: int, limit: int) -> list[LogLine]:
    """Up to `limit` log lines after line `number` of attempt `attempt`, oldest first."""
    values = {"id": mission_id, "attempt": attempt, "number": number, "limit": limit}
    return [LogLine(row.attempt, row.number, iso(row.at), row.line) for row in connection.execute(text(LOG), values)]


def read_state(connection: Connection, mission_id: int) -> tuple[str, str | None]:
    """The state of a mission and why it waits, if it does."""
    statement = text("SELECT state, state_reason FROM corporation.missions WHERE id = :id")
    row = connection.execute(statement, {"id": mission_id}).one()
    return row.state, row.state_reason


def find_id(connection: Connection, job_id: str) -> int | None:
    """The ledger's own number of the mission that `job_id` names, also as an alias."""
    return connection.execute(text(NAMED), {"job_id": job_id}).scalar()


def count_waiting(connection: Connection, at_most: int) -> int:
    """How many missions wait, counted no further than `at_most`."""
    statement = text("SELECT count(*) FROM (SELECT 1 FROM corporation.missions WHERE state = 'waiting' LIMIT :n) AS w")
    return int(connection.execute(statement, {"n": at_most}).scalar_one())


def unknown_factories(connection: Connection, factory_ids: Sequence[str]) -> set[str]:
    """Those of `factory_ids` that never registered."""
    statement = text("SELECT factory_id FROM corporation.factories WHERE factory_id = ANY(CAST(:ids AS text[]))")
    known = {row.factory_id for row in connection.execute(statement, {"ids": list(factory_ids)})}
    return set(factory_ids) - known


def advertised_kinds(connection: Connection) -> frozenset[str]:
    """The kinds that registered factories run besides the contract's: their labels `kind:<name>`.

    Those that a factory ran until its mission workers ended are among them, until others say otherwise.
    """
    statement = text("""
        SELECT DISTINCT substr(said.label, 6) AS kind FROM corporation.factories f,
               LATERAL (SELECT json_array_elements_text(f.capabilities) AS label
                         UNION SELECT json_array_elements_text(f.known_labels)) AS said
         WHERE said.label LIKE 'kind:_%'
    """)
    return frozenset(row.kind for row in connection.execute(statement))


def _mission(row: Row[Any]) -> dict[str, Any]:
    return {
        "job_id": row.job_id,
        "idempotency_key": row.idempotency_key,
        "mission_kind": row.mission_kind,
        "requested_kind": row.requested_kind,
        "state": row.state,
        "state_reason": row.state_reason,
        "priority": row.priority,
        "source": row.source,
        "target_factory_id": row.target_factory_id,
        "factory_id": row.factory_id,
        "attempt": row.attempt,
        "attempts_left": max(0, row.attempts_total - row.attempt),
        **{name: _time(getattr(row, name)) for name in _TIMES},
        "error": row.error,
    }


_TIMES = ("created_at", "started_at", "finished_at", "deadline_at", "next_attempt_at")


def _attempt(row: Row[Any]) -> Mapping[str, Any]:
    return {
        "attempt_id": str(row.id),
        "attempt": row.number,
        "factory_id": row.factory_id,
        "state": row.state,
        "claimed_at": _time(row.claimed_at),
        "started_at": _time(row.started_at),
        "finished_at": _time(row.finished_at),
        "lease_expires_at": _time(row.lease_expires_at),
        "progress": row.progress,
        "error": row.error,
        "late_result": row.outcome,
        "adopted": row.adopted,
    }


def _time(moment: datetime | None) -> str | None:
    return iso(moment) if moment else None
