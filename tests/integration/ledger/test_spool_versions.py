"""A spool that an older version wrote goes on being used: nothing in it is lost, and both versions may have it open."""

import sqlite3
from pathlib import Path

import pytest

from corporation.federation.processes import ProcessIdentity, my_identity
from corporation.federation.spool import Died, Duplicate, Fresh, Spool
from corporation.federation.spool_schema import CHANGES

VERSION_0 = """
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
"""Word for word what the first version executed whenever it opened its file."""
ACCEPT_0 = (
    "INSERT INTO attempts (attempt_id, job_id, attempt, state, owner_pid, owner_born, started_at)"
    " VALUES (?, ?, ?, 'running', ?, ?, ?)"
)
NOW = "2026-06-01T08:00:00.000000+00:00"


def opened_by_version_0(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.executescript(VERSION_0)
    return db


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file as the first version left it: reported, finished in another order than received, and torn from work."""
    file = tmp_path / "spool.db"
    db = opened_by_version_0(file)
    for number in range(1, 5):
        db.execute(ACCEPT_0, (f"at-{number}", f"j-{number}", number, 2**22 + number, 1.5, NOW))
    for number in (3, 1, 2):
        db.execute("UPDATE attempts SET state = 'finished', report = ? WHERE attempt_id = ?",
                   (f'{{"outcome": "done", "n": {number}}}', f"at-{number}"))  # fmt: skip
    db.execute("UPDATE attempts SET state = 'reported', report = '{}' WHERE attempt_id = 'at-2'")
    db.execute("INSERT INTO notes VALUES ('beat_failures', '3')")
    db.close()
    return file


def version_of(path: Path) -> int:
    with sqlite3.connect(path) as db:
        return db.execute("PRAGMA user_version").fetchone()[0]


def test_everything_in_an_old_file_is_still_known_and_the_new_states_work(path: Path) -> None:
    spool = Spool(path)

    assert spool.unreported() == [("at-1", {"outcome": "done", "n": 1}), ("at-3", {"outcome": "done", "n": 3})]
    assert spool.owners()["at-4"] == ProcessIdentity(2**22 + 4, 1.5)
    assert spool.noted("beat_failures") == "3"
    me = my_identity()
    assert isinstance(spool.accept("at-2", "j-2", 2, me, NOW), Duplicate)
    assert isinstance(spool.accept("at-4", "j-4", 4, me, NOW), Died)
    assert spool.accept("at-5", "j-5", 1, me, NOW) == Fresh()
    assert spool.begin("at-5", me, 1.0, 60.0)
    assert version_of(path) == len(CHANGES) == 2


def test_a_file_is_changed_once_and_a_new_one_is_made_as_it_should_be(path: Path, tmp_path: Path) -> None:
    Spool(path).owners()
    Spool(path).owners()
    Spool(tmp_path / "new.db").owners()

    def tables(file: Path) -> list[tuple[str, str]]:
        with sqlite3.connect(file) as db:
            return sorted(db.execute("SELECT name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'"))

    assert tables(path) == tables(tmp_path / "new.db")


def test_a_process_of_the_old_version_goes_on_with_the_changed_file(path: Path) -> None:
    """A worker that finishes its last mission while the new one starts."""
    old = opened_by_version_0(path)
    me = my_identity()
    spool = Spool(path)
    spool.accept("at-6", "j-6", 1, me, NOW)

    old.execute(ACCEPT_0, ("at-7", "j-7", 1, me.pid, me.born, NOW))
    assert [(one.attempt_id, one.time_limit) for one in spool.under_way()] == [("at-4", None), ("at-7", None)]
    old.execute("UPDATE attempts SET state = 'finished', report = '{}' WHERE attempt_id = 'at-7' AND state = 'running'")
    old.close()
    opened_by_version_0(path).close()

    assert [attempt_id for attempt_id, _ in spool.unreported()] == ["at-1", "at-3", "at-7"]


def test_a_file_whose_making_was_cut_short_is_made_whole(tmp_path: Path) -> None:
    file = tmp_path / "spool.db"
    with sqlite3.connect(file) as db:
        db.executescript(VERSION_0[: VERSION_0.index("CREATE INDEX")])

    spool = Spool(file)
    spool.note("x", "1")
    assert spool.workers() == []


def test_a_file_of_a_later_version_is_left_as_it_is(path: Path) -> None:
    Spool(path).owners()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")

    assert len(Spool(path).owners()) == 4
    assert version_of(path) == 99


def test_a_change_that_fails_leaves_the_old_file_whole(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Spool, "changes", (CHANGES[0] + "SELECT 1 FROM nowhere;",))  # noqa: S608
    with pytest.raises(sqlite3.OperationalError):
        Spool(path).owners()
    monkeypatch.undo()

    assert len(Spool(path).owners()) == 4
