"""Bootstrap jobs in the ledger: one row beside each mission, and the statements that read both."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Row, text

MAKING_LOCK: Final = 7_203_114_901_571
"""One job is made at a time: two at once would not see that they are for the same run, or choose one name."""

TAKE_LOCK = text("SELECT pg_advisory_xact_lock(:lock)")

ADD = text("""
    INSERT INTO corporation.bootstrap_jobs (mission_id, run_path, repo_name, dispatch_backend, fallback_reason)
    VALUES (:mission_id, :run_path, :repo_name, :backend, :reason)
""")

NAME_TAKEN = text("""
    SELECT EXISTS (SELECT 1 FROM corporation.bootstrap_jobs b JOIN corporation.missions m ON m.id = b.mission_id
                    WHERE b.repo_name = :repo_name AND m.finished_at IS NULL)
""")

_UNSENT = """
    m.state = 'queued' AND EXISTS
    (SELECT FROM corporation.outbox o WHERE o.attempt_id = m.attempt_id AND o.topic = 'attempt')
"""
_FIELDS = f"""
    SELECT m.id, m.job_id, m.state, m.created_at, m.finished_at, m.timeout_seconds, m.attempt, m.attempt_id,
           m.envelope, m.result, m.error, b.run_path, b.repo_name, b.dispatch_backend, b.fallback_reason,
           last.factory_id, last.worker_id, last.claimed_at, last.started_at, last.error AS attempt_error,
           tried.claims, tried.requeued_at, coalesce(tried.lapsed, false) AS lapsed,
           extract(epoch FROM now() - greatest(m.created_at, tried.requeued_at)) AS waited_seconds,
           {_UNSENT} AS unsent
"""  # noqa: S608 - what is put in is the text above
_BESIDE = """
      JOIN corporation.missions m ON m.id = b.mission_id
      LEFT JOIN LATERAL (SELECT a.factory_id, a.worker_id, a.claimed_at, a.started_at, a.error
                           FROM corporation.attempts a WHERE a.mission_id = m.id ORDER BY a.number DESC LIMIT 1)
             AS last ON true
      JOIN LATERAL (SELECT count(a.claimed_at) AS claims, bool_or(a.state = 'lost') AS lapsed,
                           max(a.finished_at) FILTER (WHERE m.finished_at IS NULL OR a.number < m.attempt)
                             AS requeued_at
                      FROM corporation.attempts a WHERE a.mission_id = m.id) AS tried ON true
"""
_JOBS = f"{_FIELDS} FROM corporation.bootstrap_jobs b {_BESIDE}"

# The page is chosen before anything is looked up for it, so that it costs the same however many jobs there ever were.
# A later mission has a higher number.
LIST = text(f"""
    {_FIELDS}
      FROM (SELECT j.* FROM corporation.bootstrap_jobs j
             WHERE (CAST(:run_path AS text) IS NULL OR j.run_path = :run_path)
               AND (NOT CAST(:unfinished AS boolean) OR EXISTS
                    (SELECT 1 FROM corporation.missions n WHERE n.id = j.mission_id AND n.finished_at IS NULL))
             ORDER BY j.mission_id DESC LIMIT :limit) AS b
    {_BESIDE}
     ORDER BY m.id DESC
""")  # noqa: S608 - what is put in are the texts above

FIND = text(f"{_JOBS} WHERE m.job_id = :job_id")

# The oldest first, whatever its priority: a worker that asks for one job gets the one that has waited longest. Both
# kinds are few, and are found without a look at all the jobs that there ever were.
WAITING = text(f"""
    {_JOBS}
     WHERE m.id IN (SELECT w.id FROM corporation.missions w
                     WHERE w.state = 'waiting' AND w.mission_kind = 'bootstrap_repo'
                     UNION ALL
                    SELECT q.id FROM corporation.outbox o JOIN corporation.missions q ON q.attempt_id = o.attempt_id
                     WHERE o.topic = 'attempt' AND q.state = 'queued' AND q.mission_kind = 'bootstrap_repo')
       AND (m.next_attempt_at IS NULL OR m.next_attempt_at <= now())
       AND (m.deadline_at IS NULL OR m.deadline_at > now())
     ORDER BY m.created_at, m.id LIMIT :limit
""")  # noqa: S608

# One that somebody else is changing is left to them.
TAKE = text(f"""
    SELECT m.state, m.attempt, m.attempt_id, a.factory_id, {_UNSENT} AS unsent,
           m.next_attempt_at IS NOT NULL AND m.next_attempt_at > now() AS resting
      FROM corporation.missions m LEFT JOIN corporation.attempts a ON a.id = m.attempt_id
     WHERE m.id = :mission_id FOR NO KEY UPDATE OF m SKIP LOCKED
""")  # noqa: S608

LOCK = text("SELECT id FROM corporation.missions WHERE id = :mission_id FOR NO KEY UPDATE")

SET_BACKEND = text("""
    UPDATE corporation.bootstrap_jobs SET dispatch_backend = :backend, fallback_reason = :reason
     WHERE mission_id = :mission_id AND dispatch_backend <> :backend
""")

ATTEMPTS = text("""
    SELECT id, factory_id, worker_id, result_digest FROM corporation.attempts
     WHERE mission_id = :mission_id ORDER BY number DESC
""")

# A program of somebody else names its processes in its beats; the newest that says so is meant. Who has a credential of
# its own speaks with that, and must not get the work of others by giving itself their name.
FACTORY_OF = text("""
    SELECT factory_id FROM corporation.factories f
     WHERE metadata ->> 'worker_id' = :worker_id
       AND NOT EXISTS (SELECT 1 FROM corporation.factory_credentials c WHERE c.factory_id = f.factory_id)
     ORDER BY (factory_id = :worker_id) DESC, last_seen_at DESC LIMIT 1
""")

NOTIFICATIONS = text("""
    SELECT id, kind, at, title, message, metadata, dismissed_at FROM corporation.notifications
     WHERE kind = ANY(CAST(:kinds AS text[])) AND (CAST(:dismissed_too AS boolean) OR dismissed_at IS NULL)
     ORDER BY id DESC LIMIT :limit
""")


@dataclass(frozen=True)
class JobRow:
    """A job as stored: its mission, what it is beside it, and its last attempt, where it had one."""

    mission_id: int
    job_id: str
    state: str
    created_at: datetime
    finished_at: datetime | None
    timeout_seconds: int
    attempt: int
    attempt_id: str | None
    context: dict[str, Any]
    result: dict[str, Any]
    error: str
    """Of the mission once it has ended, else of its last attempt; "" when there is none."""
    run_path: str
    repo_name: str
    backend: str
    fallback_reason: str | None
    factory_id: str | None
    """Of its last attempt, as what follows."""
    worker_id: str | None
    claimed_at: datetime | None
    started_at: datetime | None
    claims: int
    requeued_at: datetime | None
    lapsed: bool
    """Whether somebody who held it fell silent."""
    waited_seconds: float
    """Since it was made, or was put back the last time."""
    unsent: bool
    """It is meant for a factory, and its message is still with HQ."""

    @property
    def is_held_by_nobody(self) -> bool:
        """Whether no worker can have it: it waits, or was never sent to whom it is meant for."""
        return self.state == "waiting" or self.unsent


@dataclass(frozen=True)
class Tried:
    """An attempt of a job: whose it was, and the digest of the result that was taken over HTTPS, if one was."""

    attempt_id: str
    factory_id: str
    worker_id: str | None
    digest: bytes | None


@dataclass(frozen=True)
class Taken:
    """A job's mission, locked until the commit; `resting` until its next attempt may be made."""

    state: str
    attempt: int
    attempt_id: str | None
    factory_id: str | None
    resting: bool
    unsent: bool
    """It is queued, and its message is still with HQ: nobody has received it."""


def take_making_lock(connection: Connection) -> None:
    """Nobody else makes a job until the commit."""
    connection.execute(TAKE_LOCK, {"lock": MAKING_LOCK})


def add(
    connection: Connection, mission_id: int, run_path: str, repo_name: str, backend: str, reason: str | None
) -> None:
    """The mission is a bootstrap job."""
    values = {"mission_id": mission_id, "run_path": run_path, "repo_name": repo_name}
    connection.execute(ADD, values | {"backend": backend, "reason": reason})


def is_name_taken(connection: Connection, repo_name: str) -> bool:
    """Whether an unfinished job makes a repository of this name."""
    return bool(connection.execute(NAME_TAKEN, {"repo_name": repo_name}).scalar())


def list_jobs(
    connection: Connection, limit: int, run_path: str | None = None, *, unfinished: bool = False
) -> list[JobRow]:
    """Up to `limit` jobs, the newest first; of one run only when it is named."""
    values = {"limit": limit, "run_path": run_path, "unfinished": unfinished}
    return [_job(row) for row in connection.execute(LIST, values)]


def find(connection: Connection, job_id: str) -> JobRow | None:
    """The job of this name, or None."""
    row = connection.execute(FIND, {"job_id": job_id}).first()
    return _job(row) if row else None


def waiting_jobs(connection: Connection, limit: int) -> list[JobRow]:
    """Up to `limit` jobs that nobody holds and that may be claimed now, the oldest first; nothing is locked."""
    return [_job(row) for row in connection.execute(WAITING, {"limit": limit})]


def take(connection: Connection, mission_id: int) -> Taken | None:
    """The mission, locked; None while somebody else changes it."""
    row = connection.execute(TAKE, {"mission_id": mission_id}).first()
    if row is None:
        return None
    attempt_id = str(row.attempt_id) if row.attempt_id else None
    return Taken(row.state, row.attempt, attempt_id, row.factory_id, bool(row.resting), bool(row.unsent))


def lock(connection: Connection, mission_id: int) -> None:
    """Nobody else changes the mission until the commit; whoever does so now is waited for."""
    connection.execute(LOCK, {"mission_id": mission_id})


def set_backend(connection: Connection, mission_id: int, backend: str, reason: str | None) -> None:
    """The job goes by this way from now on."""
    connection.execute(SET_BACKEND, {"mission_id": mission_id, "backend": backend, "reason": reason})


def attempts_of(connection: Connection, mission_id: int) -> list[Tried]:
    """Every attempt of the job's mission, the newest first."""
    return [
        Tried(str(row.id), row.factory_id, row.worker_id, bytes(row.result_digest) if row.result_digest else None)
        for row in connection.execute(ATTEMPTS, {"mission_id": mission_id})
    ]


def factory_of(connection: Connection, worker_id: str) -> str | None:
    """The factory whose beats name this worker, or None."""
    return connection.execute(FACTORY_OF, {"worker_id": worker_id}).scalar()


def read_notifications(
    connection: Connection, kinds: Sequence[str], limit: int, *, dismissed_too: bool
) -> list[Row[Any]]:
    """Up to `limit` notifications of these kinds, the newest first."""
    values = {"kinds": list(kinds), "limit": limit, "dismissed_too": dismissed_too}
    return list(connection.execute(NOTIFICATIONS, values))


def _job(row: Row[Any]) -> JobRow:
    context = row.envelope["payload"]["context"]
    return JobRow(
        mission_id=row.id,
        job_id=row.job_id,
        state=row.state,
        created_at=row.created_at,
        finished_at=row.finished_at,
        timeout_seconds=row.timeout_seconds,
        attempt=row.attempt,
        attempt_id=str(row.attempt_id) if row.attempt_id else None,
        context=context if isinstance(context, dict) else {},
        result=row.result if isinstance(row.result, dict) else {},
        error=(row.error if row.finished_at else row.attempt_error) or "",
        run_path=row.run_path,
        repo_name=row.repo_name,
        backend=row.dispatch_backend,
        fallback_reason=row.fallback_reason,
        factory_id=row.factory_id,
        worker_id=row.worker_id,
        claimed_at=row.claimed_at,
        started_at=row.started_at,
        claims=row.claims,
        requeued_at=row.requeued_at,
        lapsed=row.lapsed,
        waited_seconds=float(row.waited_seconds),
        unsent=bool(row.unsent),
    )
