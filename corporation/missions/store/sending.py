"""The outbox: attempts whose message has not been handed to the broker yet."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text

TAKE = text("""
    SELECT o.id, o.attempt_id, a.queue, a.number, a.factory_id, m.job_id, m.mission_kind, m.timeout_seconds, m.envelope
      FROM corporation.outbox o
      JOIN corporation.attempts a ON a.id = o.attempt_id
      JOIN corporation.missions m ON m.id = a.mission_id
     ORDER BY o.id
     LIMIT :limit
       FOR UPDATE OF o SKIP LOCKED
""")

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


def take_unsent(connection: Connection, limit: int) -> list[AttemptMessage]:
    """Lock up to `limit` unsent rows, the oldest first; another engine skips them until this transaction ends."""
    return [
        AttemptMessage(
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
        for row in connection.execute(TAKE, {"limit": limit})
    ]


def mark_sent(connection: Connection, outbox_ids: Sequence[int]) -> None:
    """Remove the rows that the broker has; a crash before this commit sends them again, which the spool refuses."""
    connection.execute(MARK_SENT, {"ids": list(outbox_ids)})
