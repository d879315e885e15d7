"""How many messages the broker was handed, and when the newest was made, without counting history."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

# Both are read from the ends of indexes, so that the answer costs the same after a million missions.
# The total: every message was a row of the outbox and took a number there, and rows leave it by being handed over;
# what is left in it is short. It counts since the ledger was created, over restarts; numbers that a rolled back
# dispatch or a crash of the database burnt are counted too, and so are orders to stop. The time: the newest mailbox row
# of an attempt that is no longer in the outbox. It is the moment the message was made, which is that of handing over
# while the broker is there.
HANDED_OVER = text("""
    SELECT coalesce(pg_sequence_last_value(CAST(pg_get_serial_sequence('corporation.outbox', 'id') AS regclass)), 0)
           - (SELECT count(*) FROM corporation.outbox) AS total,
           (SELECT a.created_at
              FROM mailbox.celery_taskmeta t
              JOIN corporation.attempts a ON a.id = CAST(t.task_id AS uuid) AND NOT a.over_https
             WHERE NOT EXISTS (SELECT 1 FROM corporation.outbox o WHERE o.attempt_id = a.id AND o.topic = 'attempt')
             ORDER BY t.id DESC LIMIT 1) AS last_at
""")


@dataclass(frozen=True)
class HandedOver:
    """Messages that left the outbox for the broker, since this ledger was created."""

    total: int
    last_at: datetime | None


def read_handed_over(connection: Connection) -> HandedOver:
    """The count and the newest, None when there was none yet; the same at once when nothing was sent between."""
    row = connection.execute(HANDED_OVER).one()
    return HandedOver(int(row.total), row.last_at)
