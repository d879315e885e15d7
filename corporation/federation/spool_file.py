"""One SQLite file that all processes of a factory share: every call is one transaction, over forks too."""

import fcntl
import os
import sqlite3
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from typing import ClassVar


class SpoolFile:
    """The file at `path`, and the tables of `schema` in it; any number of processes may use it at once."""

    schema: ClassVar[str]
    """Statements that create what is not there yet."""

    def __init__(self, path: Path, busy_timeout_ms: int = 15_000) -> None:
        self.path = path
        self._busy_timeout_ms = busy_timeout_ms
        self._connections: dict[int, tuple[sqlite3.Connection, RLock]] = {}

    def _db(self) -> tuple[sqlite3.Connection, RLock]:
        # One connection a process: SQLite forbids carrying one over a fork, and Celery's pool forks. The parent's is
        # kept and never closed here, since closing it would meddle with the parent's locks.
        pid = os.getpid()
        if pid not in self._connections:
            self._connections[pid] = (self._open(), RLock())
        return self._connections[pid]

    def _read(self, statement: str, values: Sequence[str] = ()) -> list[sqlite3.Row]:
        db, lock = self._db()
        with lock:
            return db.execute(statement, values).fetchall()

    def _open(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with _alone_in(self.path.parent):
            db = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
            db.row_factory = sqlite3.Row
            db.execute(f"PRAGMA busy_timeout = {self._busy_timeout_ms:d}")
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = NORMAL")
            db.executescript(self.schema)
            self.path.chmod(0o600)
        return db

    @contextmanager
    def _write(self, *, durable: bool = False) -> Generator[sqlite3.Connection]:
        """One write transaction; a `durable` one is fsynced, the others survive a killed process but not a power cut.

        That is enough for `accept`: what a power cut takes from the spool, it took from the processes too.
        """
        db, lock = self._db()
        with lock:
            db.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
            except BaseException:
                db.execute("ROLLBACK")
                raise
            db.execute("COMMIT")


@contextmanager
def _alone_in(folder: Path) -> Generator[None]:
    """One opener at a time: SQLite does not wait, but fails, when two processes turn a new file to WAL at once.

    The lock is on the folder, because closing any other handle of the file itself would drop SQLite's own locks.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
