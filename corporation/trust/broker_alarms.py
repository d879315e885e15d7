"""What of the broker people must look at, said once an hour for each thing it is about."""

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import Connection, text

from corporation.notifying import notify

EVERY_SECONDS: Final = 3600

SAID = text("""
    SELECT EXISTS (SELECT 1 FROM corporation.notifications
                    WHERE kind = :kind AND metadata ->> 'about' = :about
                      AND at > now() - CAST(:every AS double precision) * interval '1 second')
""")


def alarm(
    connection: Connection, kind: str, about: str, title: str, message: str, detail: Mapping[str, Any] | None = None
) -> bool:
    """People are told, unless they were told the same kind of thing about the same within the hour: then False."""
    values = {"kind": kind, "about": about, "every": EVERY_SECONDS}
    if bool(connection.execute(SAID, values).scalar_one()):
        return False
    notify(connection, kind, title, message, {"about": about, **(detail or {})})
    return True
