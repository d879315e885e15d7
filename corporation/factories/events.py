"""What happened to a factory and by whom, kept for people. Decided from it is one thing only:
whether somebody has said of a factory that it rests or goes on since an order was given (`missions/store/ordering.py`).
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from sqlalchemy import Connection, Row, text

from corporation.strict_json import dump

EventType = Literal[
    "enrolled",
    "online",
    "stale",
    "offline",
    "stopped",
    "paused",
    "draining",
    "resumed",
    "quarantined",
    "released",
    "renamed",
    "removed",
    "split_brain",
    "restart_asked",
]

ADD = text("""
    INSERT INTO corporation.factory_events (factory_id, type, by, detail)
    VALUES (:factory_id, :type, :by, CAST(:detail AS json))
""")

READ = text("""
    SELECT id, at, type, by, detail FROM corporation.factory_events WHERE factory_id = :factory_id
     ORDER BY id DESC LIMIT :limit
""")


def read_events(connection: Connection, factory_id: str, limit: int) -> Sequence[Row[Any]]:
    """The newest `limit` entries of the factory's history (`id`, `at`, `type`, `by`, `detail`), newest first."""
    return connection.execute(READ, {"factory_id": factory_id, "limit": limit}).all()


def note_event(
    connection: Connection,
    factory_id: str,
    event: EventType,
    by: str | None = None,
    detail: Mapping[str, Any] | None = None,
) -> None:
    """The history of the factory has one entry more; `by` is who did it, None when nobody did."""
    values = {"factory_id": factory_id, "type": event, "by": by, "detail": dump(dict(detail or {}))}
    connection.execute(ADD, values)
