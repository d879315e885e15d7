"""The log of privileged acts: who did what to whom, from where and why, written in the act's own transaction."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal

from sqlalchemy import Connection, text

from corporation.clock import iso
from corporation.strict_json import dump

LONGEST_NAME: Final = 300
LONGEST_NOTE: Final = 1000
Outcome = Literal["done", "unchanged", "refused"]

WRITE = text("""
    INSERT INTO corporation.audit_log (actor, action, target, origin, note, outcome, detail)
    VALUES (:actor, :action, :target, :origin, :note, :outcome, CAST(:detail AS json))
""")

READ = text("""
    SELECT id, at, actor, action, target, origin, note, outcome, detail FROM corporation.audit_log
     WHERE (CAST(:before AS bigint) IS NULL OR id < :before)
       AND (CAST(:since AS timestamptz) IS NULL OR at >= :since)
       AND (CAST(:actor AS text) IS NULL OR actor = :actor)
       AND (CAST(:action AS text) IS NULL OR action = :action OR starts_with(action, :action || '.'))
       AND (CAST(:target AS text) IS NULL OR target = :target)
     ORDER BY id DESC LIMIT :limit
""")


@dataclass(frozen=True)
class Act:
    """One privileged act; nothing in it may be a secret.

    `action` is `<what>.<verb>` of the glossary (`factory.quarantine`, `join_code.make`), `target` the id of what it was
    done to, `origin` the way and the address it came by (`rest 127.0.0.1`, `cli`), `note` the reason people gave.
    """

    actor: str
    action: str
    target: str | None
    origin: str
    note: str | None = None
    outcome: Outcome = "done"
    detail: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True)
class Selection:
    """Which acts are asked for: the newest `limit` of those that match all that is given; `before` is an id."""

    limit: int
    before: int | None = None
    since: datetime | None = None
    actor: str | None = None
    action: str | None = None
    """An action, or its first word: `factory` stands for every `factory.…`."""
    target: str | None = None


def write(connection: Connection, act: Act) -> None:
    """`act` is in the log once this transaction commits, and never otherwise; texts that are too long are cut."""
    connection.execute(
        WRITE,
        {
            "actor": act.actor[:LONGEST_NAME],
            "action": act.action,
            "target": act.target[:LONGEST_NAME] if act.target else None,
            "origin": act.origin[:LONGEST_NAME],
            "note": act.note[:LONGEST_NOTE] if act.note else None,
            "outcome": act.outcome,
            "detail": dump(dict(act.detail)),
        },
    )


def read(connection: Connection, selection: Selection) -> list[dict[str, Any]]:
    """The acts of `selection` as the API shows them, the newest first."""
    rows = connection.execute(READ, vars(selection)).mappings()
    return [{**row, "at": iso(row["at"])} for row in rows]
