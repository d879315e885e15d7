"""What happened to a factory and by whom, kept for people; nothing is decided from it."""

from collections.abc import Mapping
from typing import Any, Literal

from sqlalchemy import Connection, text

from corporation.strict_json import dump

EventType = Literal[
    "enrolled",
    "online",
    "stale",
    "offline",
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
