"""From waiting or queued to claimed: a factory that asks over HTTPS holds the attempt when the transaction commits."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

CLAIMER = text("""
    SELECT f.registration_status, f.paused, f.draining, f.capabilities, a.quarantined_at IS NOT NULL AS quarantined,
           coalesce(f.last_seen_at > to_timestamp(0) + interval '1 day', false) AS heard_of
      FROM (SELECT CAST(:factory_id AS text) AS factory_id) AS asked
      LEFT JOIN corporation.factories f USING (factory_id)
      LEFT JOIN corporation.factory_access a USING (factory_id)
     WHERE f.factory_id IS NOT NULL OR a.factory_id IS NOT NULL
""")

# What the dispatcher has given to this factory already, and nobody has spoken of. A mission that somebody else is
# changing is left for the next time.
TAKE_QUEUED = text("""
    SELECT a.id FROM corporation.attempts a JOIN corporation.missions m ON m.attempt_id = a.id
     WHERE a.factory_id = :factory_id AND a.state = 'queued' AND m.state = 'queued'
       AND (CAST(:kinds AS text[]) IS NULL OR m.mission_kind = ANY(CAST(:kinds AS text[])))
     ORDER BY m.broker_priority, m.created_at, m.place, m.job_id
     LIMIT :limit FOR NO KEY UPDATE OF m SKIP LOCKED
""")

# Claimed and never begun: the answer that told this factory of it was lost on its way.
TAKE_UNHEARD = text("""
    SELECT a.id FROM corporation.attempts a JOIN corporation.missions m ON m.attempt_id = a.id
     WHERE a.factory_id = :factory_id AND a.state = 'claimed' AND m.state = 'claimed' AND a.over_https
       AND a.id <> ALL(CAST(:holding AS uuid[]))
       AND (CAST(:kinds AS text[]) IS NULL OR m.mission_kind = ANY(CAST(:kinds AS text[])))
     ORDER BY m.broker_priority, m.created_at, m.place, m.job_id
     LIMIT :limit FOR NO KEY UPDATE OF m SKIP LOCKED
""")

# In the order of contract http §8; of one moment the oldest is the one that was given first (S-11). What failed here
# last is left to the others for a moment after it is due.
TAKE_WAITING = text("""
    SELECT id, attempt FROM corporation.missions
     WHERE state = 'waiting' AND children IS NULL
       AND (next_attempt_at IS NULL OR next_attempt_at <= now())
       AND (deadline_at IS NULL OR deadline_at > now())
       AND mission_kind = ANY(CAST(:kinds AS text[]))
       AND (target_factory_id = :factory_id
            OR (target_factory_id IS NULL AND mission_kind <> ALL(CAST(:only_targeted AS text[]))))
       AND (target_factory_id IS NOT NULL OR factory_id IS DISTINCT FROM :factory_id OR attempt = 0
            OR coalesce(next_attempt_at, created_at)
               < now() - CAST(:left_to_others AS double precision) * interval '1 second')
     ORDER BY broker_priority, created_at, place, job_id
     LIMIT :limit FOR NO KEY UPDATE SKIP LOCKED
""")

# What is not sent yet is not sent any more; what lies in Redis already is dropped by its receiver, whose spool has it.
CLAIM_QUEUED = text("""
    WITH moved AS (
      UPDATE corporation.missions m SET state = 'claimed', updated_at = now(), event_seq = m.event_seq + 1
       WHERE m.attempt_id = ANY(CAST(:attempt_ids AS uuid[])) AND m.state = 'queued'
      RETURNING m.id, m.attempt, m.attempt_id, m.factory_id, m.event_seq
    ), held AS (
      UPDATE corporation.attempts a
         SET state = 'claimed', claimed_at = now(), over_https = true, worker_id = :worker_id,
             lease_expires_at = now() + CAST(:lease_seconds AS double precision) * interval '1 second'
        FROM moved WHERE a.id = moved.attempt_id AND a.state = 'queued'
    ), unsent AS (
      DELETE FROM corporation.outbox WHERE id IN
        (SELECT o.id FROM corporation.outbox o JOIN moved ON o.attempt_id = moved.attempt_id
          WHERE o.topic = 'attempt' FOR UPDATE OF o SKIP LOCKED)
    )
    INSERT INTO corporation.mission_events (mission_id, seq, type, attempt, factory_id, detail)
    SELECT id, event_seq, 'claimed', attempt, factory_id, CAST(:detail AS json) FROM moved
""")

# Queued and claimed in one step: no message is needed where somebody waits for one.
CLAIM_WAITING = text("""
    WITH given AS (
      SELECT * FROM unnest(CAST(:mission_ids AS bigint[]), CAST(:attempts AS integer[]), CAST(:attempt_ids AS uuid[]))
      AS t(mission_id, attempt, attempt_id)
    ), moved AS (
      UPDATE corporation.missions m
         SET state = 'claimed', state_reason = NULL, attempt = m.attempt + 1, attempt_id = g.attempt_id,
             factory_id = :factory_id, next_attempt_at = NULL, updated_at = now(), event_seq = m.event_seq + 2
        FROM given g
       WHERE m.id = g.mission_id AND m.state = 'waiting' AND m.attempt = g.attempt
      RETURNING m.id, m.attempt, m.attempt_id, m.mission_kind, m.event_seq
    ), tried AS (
      INSERT INTO corporation.attempts
             (id, mission_id, number, factory_id, queue, state, claimed_at, over_https, worker_id, lease_expires_at)
      SELECT attempt_id, id, attempt, :factory_id, :queue, 'claimed', now(), true, :worker_id,
             now() + CAST(:lease_seconds AS double precision) * interval '1 second' FROM moved
    ), told AS (
      INSERT INTO corporation.mission_events (mission_id, seq, type, attempt, factory_id, detail)
      SELECT id, event_seq - 1, 'queued', attempt, :factory_id, json_build_object('queue', CAST(:queue AS text))
        FROM moved
      UNION ALL
      SELECT id, event_seq, 'claimed', attempt, :factory_id, CAST(:detail AS json) FROM moved
    )
    INSERT INTO mailbox.celery_taskmeta (task_id, name, queue, factory)
    SELECT attempt_id, 'mission.' || mission_kind, :queue, :factory_id FROM moved
""")

LEFT_TO_OTHERS_SECONDS = 15.0
"""How long a mission that failed at one factory waits for another one to take it (stickiness of retries)."""

OTHERS = text("""
    SELECT EXISTS (SELECT 1 FROM corporation.factories
                    WHERE factory_id <> :factory_id AND slots > 0 AND registration_status = 'online'
                      AND NOT paused AND NOT draining AND last_seen_at > now() - interval '3 minutes')
""")

LEASE_AGAIN = text("""
    UPDATE corporation.attempts
       SET lease_expires_at = now() + CAST(:lease_seconds AS double precision) * interval '1 second'
     WHERE id = ANY(CAST(:attempt_ids AS uuid[])) AND state = 'claimed'
""")

READ = text("""
    SELECT a.id, a.number, a.lease_expires_at, m.job_id, m.mission_kind, m.timeout_seconds, m.envelope
      FROM corporation.attempts a JOIN corporation.missions m ON m.attempt_id = a.id
     WHERE a.id = ANY(CAST(:attempt_ids AS uuid[])) AND a.state = 'claimed'
     ORDER BY m.broker_priority, m.created_at, m.place, m.job_id
""")


@dataclass(frozen=True)
class ClaimerRow:
    """What the ledger says of a factory that asks; `status` is what it last said of itself, None when it never did."""

    status: str | None
    flagged: bool
    """Whether HQ wants it paused or drained."""
    quarantined: bool
    labels: frozenset[str]
    heard_of: bool = True
    """Whether it has ever beaten."""


@dataclass(frozen=True)
class ClaimedAttempt:
    """An attempt that its factory holds now, with all that it must know of it."""

    attempt_id: str
    attempt: int
    job_id: str
    mission_kind: str
    lease_expires_at: datetime
    timeout_seconds: int
    envelope: dict[str, Any]


@dataclass(frozen=True)
class Handover:
    """To whom claimed attempts go: the factory, its queue's name, the process that asked, and for how long."""

    factory_id: str
    queue: str
    worker_id: str | None
    lease_seconds: float
    detail: str
    """What the history says beside it, as JSON text."""


def read_claimer(connection: Connection, factory_id: str) -> ClaimerRow | None:
    """The factory as the ledger knows it, or None when it never registered nor was shut out."""
    row = connection.execute(CLAIMER, {"factory_id": factory_id}).first()
    if row is None:
        return None
    labels = frozenset(str(label) for label in row.capabilities or ())
    return ClaimerRow(
        row.registration_status, bool(row.paused or row.draining), bool(row.quarantined), labels, row.heard_of
    )


def take_queued(connection: Connection, factory_id: str, kinds: Collection[str] | None, limit: int) -> list[str]:
    """Lock up to `limit` missions that are queued at this factory and return their attempts, the most urgent first."""
    values = {"factory_id": factory_id, "kinds": _listed(kinds), "limit": limit}
    return [str(row.id) for row in connection.execute(TAKE_QUEUED, values)]


def take_unheard(
    connection: Connection, factory_id: str, kinds: Collection[str] | None, holding: Collection[str], limit: int
) -> list[str]:
    """Lock up to `limit` attempts that this factory claimed, never began, and does not name as held; return them."""
    values = {"factory_id": factory_id, "kinds": _listed(kinds), "holding": list(holding), "limit": limit}
    return [str(row.id) for row in connection.execute(TAKE_UNHEARD, values)]


def take_waiting(
    connection: Connection, factory_id: str, kinds: Collection[str], only_targeted: Collection[str], limit: int
) -> list[tuple[int, int]]:
    """Lock up to `limit` due missions of `kinds` that this factory may have: (mission, attempts it had).

    Of the kinds `only_targeted` none that does not name the factory; and where there are others, none for
    LEFT_TO_OTHERS_SECONDS whose last attempt was its own.
    """
    others = bool(connection.execute(OTHERS, {"factory_id": factory_id}).scalar_one())
    values = {
        "factory_id": factory_id,
        "kinds": list(kinds),
        "only_targeted": list(only_targeted),
        "limit": limit,
        "left_to_others": LEFT_TO_OTHERS_SECONDS if others else 0.0,
    }
    return [(row.id, row.attempt) for row in connection.execute(TAKE_WAITING, values)]


def claim_queued(connection: Connection, attempt_ids: Sequence[str], to: Handover) -> None:
    """These queued attempts are held by their factory; one that is no longer queued is left alone."""
    if attempt_ids:
        values = {"attempt_ids": list(attempt_ids), "worker_id": to.worker_id, "detail": to.detail}
        connection.execute(CLAIM_QUEUED, {**values, "lease_seconds": to.lease_seconds})


def claim_waiting(connection: Connection, missions: Sequence[tuple[int, int, str]], to: Handover) -> None:
    """Each (mission, attempts it had, new attempt) is held by the factory, without a message to any broker."""
    if not missions:
        return
    values = {
        "mission_ids": [mission for mission, _, _ in missions],
        "attempts": [had for _, had, _ in missions],
        "attempt_ids": [attempt_id for _, _, attempt_id in missions],
        "factory_id": to.factory_id,
        "queue": to.queue,
        "worker_id": to.worker_id,
        "lease_seconds": to.lease_seconds,
        "detail": to.detail,
    }
    connection.execute(CLAIM_WAITING, values)


def lease_again(connection: Connection, attempt_ids: Sequence[str], lease_seconds: float) -> None:
    """These claimed attempts have a whole lease from now."""
    if attempt_ids:
        connection.execute(LEASE_AGAIN, {"attempt_ids": list(attempt_ids), "lease_seconds": lease_seconds})


def read_claimed(connection: Connection, attempt_ids: Sequence[str]) -> list[ClaimedAttempt]:
    """All that a factory must know of these attempts, those of them that are claimed, the most urgent first."""
    if not attempt_ids:
        return []
    return [
        ClaimedAttempt(
            attempt_id=str(row.id),
            attempt=row.number,
            job_id=row.job_id,
            mission_kind=row.mission_kind,
            lease_expires_at=row.lease_expires_at,
            timeout_seconds=row.timeout_seconds,
            envelope=row.envelope,
        )
        for row in connection.execute(READ, {"attempt_ids": list(attempt_ids)})
    ]


def _listed(kinds: Collection[str] | None) -> list[str] | None:
    return None if kinds is None else list(kinds)
