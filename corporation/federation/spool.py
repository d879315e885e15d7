"""The spool: a factory's own memory of attempts in one SQLite file, so that a crash repeats and forgets nothing.

Life of a row: `received` (its message is here) → `running` (a process works on it) → `finished` (its report is on disk)
→ `reported` (HQ has it).
"""

import json
import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from corporation import clock
from corporation.federation.hq_token import HqRefusedError
from corporation.federation.processes import ProcessIdentity, is_alive
from corporation.federation.spool_notes import SpoolNotes
from corporation.federation.spool_schema import CHANGES, SCHEMA

ALWAYS_REMEMBERED: Final = 10_000
"""The newest reported attempts are known whatever the clock says, so that no jump of it lets a copy of one run again.

More than Redis can hold for one factory: HQ keeps at most some hundreds of its attempts under way.
"""


@dataclass(frozen=True)
class Fresh:
    """Nobody here ran this attempt: the caller owns it now and must `begin` and run it."""


@dataclass(frozen=True)
class Duplicate:
    """The message is a second copy, or older than what was seen: drop it."""

    why: str


@dataclass(frozen=True)
class Finished:
    """The attempt ended here before; its report may be sent again, the work must not be done again."""

    report: dict[str, Any]


@dataclass(frozen=True)
class Died:
    """Its process died at work: end what it left running, then `finish` the attempt with `report`; never run it again.

    It stays so until somebody does, and whoever receives it is told the same.
    """

    report: dict[str, Any]


Reception = Fresh | Duplicate | Finished | Died


@dataclass(frozen=True)
class RunningAttempt:
    """An attempt that a living process of this factory works on; `progress` is JSON text or None."""

    attempt_id: str
    job_id: str
    started_at: str
    progress: str | None


@dataclass(frozen=True)
class UnderWay:
    """A running attempt as its warden sees it; moments are seconds of the monotonic clock.

    `begun_at` and `time_limit` are None for what a worker of an older version began.
    """

    attempt_id: str
    owner: ProcessIdentity
    begun_at: float | None
    time_limit: float | None
    stop_why: str | None
    stop_at: float | None


@dataclass(frozen=True)
class WorkerRow:
    """A living worker of this factory: how many missions it runs at once, and from which queues."""

    name: str
    slots: int
    queues: tuple[str, ...]
    labels: tuple[str, ...] = ()


class Spool(SpoolNotes):
    """The attempts, the workers and the notes of this factory in the file at `path`."""

    schema = SCHEMA
    changes = CHANGES

    def accept(self, attempt_id: str, job_id: str, attempt: int, owner: ProcessIdentity, started_at: str) -> Reception:
        """Write the attempt down as received by `owner`, once; or say why it must not be run.

        One whose process died before it began is `owner`'s now.
        """
        with self._write() as db:
            row = db.execute("SELECT * FROM attempts WHERE attempt_id = ?", (attempt_id,)).fetchone()
            if row is not None and (answer := _why_not_again(db, row)):
                return answer
            if why := _why_unwanted(db, attempt_id, job_id, attempt):
                return Duplicate(why)
            db.execute(
                "INSERT INTO attempts (attempt_id, job_id, attempt, state, owner_pid, owner_born, started_at)"
                " VALUES (?, ?, ?, 'received', ?, ?, ?) ON CONFLICT (attempt_id) DO UPDATE SET"
                " owner_pid = excluded.owner_pid, owner_born = excluded.owner_born, started_at = excluded.started_at",
                (attempt_id, job_id, attempt, owner.pid, owner.born, started_at),
            )
            return Fresh()

    def refuse(
        self, attempt_id: str, job_id: str, attempt: int, owner: ProcessIdentity, at: str, report: Mapping[str, Any]
    ) -> bool:
        """An attempt that cannot be run is finished with this report at once; False when it is known here already."""
        with self._write(durable=True) as db:
            kept = db.execute(
                "INSERT INTO attempts (attempt_id, job_id, attempt, state, owner_pid, owner_born, started_at, report)"
                " VALUES (?, ?, ?, 'finished', ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (attempt_id, job_id, attempt, owner.pid, owner.born, at, json.dumps(dict(report))),
            )
            return kept.rowcount == 1

    def begin(self, attempt_id: str, owner: ProcessIdentity, now: float, time_limit: float) -> bool:
        """The attempt runs from `now` (monotonic) for at most `time_limit` seconds; False when it is not `owner`'s."""
        with self._write() as db:
            changed = db.execute(
                "UPDATE attempts SET state = 'running', begun_at = ?, time_limit = ?"
                " WHERE attempt_id = ? AND state = 'received' AND owner_pid = ? AND owner_born = ?",
                (now, time_limit, attempt_id, owner.pid, owner.born),
            )
            return changed.rowcount == 1

    def finish(self, attempt_id: str, report: Mapping[str, Any]) -> bool:
        """A report is on the disk when this returns, whatever happens next; False when another one was there first."""
        with self._write(durable=True) as db:
            return _finish(db, attempt_id, report)

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

    def request_stop(self, attempt_id: str, why: str, now: float | None = None) -> bool:
        """Whoever runs the attempt must stop it; True when that is news here.

        One that was not received yet will not be run when it is. The first reason stays; what ended is left alone.
        """
        asked_at = clock.monotonic() if now is None else now
        with self._write() as db:
            changed = db.execute(
                "UPDATE attempts SET stop_why = ?, stop_at = ?"
                " WHERE attempt_id = ? AND stop_why IS NULL AND state IN ('received', 'running')",
                (why, asked_at, attempt_id),
            )
            kept = db.execute(
                "INSERT INTO stops (attempt_id, why) SELECT :id, :why"
                " WHERE NOT EXISTS (SELECT 1 FROM attempts WHERE attempt_id = :id) ON CONFLICT DO NOTHING",
                {"id": attempt_id, "why": why},
            )
            return changed.rowcount + kept.rowcount == 1

    def stop_requested(self, attempt_id: str) -> str | None:
        """Why the attempt must stop, or None while it may go on."""
        rows = self._read("SELECT stop_why FROM attempts WHERE attempt_id = ?", (attempt_id,))
        return rows[0]["stop_why"] if rows else None

    def hand_back(self, attempt_ids: Collection[str], told: ProcessIdentity) -> None:
        """Of these attempts, those that are still running when the process `told` is gone were handed back.

        It was told to stop, so whoever kills it together with them does not say that they took it down. What dies
        while it lives, dies as ever.
        """
        with self._write() as db:
            db.executemany(
                "INSERT OR REPLACE INTO handing_back (attempt_id, pid, born) SELECT attempt_id, ?, ? FROM attempts"
                " WHERE attempt_id = ? AND state IN ('received', 'running')",
                [(told.pid, told.born, attempt_id) for attempt_id in attempt_ids],
            )

    def bury_the_dead(self) -> int:
        """Finish every attempt whose process is gone, and return how many; safe at any time.

        What was received and never begun waits for its message, which comes back and finds it ready to run.
        """
        with self._write(durable=True) as db:
            rows = db.execute("SELECT * FROM attempts WHERE state = 'running'").fetchall()
            dead = [row for row in rows if not is_alive(_owner_of(row))]
            for row in dead:
                _finish(db, row["attempt_id"], _last_word_on(db, row))
            return len(dead)

    def report_of(self, attempt_id: str) -> dict[str, Any] | None:
        """The report of a finished attempt that HQ may not have, or None."""
        rows = self._read("SELECT report FROM attempts WHERE attempt_id = ? AND state = 'finished'", (attempt_id,))
        return json.loads(rows[0]["report"]) if rows else None

    def forget(self, before: str) -> None:
        """Reported attempts that began before this moment (ISO-8601) are not known any more, but for the newest.

        So are all but the newest orders to stop what was never received.
        """
        with self._write() as db:
            db.execute(
                "DELETE FROM stops WHERE rowid <= (SELECT rowid FROM stops ORDER BY rowid DESC LIMIT 1 OFFSET ?)",
                (ALWAYS_REMEMBERED,),
            )
            db.execute(
                "DELETE FROM attempts WHERE state = 'reported' AND started_at < ? AND rowid <="
                " (SELECT rowid FROM attempts WHERE state = 'reported' ORDER BY rowid DESC LIMIT 1 OFFSET ?)",
                (before, ALWAYS_REMEMBERED),
            )

    def unreported(self) -> list[tuple[str, dict[str, Any]]]:
        """Every finished attempt that HQ may not have, in the order in which they were received (M-13)."""
        rows = self._read("SELECT * FROM attempts WHERE state = 'finished' ORDER BY rowid")
        return [(row["attempt_id"], json.loads(row["report"])) for row in rows]

    def running(self) -> list[RunningAttempt]:
        """What living processes of this factory work on now, or are about to."""
        rows = self._read("SELECT * FROM attempts WHERE state IN ('received', 'running') ORDER BY rowid")
        return [
            RunningAttempt(row["attempt_id"], row["job_id"], row["started_at"], row["progress"])
            for row in rows
            if is_alive(_owner_of(row))
        ]

    def under_way(self) -> list[UnderWay]:
        """Every running attempt, whether its process lives or not, for the warden."""
        rows = self._read("SELECT * FROM attempts WHERE state = 'running' ORDER BY rowid")
        return [
            UnderWay(
                row["attempt_id"], _owner_of(row), row["begun_at"], row["time_limit"], row["stop_why"], row["stop_at"]
            )
            for row in rows
        ]

    def owners(self) -> dict[str, ProcessIdentity]:
        """The process that last had each attempt that this factory still knows."""
        return {
            row["attempt_id"]: _owner_of(row)
            for row in self._read("SELECT attempt_id, owner_pid, owner_born FROM attempts")
        }

    def put_worker(
        self, name: str, owner: ProcessIdentity, slots: int, queues: Sequence[str], labels: Sequence[str] = ()
    ) -> None:
        """The worker `name` is ready with this many slots on these queues, and it can run the kinds of these labels."""
        with self._write() as db:
            db.execute(
                "INSERT OR REPLACE INTO workers (name, pid, born, slots, queues, labels) VALUES (?, ?, ?, ?, ?, ?)",
                (name, owner.pid, owner.born, slots, json.dumps(list(queues)), json.dumps(list(labels))),
            )

    def rest_worker(self, name: str) -> None:
        """The worker `name` takes nothing any more, and may still be at work."""
        with self._write() as db:
            db.execute("UPDATE workers SET slots = 0 WHERE name = ?", (name,))

    def remove_worker(self, name: str) -> None:
        """The worker `name` is gone."""
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


def lost_report() -> dict[str, Any]:
    """What is reported for an attempt whose process died at work."""
    return {"outcome": "lost", "error": "the process that ran the attempt died"}


def handed_back_report() -> dict[str, Any]:
    """What is reported for an attempt that somebody stopped together with who ran it: it took nobody down (F-23)."""
    return {"outcome": "lost", "error": "its factory was stopped while it ran", "took_worker": False}


def report_all(spool: Spool, deliver: Callable[[str, dict[str, Any]], None], most: int | None = None) -> int:
    """Deliver unreported attempts, the oldest first and at most so many, and mark them; how many is returned.

    Stops at the first error of `deliver`, but for a refusal: what HQ does not take now must not hold up what it would.
    The refusal is raised when the rest is done.
    """
    refused: HqRefusedError | None = None
    told = 0
    for attempt_id, report in spool.unreported():
        try:
            deliver(attempt_id, report)
        except HqRefusedError as error:
            refused = error
            continue
        spool.mark_reported(attempt_id)
        told += 1
        if told == most:
            break
    if refused is not None:
        raise refused
    return told


def _why_not_again(db: sqlite3.Connection, row: sqlite3.Row) -> Duplicate | Finished | Died | None:
    """Why a known attempt is not run now; None for one that was received and never begun by a process that is gone."""
    if row["state"] == "reported":
        return Duplicate("HQ has this attempt's report")
    if row["report"] is not None:
        return Finished(json.loads(row["report"]))
    if is_alive(_owner_of(row)):
        return Duplicate("this attempt is running in another process of this factory")
    return Died(_last_word_on(db, row)) if row["state"] == "running" else None


def _why_unwanted(db: sqlite3.Connection, attempt_id: str, job_id: str, attempt: int) -> str | None:
    """Why an attempt that is new here is not run all the same."""
    stopped = db.execute("SELECT why FROM stops WHERE attempt_id = ?", (attempt_id,)).fetchone()
    if stopped:
        return f"it was to stop before it was received: {stopped['why']}"
    newer = db.execute("SELECT 1 FROM attempts WHERE job_id = ? AND attempt > ?", (job_id, attempt)).fetchone()
    return "a later attempt of this mission was already received" if newer else None


def _last_word_on(db: sqlite3.Connection, row: sqlite3.Row) -> dict[str, Any]:
    """The report on an attempt whose process died: one that was to be stopped has stopped."""
    if row["stop_why"] is not None:
        return {"outcome": "cancelled", "error": row["stop_why"]}
    statement = "SELECT pid, born FROM handing_back WHERE attempt_id = ?"
    told = db.execute(statement, (row["attempt_id"],)).fetchone()
    stopped = told is not None and not is_alive(ProcessIdentity(told["pid"], told["born"]))
    return handed_back_report() if stopped else lost_report()


def _owner_of(row: sqlite3.Row) -> ProcessIdentity:
    return ProcessIdentity(row["owner_pid"], row["owner_born"])


def _finish(db: sqlite3.Connection, attempt_id: str, report: Mapping[str, Any]) -> bool:
    changed = db.execute(
        "UPDATE attempts SET state = 'finished', report = ? WHERE attempt_id = ? AND state IN ('received', 'running')",
        (json.dumps(dict(report)), attempt_id),
    )
    db.execute("DELETE FROM handing_back WHERE attempt_id = ?", (attempt_id,))
    return changed.rowcount == 1
