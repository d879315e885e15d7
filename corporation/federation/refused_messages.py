"""What a factory would not take from its queues: kept beside the attempts in its spool, and counted for ever."""

import hashlib
import sqlite3
from dataclasses import dataclass
from typing import Any, Final

from corporation.federation.spool_file import SpoolFile
from corporation.federation.spool_schema import CHANGES, SCHEMA

MOST_KEPT: Final = 1_000
"""Messages; the newest stay. At 4 KiB each they take 4 MiB at most."""
LONGEST_KEPT: Final = 4 * 1024
"""Bytes of a message; its size and its SHA-256 tell of the rest."""
LONGEST_WHY: Final = 500

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS refused_messages (
  number     INTEGER PRIMARY KEY AUTOINCREMENT,
  at         TEXT NOT NULL,
  queue      TEXT NOT NULL,
  reason     TEXT NOT NULL,
  why        TEXT NOT NULL,
  attempt_id TEXT,
  size       INTEGER NOT NULL,
  sha256     TEXT NOT NULL,
  start      BLOB NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS refused_counts (reason TEXT PRIMARY KEY, refused INTEGER NOT NULL) STRICT;
"""


@dataclass(frozen=True)
class RefusedMessage:
    """One refused message: `at` is ISO-8601, `start` its first bytes, `size` and `sha256` those of all of it."""

    at: str
    queue: str
    reason: str
    why: str
    attempt_id: str | None
    size: int
    sha256: str
    start: bytes


def refused_message(
    at: str, queue: str, reason: str, why: str, raw: bytes, attempt_id: str | None = None
) -> RefusedMessage:
    """What is kept of the message `raw`."""
    digest = hashlib.sha256(raw).hexdigest()
    return RefusedMessage(at, queue, reason, why[:LONGEST_WHY], attempt_id, len(raw), digest, raw[:LONGEST_KEPT])


class RefusedMessages(SpoolFile):
    """The refused messages in the spool at `path`; whichever of the two opens a new file first makes it whole."""

    schema = SCHEMA
    changes = CHANGES

    def _bring_up_to_date(self, db: sqlite3.Connection) -> None:
        super()._bring_up_to_date(db)
        db.executescript(_TABLES)

    def keep(self, refused: RefusedMessage) -> None:
        """Kept as the newest one and counted; the oldest beyond MOST_KEPT is forgotten."""
        one = refused
        with self._write() as db:
            db.execute(
                "INSERT INTO refused_messages (at, queue, reason, why, attempt_id, size, sha256, start)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (one.at, one.queue, one.reason, one.why, one.attempt_id, one.size, one.sha256, one.start),
            )
            db.execute(
                "DELETE FROM refused_messages WHERE number <= (SELECT max(number) FROM refused_messages) - ?",
                (MOST_KEPT,),
            )
            _count(db, one.reason)

    def count(self, reason: str) -> None:
        """One more was refused for this reason, and nothing of it is kept."""
        with self._write() as db:
            _count(db, reason)

    def newest(self, limit: int) -> list[RefusedMessage]:
        """The newest `limit` of those that are kept, the newest first."""
        rows = self._read(
            "SELECT at, queue, reason, why, attempt_id, size, sha256, start FROM refused_messages"
            " ORDER BY number DESC LIMIT CAST(? AS INTEGER)",
            (str(limit),),
        )
        return [RefusedMessage(*row) for row in rows]

    def counts(self) -> dict[str, int]:
        """How many were ever refused here, by reason, also those that are forgotten."""
        return {row["reason"]: row["refused"] for row in self._read("SELECT * FROM refused_counts ORDER BY reason")}

    def summary(self) -> dict[str, Any]:
        """The counts and their sum, as a heartbeat tells them."""
        counts = self.counts()
        return {"total": sum(counts.values()), "by_reason": counts}


def _count(db: sqlite3.Connection, reason: str) -> None:
    db.execute(
        "INSERT INTO refused_counts (reason, refused) VALUES (?, 1)"
        " ON CONFLICT (reason) DO UPDATE SET refused = refused + 1",
        (reason,),
    )
