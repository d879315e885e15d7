"""HQ's flags on factories: which takes no missions, by whose word, why, and until when (contract fleet §7)."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from sqlalchemy import Connection, text

from corporation.clock import iso
from corporation.factories.events import EventType, note_event

Action = Literal["pause", "drain", "resume"]

ACTIONS: Final[tuple[Action, ...]] = ("pause", "drain", "resume")
_EVENTS: Final[dict[Action, EventType]] = {"pause": "paused", "drain": "draining", "resume": "resumed"}

LOCK = text("""
    SELECT factory_id FROM corporation.factories WHERE factory_id = ANY(CAST(:factory_ids AS text[]))
     ORDER BY factory_id FOR NO KEY UPDATE
""")

# Said again, a pause is still as old as it was; who said it last, why and for how long is what counts.
SET = text("""
    UPDATE corporation.factories f
       SET paused = :paused, draining = :draining,
           paused_at = CASE WHEN NOT (:paused OR :draining) THEN NULL
                            WHEN f.paused = :paused AND f.draining = :draining THEN coalesce(f.paused_at, now())
                            ELSE now() END,
           paused_by = :by, pause_note = :note,
           paused_until = now() + CAST(:for_seconds AS double precision) * interval '1 second', updated_at = now()
     WHERE factory_id = ANY(CAST(:factory_ids AS text[]))
    RETURNING factory_id, paused_until
""")

# It was never heard of, so it is offline until its first beat; nobody may take it for one that lives (H-23).
EXPECT = text("""
    INSERT INTO corporation.factories (factory_id, source, registration_status, last_seen_at)
    VALUES (:factory_id, 'api_control', 'offline', 'epoch') ON CONFLICT (factory_id) DO NOTHING
""")

ENDS_AT = text("""
    SELECT max(paused_until) FROM corporation.factories WHERE factory_id = ANY(CAST(:factory_ids AS text[]))
""")

KNOWN = text("SELECT 1 FROM corporation.factories WHERE factory_id = :factory_id")


@dataclass(frozen=True)
class Word:
    """What an operator says of factories; `for_seconds` is when it ends by itself, None when it does not."""

    action: Action
    by: str
    note: str | None = None
    for_seconds: int | None = None


def is_known(connection: Connection, factory_id: str) -> bool:
    """Whether a factory of this name was ever registered or expected."""
    return connection.execute(KNOWN, {"factory_id": factory_id}).first() is not None


def expect(connection: Connection, factory_id: str) -> None:
    """There is a row for this factory, which nobody has heard of yet; one that is known stays as it is.

    Raises IntegrityError when another factory has its name once it is written in a queue's name.
    """
    connection.execute(EXPECT, {"factory_id": factory_id})


def ends_at(connection: Connection, factory_ids: Sequence[str]) -> datetime | None:
    """When the flag of the last of these factories ends by itself; None when none does."""
    moment: datetime | None = connection.execute(ENDS_AT, {"factory_ids": list(factory_ids)}).scalar_one()
    return moment


def flag(connection: Connection, factory_ids: Sequence[str], word: Word) -> None:
    """These factories are flagged as `word` says, and their histories tell it.

    Resuming takes both flags away. When they were last heard of stays as it is (H-23). Their rows are locked, by rising
    id, so this comes before any lock on missions. Saying it again changes who, why and until when.
    """
    rests = word.action != "resume"
    connection.execute(LOCK, {"factory_ids": list(factory_ids)})
    values = {
        "factory_ids": list(factory_ids),
        "paused": word.action == "pause",
        "draining": word.action == "drain",
        "by": word.by[:300] if rests else None,
        "note": word.note if rests else None,
        "for_seconds": word.for_seconds if rests else None,
    }
    rows = connection.execute(SET, values).all()
    until: datetime | None = max((row.paused_until for row in rows if row.paused_until), default=None)
    told = {"note": word.note, "until": iso(until) if until else None}
    detail = {name: value for name, value in told.items() if value is not None}
    for row in rows:
        note_event(connection, row.factory_id, _EVENTS[word.action], word.by[:300], detail)
