"""What people should look at: written by whoever notices it, shown until somebody dismisses it."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, text

from corporation.strict_json import dump

LONGEST_TITLE = 500
LONGEST_MESSAGE = 4000

ADD = text("""
    INSERT INTO corporation.notifications (kind, title, message, metadata)
    VALUES (:kind, :title, :message, CAST(:metadata AS json)) RETURNING id
""")


def notify(connection: Connection, kind: str, title: str, message: str, metadata: Mapping[str, Any]) -> int:
    """A new notification is there, and its id is returned; too long texts are cut at their end."""
    values = {
        "kind": kind,
        "title": title[:LONGEST_TITLE],
        "message": message[:LONGEST_MESSAGE],
        "metadata": dump(dict(metadata)),
    }
    return int(connection.execute(ADD, values).scalar_one())
