"""The spool: a factory's own memory of attempts in one SQLite file, so that a crash repeats and forgets nothing.

Life of a row: `running` (a process works on it) → `finished` (its report is on disk) → `reported` (HQ has it).
"""

import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from corporation.federation.processes import ProcessIdentity, is_alive
from corporation.federation.spool_file import SpoolFile

SCHEMA = """
CREATE TABLE IF NOT EXISTS attempts (
  attempt_id TEXT PRIMARY KEY,
  job_id     TEXT NOT NULL,
  attempt    INTEGER NOT NULL,
  state      TEXT NOT NULL CHECK (state IN ('running', 'finished', 'reported')),
  owner_pid  INTEGER NOT NULL,
  owner_born REAL NOT NULL,
  started_at TEXT NOT NULL,
  progress   TEXT,
  report     TEXT,
  CHECK ((state = 'running') = (report IS NULL))
) STRICT;
CREATE INDEX IF NOT EXISTS attempts_open ON attempts (state) WHERE state <> 'reported';
CREATE INDEX IF NOT EXISTS attempts_of ON attempts (job_id);
CREATE TABLE IF NOT EXISTS workers (
  name   TEXT PRIMARY KEY,
  pid    INTEGER NOT NULL,
  born   REAL NOT NULL,
  slots  INTEGER NOT NULL,
  queues TEXT NOT NULL,
  labels TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS notes (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
"""


@dataclass(frozen=True)
class Fresh:
    """Nobody here ran this attempt: the caller owns it now and must run it."""


@dataclass(frozen=True)
class Duplicate:
    """The message is a second copy, or older than what was seen: drop it."""

    why: str


@dataclass(frozen=True)
class Finished:
    """The attempt ended here before; its report may be sent again, the work must not be done again."""

    report: dict[str, Any]


Reception = Fresh | Duplicate | Finished


@dataclass(frozen=True)
class RunningAttempt:
    """An attempt that a living process of this factory works on; `progress` is JSON text or None."""

    attempt_id: str
    job_id: str
    started_at: str
    progress: str | None


@dataclass(frozen=True)
class WorkerRow:
    """A living worker of this factory: how many missions it runs at once, and from which queues."""

    name: str
    slots: int
    queues: tuple[str, ...]
    labels: tuple[str, ...] = ()


class Spool(SpoolFile):
    """The attempts, the workers and the notes of this factory in the file at `path`."""

    schema = SCHEMA

    def accept(self, attempt_id: str, job_id: str, attempt: int, owner: ProcessIdentity, started_at: str) -> Reception:
        """Write the attempt down as running by `owner`, once; or say why it must not be run.

        An attempt whose process died is finished as lost here and now, and never run twice.
        """
        with self._write() as db:
            row = db.execute("SELECT * FROM attempts WHERE attempt_id = ?", (attempt_id,)).fetchone()
            if row is not None:
                return self._again(db, row)
            newer = db.execute("SELECT 1 FROM attempts WHERE job_id = ? AND attempt > ?", (job_id, attempt)).fetchone()
            if newer:
                return Duplicate("a later attempt of this mission was already received")
            db.execute(
                "INSERT INTO attempts (attempt_id, job_id, attempt, state, owner_pid, owner_born, started_at)"
                " VALUES (?, ?, ?, 'running', ?, ?, ?)",
                (attempt_id, job_id, attempt, owner.pid, owner.born, started_at),
            )
            return Fresh()

    def _again(self, db: sqlite3.Connection, row: sqlite3.Row) -> Reception:
        if row["state"] == "reported":
            return Duplicate("HQ has this attempt's report")
        if row["report"] is not None:
            return Finished(json.loads(row["report"]))
        if is_alive(ProcessIdentity(row["owner_pid"], row["owner_born"])):
            return Duplicate("this attempt is running in another process of this factory")
        report = lost_report()
        _finish(db, row["attempt_id"], report)
        return Finished(report)

    def finish(self, attempt_id: str, report: Mapping[str, Any]) -> None:
        """The report is on the disk when this returns, whatever happens next; a second report changes nothing."""
        with self._write(durable=True) as db:
            _finish(db, attempt_id, report)

    def mark_reported(self, attempt_id: str) -> None:
        """HQ has the report, so its words need no room here; forgetting this in a crash only reports again."""
        with self._write() as db:
            db.execute(
                "UPDATE attempts SET state = 'reported', report = '{}' WHERE attempt_id = ? AND state = 'finished'",
                (attempt_id,),
            )

    def set_progress(self, attempt_id: str, progress: str) -> None:
        """Keep the newest progress (JSON text) for the next beat."""
        with self._write() as db:
            db.execute("UPDATE attempts SET progress = ? WHERE attempt_id = ?", (progress, attempt_id))

    def bury_the_dead(self) -> int:
        """Finish as lost every running attempt whose process is gone, and return how many; safe at any time."""
        with self._write(durable=True) as db:
            rows = db.execute("SELECT * FROM attempts WHERE state = 'running'").fetchall()
            dead = [row for row in rows if not is_alive(ProcessIdentity(row["owner_pid"], row["owner_born"]))]
            for row in dead:
                _finish(db, row["attempt_id"], lost_report())
            return len(dead)

    def report_of(self, attempt_id: str) -> dict[str, Any] | None:
        """The report of a finished attempt that HQ may not have, or None."""
        rows = self._read("SELECT report FROM attempts WHERE attempt_id = ? AND state = 'finished'", (attempt_id,))
        return json.loads(rows[0]["report"]) if rows else None

    def forget(self, before: str) -> None:
        """Reported attempts that began before this moment (ISO-8601) are not known any more."""
        with self._write() as db:
            db.execute("DELETE FROM attempts WHERE state = 'reported' AND started_at < ?", (before,))

    def unreported(self) -> list[tuple[str, dict[str, Any]]]:
        """Every finished attempt that HQ may not have, in the order in which they were received (M-13)."""
        rows = self._read("SELECT * FROM attempts WHERE state = 'finished' ORDER BY rowid")
        return [(row["attempt_id"], json.loads(row["report"])) for row in rows]

    def running(self) -> list[RunningAttempt]:
        """What living processes of this factory work on now."""
        rows = self._read("SELECT * FROM attempts WHERE state = 'running' ORDER BY rowid")
        return [
            RunningAttempt(row["attempt_id"], row["job_id"], row["started_at"], row["progress"])
            for row in rows
            if is_alive(ProcessIdentity(row["owner_pid"], row["owner_born"]))
        ]

    def put_worker(
        self, name: str, owner: ProcessIdentity, slots: int, queues: Sequence[str], labels: Sequence[str] = ()
    ) -> None:
        """The worker `name` is ready with this many slots on these queues, and it can run the kinds of these labels."""
        with self._write() as db:
            db.execute(
                "INSERT OR REPLACE INTO workers (name, pid, born, slots, queues, labels) VALUES (?, ?, ?, ?, ?, ?)",
                (name, owner.pid, owner.born, slots, json.dumps(list(queues)), json.dumps(list(labels))),
            )

    def remove_worker(self, name: str) -> None:
        """The worker `name` takes nothing any more."""
        with self._write() as db:
            db.execute("DELETE FROM workers WHERE name = ?", (name,))

    def workers(self) -> list[WorkerRow]:
        """The living workers of this factory."""
        rows = self._read("SELECT * FROM workers ORDER BY name")
        return [
            WorkerRow(row["name"], row["slots"], tuple(json.loads(row["queues"])), tuple(json.loads(row["labels"])))
            for row in rows
            if is_alive(ProcessIdentity(row["pid"], row["born"]))
        ]

    def note(self, name: str, value: str) -> None:
        """Remember one small fact for the other processes of this factory."""
        with self._write() as db:
            db.execute("INSERT OR REPLACE INTO notes (name, value) VALUES (?, ?)", (name, value))

    def noted(self, name: str) -> str | None:
        """The fact last noted under `name`."""
        rows = self._read("SELECT value FROM notes WHERE name = ?", (name,))
        return rows[0]["value"] if rows else None


def lost_report() -> dict[str, Any]:
    """What is reported for an attempt whose process died."""
    return {"outcome": "lost", "error": "the process that ran the attempt died"}


def report_all(spool: Spool, deliver: Callable[[str, dict[str, Any]], None]) -> int:
    """Deliver every unreported attempt, the oldest first, and mark it; stops at the first error of `deliver`."""
    waiting = spool.unreported()
    for attempt_id, report in waiting:
        deliver(attempt_id, report)
        spool.mark_reported(attempt_id)
    return len(waiting)


def _finish(db: sqlite3.Connection, attempt_id: str, report: Mapping[str, Any]) -> None:
    db.execute(
        "UPDATE attempts SET state = 'finished', report = ? WHERE attempt_id = ? AND state = 'running'",
        (json.dumps(dict(report)), attempt_id),
    )
