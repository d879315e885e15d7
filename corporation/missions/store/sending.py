"""The outbox: attempts whose message the broker does not have yet, those that are to be stopped, and echoes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Row, text

from corporation.roles import control_queue, private_queue

TAKE = text("""
    SELECT o.id, o.topic, o.attempt_id, a.queue, a.number, coalesce(a.factory_id, o.factory_id) AS factory_id, m.job_id,
           m.mission_kind, m.timeout_seconds, m.envelope, m.cancel_reason, f.queues AS factory_queues, e.echo_id
      FROM corporation.outbox o
      LEFT JOIN corporation.attempts a ON a.id = o.attempt_id
      LEFT JOIN corporation.missions m ON m.id = a.mission_id
      LEFT JOIN corporation.factories f ON f.factory_id = coalesce(a.factory_id, o.factory_id)
      LEFT JOIN corporation.factory_echoes e ON e.factory_id = o.factory_id
     ORDER BY o.id
     LIMIT :limit
       FOR UPDATE OF o SKIP LOCKED
""")

NOT_CURRENT: Final = "the attempt is no longer current"
"""Why an attempt is to stop whose mission nobody cancelled: another one, or none, does its work."""

MARK_SENT = text("DELETE FROM corporation.outbox WHERE id = ANY(CAST(:ids AS bigint[]))")


@dataclass(frozen=True)
class AttemptMessage:
    """All that a factory is told about an attempt, and the queue it is told on."""

    outbox_id: int
    attempt_id: str
    attempt: int
    queue: str
    factory_id: str
    job_id: str
    kind: str
    timeout_seconds: int
    envelope: Mapping[str, Any]


@dataclass(frozen=True)
class StopMessage:
    """An attempt that is to be stopped: the queue its message may still lie in, and where its factory listens."""

    outbox_id: int
    attempt_id: str
    queue: str
    factory_id: str
    control_queue: str | None
    """None when no worker of the factory serves it: then the attempt hears of it with its next word to HQ."""
    reason: str


@dataclass(frozen=True)
class EchoMessage:
    """A sign of life that is asked of a factory's mission workers, through the queue that their missions take."""

    outbox_id: int
    echo_id: str | None
    """None when nobody waits for it any more."""
    queue: str
    factory_id: str


Message = AttemptMessage | StopMessage | EchoMessage


def take_unsent(connection: Connection, limit: int) -> list[Message]:
    """Lock up to `limit` unsent rows, the oldest first; another engine skips them until this transaction ends."""
    return [_message(row) for row in connection.execute(TAKE, {"limit": limit})]


def _message(row: Row[Any]) -> Message:
    match row.topic:
        case "attempt":
            return _attempt(row)
        case "echo":
            echo_id = str(row.echo_id) if row.echo_id else None
            return EchoMessage(row.id, echo_id, private_queue(row.factory_id), row.factory_id)
        case _:
            return _stop(row)


def mark_sent(connection: Connection, outbox_ids: Sequence[int]) -> None:
    """Remove the rows that the broker has; a crash before this commit sends them again, which the spool refuses."""
    connection.execute(MARK_SENT, {"ids": list(outbox_ids)})


def _attempt(row: Row[Any]) -> AttemptMessage:
    return AttemptMessage(
        outbox_id=row.id,
        attempt_id=str(row.attempt_id),
        attempt=row.number,
        queue=row.queue,
        factory_id=row.factory_id,
        job_id=row.job_id,
        kind=row.mission_kind,
        timeout_seconds=row.timeout_seconds,
        envelope=row.envelope,
    )


def _stop(row: Row[Any]) -> StopMessage:
    listens = control_queue(row.factory_id)
    return StopMessage(
        outbox_id=row.id,
        attempt_id=str(row.attempt_id),
        queue=row.queue,
        factory_id=row.factory_id,
        control_queue=listens if listens in (row.factory_queues or ()) else None,
        reason=row.cancel_reason or NOT_CURRENT,
    )
