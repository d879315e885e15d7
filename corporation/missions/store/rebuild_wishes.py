"""Wishes for a rebuild of the queues: the API writes one down and waits, the engine does it and answers."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, text

LONGEST_NAME: Final = 300
LONGEST_ERROR: Final = 2000

ASK = text("""
    INSERT INTO corporation.queue_rebuilds (asked_by, origin, dry_run, wanted_until)
    VALUES (:asked_by, :origin, :dry_run, now() + CAST(:seconds AS double precision) * interval '1 second')
    RETURNING id
""")

# The lock is what says that an engine is at it: it goes with the engine's transaction, however that ends.
TAKE = text("""
    SELECT id, asked_by, origin, dry_run FROM corporation.queue_rebuilds
     WHERE done_at IS NULL AND wanted_until > now() ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED
""")

# The clock, not the transaction's start: a rebuild may take seconds.
ANSWER = text("""
    UPDATE corporation.queue_rebuilds SET done_at = clock_timestamp(), answer = CAST(:answer AS json), error = :error
     WHERE id = :id AND done_at IS NULL
""")

FETCH = text("""
    DELETE FROM corporation.queue_rebuilds WHERE id = :id AND done_at IS NOT NULL RETURNING answer, error
""")

WITHDRAW = text("""
    DELETE FROM corporation.queue_rebuilds WHERE id IN (
      SELECT w.id FROM corporation.queue_rebuilds w
       WHERE w.id = :id AND w.done_at IS NULL
         AND NOT (:only_in_turn AND EXISTS (
               SELECT 1 FROM corporation.queue_rebuilds before
                WHERE before.id < w.id AND before.done_at IS NULL AND before.wanted_until > now()))
         FOR UPDATE SKIP LOCKED)
    RETURNING id
""")

FORGET = text("""
    DELETE FROM corporation.queue_rebuilds WHERE id IN (
      SELECT id FROM corporation.queue_rebuilds WHERE wanted_until < now() - interval '1 minute'
         FOR UPDATE SKIP LOCKED)
""")


@dataclass(frozen=True)
class Wish:
    """A rebuild that somebody waits for, and who that is, as the audit log names people."""

    id: int
    asked_by: str
    origin: str
    dry_run: bool


@dataclass(frozen=True)
class Answer:
    """What came of a wish: the document for who asked, or why nothing was done."""

    document: Mapping[str, Any] | None
    error: str | None


def ask(connection: Connection, asked_by: str, origin: str, seconds: float, *, dry_run: bool) -> int:
    """An engine may take the wish of this id for so many seconds; names that are too long are cut."""
    names = {"asked_by": asked_by[:LONGEST_NAME], "origin": origin[:LONGEST_NAME]}
    return int(connection.execute(ASK, {**names, "dry_run": dry_run, "seconds": seconds}).scalar_one())


def take(connection: Connection) -> Wish | None:
    """The oldest wish that somebody waits for and no other engine is at; it is this transaction's until that ends."""
    row = connection.execute(TAKE).one_or_none()
    return None if row is None else Wish(row.id, row.asked_by, row.origin, row.dry_run)


def answer(connection: Connection, wish_id: int, answered: Answer) -> None:
    """Who waits for that wish finds what came of it; a second answer changes nothing."""
    document = None if answered.document is None else json.dumps(dict(answered.document), allow_nan=False)
    error = None if answered.error is None else answered.error[:LONGEST_ERROR]
    connection.execute(ANSWER, {"id": wish_id, "answer": document, "error": error})


def fetch(connection: Connection, wish_id: int) -> Answer | None:
    """The answer to that wish, which is nobody else's and is gone with this; None while there is none."""
    row = connection.execute(FETCH, {"id": wish_id}).one_or_none()
    return None if row is None else Answer(row.answer, row.error)


def withdraw(connection: Connection, wish_id: int, *, only_in_turn: bool = False) -> bool:
    """Whether the wish is gone and no engine will do it: none is at it, and none has done it.

    With `only_in_turn` it also stays while another one is before it, on which an engine may be working.
    """
    return bool(connection.execute(WITHDRAW, {"id": wish_id, "only_in_turn": only_in_turn}).all())


def forget_unfetched(connection: Connection) -> None:
    """What nobody has waited for since a minute is gone: whoever asked has died."""
    connection.execute(FORGET)
