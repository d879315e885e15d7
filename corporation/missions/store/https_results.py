"""A result that came over HTTPS: its row in the mailbox, what was answered, and the evidence that came too late."""

from dataclasses import dataclass

from sqlalchemy import Connection, text

from corporation.missions.store.reporting import Letter

# The letter is locked before the mission, as the collector does; so the two never wait for each other in a ring.
LOCK_LETTER = text("""
    SELECT id, task_id, status, result, collected_at IS NOT NULL AS collected
      FROM mailbox.celery_taskmeta WHERE task_id = :task_id FOR UPDATE
""")

ATTEMPT = text("""
    SELECT a.factory_id, a.result_digest, a.result_state, m.job_id, m.state
      FROM corporation.attempts a JOIN corporation.missions m ON m.id = a.mission_id WHERE a.id = :attempt_id
""")

FILL = text("""
    UPDATE mailbox.celery_taskmeta
       SET status = :status, result = :result, worker = :worker, date_done = now() AT TIME ZONE 'utc'
     WHERE id = :letter_id AND status NOT IN ('SUCCESS', 'FAILURE', 'REVOKED')
""")

REMEMBER = text("""
    UPDATE corporation.attempts a
       SET result_digest = :digest, result_state = m.state, usage = coalesce(CAST(:usage AS json), a.usage)
      FROM corporation.missions m WHERE a.id = :attempt_id AND m.id = a.mission_id
    RETURNING m.state
""")

# Of one attempt a few late reports are evidence; a client that sends another one every second is not.
KEPT_ALREADY = text("""
    SELECT (SELECT count(*) FROM corporation.mission_events e
             WHERE e.mission_id = a.mission_id AND e.type = 'late_result' AND e.attempt = a.number) >= :most
           OR coalesce(CAST(a.outcome AS jsonb) = CAST(:report AS jsonb), false) AS kept
      FROM corporation.attempts a WHERE a.id = :attempt_id
""")

SET_USAGE = text("UPDATE corporation.attempts SET usage = CAST(:usage AS json) WHERE id = :attempt_id")


@dataclass(frozen=True)
class AnsweredAttempt:
    """The attempt of a result, and what was answered to the result that was taken, if one was."""

    factory_id: str
    job_id: str
    state: str
    """Of its mission, now."""
    digest: bytes | None
    answered: str | None


@dataclass(frozen=True)
class LockedLetter:
    """The attempt's row of the mailbox; `open` while nobody has filled it."""

    letter: Letter
    open: bool
    collected: bool


def lock_letter(connection: Connection, attempt_id: str) -> LockedLetter | None:
    """The mailbox row of the attempt, locked until the commit; None when there is none."""
    row = connection.execute(LOCK_LETTER, {"task_id": attempt_id}).first()
    if row is None:
        return None
    letter = Letter(row.id, row.task_id, row.status, bytes(row.result or b""))
    return LockedLetter(letter, row.status not in ("SUCCESS", "FAILURE", "REVOKED"), bool(row.collected))


def read_answered(connection: Connection, attempt_id: str) -> AnsweredAttempt | None:
    """The attempt with this id, or None."""
    row = connection.execute(ATTEMPT, {"attempt_id": attempt_id}).first()
    if row is None:
        return None
    digest = bytes(row.result_digest) if row.result_digest is not None else None
    return AnsweredAttempt(row.factory_id, row.job_id, row.state, digest, row.result_state)


def fill(connection: Connection, letter_id: int, status: str, result: bytes, worker: str) -> None:
    """The row holds this report, as a worker would have written it; one that is filled stays as it is."""
    values = {"letter_id": letter_id, "status": status, "result": result, "worker": worker}
    connection.execute(FILL, values)


def remember_answer(connection: Connection, attempt_id: str, digest: bytes, usage: str | None) -> str:
    """The same result will be answered in the same way; the mission's state, which is that answer, is returned."""
    values = {"attempt_id": attempt_id, "digest": digest, "usage": usage}
    return str(connection.execute(REMEMBER, values).scalar_one())


def is_kept(connection: Connection, attempt_id: str, report: str, most: int) -> bool:
    """Whether this late report, or `most` of them, are in the history already."""
    values = {"attempt_id": attempt_id, "report": report, "most": most}
    return bool(connection.execute(KEPT_ALREADY, values).scalar())


def set_usage(connection: Connection, attempt_id: str, usage: str) -> None:
    """What the attempt has used so far, as JSON text, in place of what was known."""
    connection.execute(SET_USAGE, {"attempt_id": attempt_id, "usage": usage})
