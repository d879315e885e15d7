"""Who is still alive: renewing the leases of attempts that were heard of, and finding those that fell silent."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, TextClause, text

from corporation.missions.finish import Standing
from corporation.missions.store.reporting import read_standings

# Whoever changes attempts locks their missions first, in one order; so two writers never wait for each other in a ring.
LOCK = text("""
    SELECT id FROM corporation.missions WHERE attempt_id = ANY(CAST(:ids AS uuid[])) ORDER BY id FOR NO KEY UPDATE
""")

# A factory can only renew what it holds, and only while the attempt is its mission's current one (F-7).
RENEW = text("""
    UPDATE corporation.attempts a
       SET lease_expires_at = now() + CAST(:lease_seconds AS double precision) * interval '1 second',
           progress = coalesce(CAST(g.progress AS json), a.progress),
           progress_at = CASE WHEN g.progress IS DISTINCT FROM a.progress::text AND g.progress IS NOT NULL
                              THEN now() ELSE a.progress_at END
      FROM unnest(CAST(:ids AS uuid[]), CAST(:progress AS text[])) AS g(id, progress), corporation.missions m
     WHERE a.id = g.id AND a.factory_id = :factory_id AND a.state IN ('queued', 'claimed', 'running')
       AND m.attempt_id = a.id
    RETURNING a.id, m.job_id, a.state, a.lease_expires_at, m.cancel_reason
""")

START = text("""
    WITH begun AS (
      UPDATE corporation.missions m
         SET state = 'running', started_at = now() - g.seconds * interval '1 second', updated_at = now(),
             event_seq = m.event_seq + 1
        FROM unnest(CAST(:ids AS uuid[]), CAST(:seconds AS double precision[])) AS g(id, seconds),
             corporation.attempts a
       WHERE m.attempt_id = g.id AND m.state IN ('queued', 'claimed')
         AND a.id = m.attempt_id AND a.factory_id = :factory_id AND a.state IN ('queued', 'claimed')
      RETURNING m.id, m.attempt, m.attempt_id, m.factory_id, m.event_seq, m.started_at
    ), marked AS (
      UPDATE corporation.attempts a
         SET state = 'running', started_at = b.started_at, claimed_at = coalesce(a.claimed_at, b.started_at)
        FROM begun b WHERE a.id = b.attempt_id
    )
    INSERT INTO corporation.mission_events (mission_id, seq, type, attempt, factory_id)
    SELECT id, event_seq, 'started', attempt, factory_id FROM begun
""")

# Attempts whose message is still in the broker's list are safe: nobody lost them, the factory is only busy.
RENEW_QUEUED = text("""
    UPDATE corporation.attempts
       SET lease_expires_at = now() + CAST(:lease_seconds AS double precision) * interval '1 second'
     WHERE id = ANY(CAST(:ids AS uuid[])) AND state = 'queued'
""")

# By default only of factories that may still come for them: one that fell silent, or runs no mission worker any more,
# does not hold its messages for ever. Orders to the factory itself are taken by its control worker, which has no slots.
QUEUED = text("""
    SELECT a.id, a.queue FROM corporation.attempts a LEFT JOIN corporation.factories f ON f.factory_id = a.factory_id
     WHERE a.state = 'queued'
       AND (CAST(:silent_seconds AS double precision) IS NULL OR ((f.slots > 0 OR a.queue = f.slug || '.control')
            AND f.last_seen_at > now() - CAST(:silent_seconds AS double precision) * interval '1 second'))
       AND (CAST(:within_seconds AS double precision) IS NULL
            OR a.lease_expires_at < now() + CAST(:within_seconds AS double precision) * interval '1 second')
       AND NOT EXISTS (SELECT 1 FROM corporation.outbox o WHERE o.attempt_id = a.id AND o.topic = 'attempt')
""")

# An attempt that is still in the outbox was never sent, so nobody can have lost it; one whose report lies uncollected
# in the mailbox is not silent.
LAPSED = text("""
    SELECT a.id FROM corporation.attempts a
     WHERE a.state IN ('queued', 'claimed', 'running') AND a.lease_expires_at < now()
       AND (a.state <> 'queued' OR CAST(:queued_too AS boolean))
       AND NOT EXISTS (SELECT 1 FROM corporation.outbox o WHERE o.attempt_id = a.id AND o.topic = 'attempt')
       AND NOT EXISTS (SELECT 1 FROM mailbox.celery_taskmeta t WHERE t.task_id = a.id::text
                          AND t.collected_at IS NULL AND t.status IN ('SUCCESS', 'FAILURE', 'REVOKED'))
     ORDER BY a.lease_expires_at LIMIT :limit
""")

# Whatever of theirs lies in the mailbox changes nothing any more, so it is not waited for.
OF_QUARANTINED = text("""
    SELECT a.id FROM corporation.attempts a JOIN corporation.factory_access x ON x.factory_id = a.factory_id
     WHERE a.state IN ('queued', 'claimed', 'running') AND x.quarantined_at IS NOT NULL
       AND (a.state <> 'queued' OR CAST(:queued_too AS boolean))
       AND NOT EXISTS (SELECT 1 FROM corporation.outbox o WHERE o.attempt_id = a.id AND o.topic = 'attempt')
     ORDER BY a.id LIMIT :limit
""")

# The last renewal was one lease before its end: who was heard of after that did not name the attempt. What never began
# (it was claimed, and its factory died before it started it) took nobody with it.
UNNAMED = text("""
    SELECT a.id FROM corporation.attempts a JOIN corporation.factories f ON f.factory_id = a.factory_id
     WHERE a.id = ANY(CAST(:ids AS uuid[])) AND a.state = 'running'
       AND f.last_seen_at > a.lease_expires_at - CAST(:lease_seconds AS double precision) * interval '1 second'
""")

QUEUES_OF = text("""
    SELECT id, queue FROM corporation.attempts WHERE id = ANY(CAST(:ids AS uuid[])) AND state = 'queued'
""")

# A row that is locked is being changed by somebody who heard of it; waiting for it could close a ring of waits.
EXTEND_ALL = text("""
    UPDATE corporation.attempts
       SET lease_expires_at = greatest(lease_expires_at,
                                       now() + CAST(:lease_seconds AS double precision) * interval '1 second')
     WHERE id IN (SELECT id FROM corporation.attempts WHERE state IN ('queued', 'claimed', 'running')
                     FOR NO KEY UPDATE SKIP LOCKED)
""")


@dataclass(frozen=True)
class Renewed:
    """An attempt that is still wanted, and until when it may now be silent."""

    attempt_id: str
    job_id: str
    state: str
    lease_expires_at: datetime
    cancel_reason: str | None = None
    """Why the mission is to be cancelled, where somebody asked for it: the attempt should stop."""


@dataclass(frozen=True)
class Sign:
    """A factory's word that an attempt is alive: its id, its progress as JSON text, and for how long it has run."""

    attempt_id: UUID
    progress: str | None = None
    elapsed_seconds: float = 0.0


def renew(connection: Connection, factory_id: str, signs: Sequence[Sign], lease_seconds: float) -> dict[str, Renewed]:
    """The missions of those `signs` that this factory really holds run, with a fresh lease; the rest is not returned.

    Calling twice only renews again.
    """
    ids = [sign.attempt_id for sign in signs]
    connection.execute(LOCK, {"ids": ids})
    seconds = [sign.elapsed_seconds for sign in signs]
    connection.execute(START, {"ids": ids, "seconds": seconds, "factory_id": factory_id})
    values = {
        "ids": ids,
        "progress": [sign.progress for sign in signs],
        "factory_id": factory_id,
        "lease_seconds": lease_seconds,
    }
    rows = connection.execute(RENEW, values)
    return {
        str(row.id): Renewed(str(row.id), row.job_id, row.state, row.lease_expires_at, row.cancel_reason)
        for row in rows
    }


def queued_attempts(
    connection: Connection, within_seconds: float | None = None, silent_seconds: float | None = None
) -> dict[str, set[str]]:
    """Sent attempts whose lease ends `within_seconds` and that no factory has spoken of yet: queue → attempt ids.

    Without those of factories that were silent for `silent_seconds` or have no slots. None leaves the condition out.
    """
    values = {"within_seconds": within_seconds, "silent_seconds": silent_seconds}
    return _by_queue(connection.execute(QUEUED, values))


def queues_of(connection: Connection, attempt_ids: Sequence[str]) -> dict[str, set[str]]:
    """The queues in which the messages of those of these attempts that were never received may lie."""
    return _by_queue(connection.execute(QUEUES_OF, {"ids": list(attempt_ids)}))


def _by_queue(rows: Iterable[Row[Any]]) -> dict[str, set[str]]:
    queues: dict[str, set[str]] = {}
    for row in rows:
        queues.setdefault(row.queue, set()).add(str(row.id))
    return queues


def lock(connection: Connection, attempt_ids: Collection[str]) -> None:
    """Whoever is to change these attempts in several steps locks the missions of all of them first."""
    connection.execute(LOCK, {"ids": list(attempt_ids)})


def renew_queued(connection: Connection, attempt_ids: Sequence[str], lease_seconds: float) -> None:
    """Give attempts whose message still lies in the broker another lease."""
    connection.execute(LOCK, {"ids": list(attempt_ids)})
    connection.execute(RENEW_QUEUED, {"ids": list(attempt_ids), "lease_seconds": lease_seconds})


def lapsed(connection: Connection, limit: int, *, queued_too: bool = True) -> list[Standing]:
    """Up to `limit` attempts whose lease is over, with their missions locked until the commit.

    Without `queued_too` only those that a factory has spoken of. They are read twice: a renewal may have come in while
    we waited for the locks.
    """
    return _locked(connection, LAPSED, {"limit": limit, "queued_too": queued_too})


def of_quarantined(connection: Connection, limit: int, *, queued_too: bool = True) -> list[Standing]:
    """Up to `limit` attempts that factories in quarantine hold, with their missions locked until the commit.

    Without `queued_too` only those that a factory has spoken of. What was never sent is not among them.
    """
    return _locked(connection, OF_QUARANTINED, {"limit": limit, "queued_too": queued_too})


def _locked(connection: Connection, found: TextClause, values: Mapping[str, Any]) -> list[Standing]:
    ids = [row.id for row in connection.execute(found, values)]
    if not ids:
        return []
    connection.execute(LOCK, {"ids": ids})
    still = {row.id for row in connection.execute(found, values)}
    return list(read_standings(connection, [str(one) for one in ids if one in still]).values())


def unnamed(connection: Connection, attempt_ids: Collection[str], lease_seconds: float) -> set[str]:
    """Those of these attempts that ran, and that their factory, heard of since their renewal, names no more."""
    values = {"ids": list(attempt_ids), "lease_seconds": lease_seconds}
    return {str(row.id) for row in connection.execute(UNNAMED, values)}


def extend_all(connection: Connection, lease_seconds: float) -> int:
    """Give every live attempt a whole lease from now: while HQ was away nobody could renew (F-7)."""
    return connection.execute(EXTEND_ALL, {"lease_seconds": lease_seconds}).rowcount
