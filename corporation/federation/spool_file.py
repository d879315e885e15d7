"""One SQLite file that all processes of a factory share: every call is one transaction, over forks too."""

import fcntl
import os
import sqlite3
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import RLock, local
from typing import ClassVar
from weakref import WeakSet


class SpoolFile:
    """The file at `path`, and the tables of `schema` in it; any number of processes may use it at once."""

    schema: ClassVar[str]
    """Statements that make a new file."""
    changes: ClassVar[tuple[str, ...]]
    """Statements that make a file of version n (its `PRAGMA user_version`) one of version n + 1, at place n."""

    def __init__(self, path: Path, busy_timeout_ms: int = 15_000) -> None:
        self.path = path
        self._busy_timeout_ms = busy_timeout_ms
        self._connections: dict[int, tuple[sqlite3.Connection, RLock]] = {}
        _files.add(self)

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
            self._bring_up_to_date(db)
            self.path.chmod(0o600)
        return db

    def _bring_up_to_date(self, db: sqlite3.Connection) -> None:
        """The file has this version's tables, changed in one transaction; a newer version's file is left as it is."""
        version = int(db.execute("PRAGMA user_version").fetchone()[0])
        is_new = db.execute("SELECT 1 FROM sqlite_master").fetchone() is None
        due = [self.schema] if is_new else self.changes[version:]
        if not due:
            return
        try:
            db.executescript(f"BEGIN IMMEDIATE; {''.join(due)} PRAGMA user_version = {len(self.changes):d}; COMMIT;")
        except BaseException:
            db.close()
            raise

    @contextmanager
    def _write(self, *, durable: bool = False) -> Generator[sqlite3.Connection]:
        """One write transaction; a `durable` one is fsynced, the others survive a killed process but not a power cut.

        That is enough for `accept`: what a power cut takes from the spool, it took from the processes too.
        """
        db, lock = self._db()
        with lock:
            if db.in_transaction:
                db.execute("ROLLBACK")  # a handler was thrown out of a write, at the one place where nobody catches it
            db.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:  # SQLite has rolled back already when the disk is full
                    db.execute("ROLLBACK")
                raise

    def _lock_of_this_process(self) -> "RLock | None":
        found = self._connections.get(os.getpid())
        return found[1] if found else None


_files: WeakSet[SpoolFile] = WeakSet()
_held = local()


def _hold_still() -> None:
    """No other thread is inside SQLite when this one forks: the child would inherit SQLite's own locks, held for ever.

    A worker forks while its pulse and its warden read the spool.
    """
    locks = [lock for file in sorted(_files, key=id) if (lock := file._lock_of_this_process())]  # pyright: ignore[reportPrivateUsage]
    for lock in locks:
        lock.acquire()
    _held.locks = locks


def _go_on() -> None:
    for lock in getattr(_held, "locks", ()):
        lock.release()
    _held.locks = []


os.register_at_fork(before=_hold_still, after_in_parent=_go_on)


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
