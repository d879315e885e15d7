"""The row of a factory that has just joined; it is alive only once it has beaten (F-14)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text

from corporation.factories.events import note_event
from corporation.strict_json import dump

# One that nobody has heard of was last seen at the beginning of time: it is offline, for every reader. What is known of
# an older one stays, but whoever spoke for it does not any more.
JOINED = text("""
    INSERT INTO corporation.factories AS f
      (factory_id, source, registration_status, metadata, version, last_seen_at, judged_status, judged_at)
    VALUES (:factory_id, 'enrolment', 'offline', CAST(:metadata AS json), :version, 'epoch', 'offline', now())
    ON CONFLICT (factory_id) DO UPDATE
       SET source = 'enrolment', instance_id = NULL, beat_number = NULL, split_brain_at = NULL, split_brain_with = NULL,
           updated_at = now()
""")


@dataclass(frozen=True)
class Newcomer:
    """Who joins, as it says itself: nothing of it is proven but that it had the code."""

    factory_id: str
    hostname: str | None = None
    version: str | None = None


HEARD = text("""
    SELECT EXISTS (SELECT 1 FROM corporation.factories
                    WHERE factory_id = :factory_id AND last_seen_at > to_timestamp(0) + interval '1 day')
""")


def was_heard_of(connection: Connection, factory_id: str) -> bool:
    """Whether a factory of this name has ever beaten, with whatever it proves itself by."""
    return bool(connection.execute(HEARD, {"factory_id": factory_id}).scalar_one())


def enter(connection: Connection, newcomer: Newcomer, invited_by: str, address: str | None) -> None:
    """`newcomer` has a row, and its history says who let it in, and from where it came; safe to call twice.

    Raises sqlalchemy.exc.IntegrityError when another factory has its name once that is written in a queue's name.
    """
    told: Mapping[str, Any] = {"hostname": newcomer.hostname, "remote_host": address}
    said = {name: value for name, value in told.items() if value}
    values = {"factory_id": newcomer.factory_id, "metadata": dump(said), "version": newcomer.version}
    connection.execute(JOINED, values)
    note_event(connection, newcomer.factory_id, "enrolled", invited_by, said)
