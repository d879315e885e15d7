"""The tables of a spool, and how a file that an older version wrote becomes one of this version.

The version of a file is its `PRAGMA user_version`. A process of an older version may go on using a file that was
changed here: columns it does not know may be empty, and states it does not know it leaves alone.
"""

from typing import Final

_ATTEMPTS: Final = """
CREATE TABLE attempts (
  attempt_id TEXT PRIMARY KEY,
  job_id     TEXT NOT NULL,
  attempt    INTEGER NOT NULL,
  state      TEXT NOT NULL CHECK (state IN ('received', 'running', 'finished', 'reported')),
  owner_pid  INTEGER NOT NULL,
  owner_born REAL NOT NULL,
  started_at TEXT NOT NULL,
  begun_at   REAL, -- seconds of the monotonic clock, which all processes of a machine share, like stop_at
  time_limit REAL, -- seconds from begun_at
  stop_why   TEXT,
  stop_at    REAL,
  progress   TEXT,
  report     TEXT,
  CHECK ((state IN ('received', 'running')) = (report IS NULL)),
  CHECK ((stop_why IS NULL) = (stop_at IS NULL))
) STRICT;
CREATE INDEX attempts_open ON attempts (state) WHERE state <> 'reported';
CREATE INDEX attempts_of ON attempts (job_id);
"""

_THE_REST: Final = """
CREATE TABLE IF NOT EXISTS workers (
  name   TEXT PRIMARY KEY,
  pid    INTEGER NOT NULL,
  born   REAL NOT NULL,
  slots  INTEGER NOT NULL,
  queues TEXT NOT NULL,
  labels TEXT NOT NULL
) STRICT;
-- Orders to stop what was not received yet.
CREATE TABLE IF NOT EXISTS stops (attempt_id TEXT PRIMARY KEY, why TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS notes (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
"""

_HANDING_BACK: Final = """
-- Attempts whose process, or a parent of it, was told to stop: which process that was.
CREATE TABLE handing_back (attempt_id TEXT PRIMARY KEY, pid INTEGER NOT NULL, born REAL NOT NULL) STRICT;
"""

SCHEMA: Final = _ATTEMPTS + _THE_REST + _HANDING_BACK
"""A new file of this version."""

# SQLite cannot change a CHECK, so the table is made again. The rowids stay: they are the order of reception. An older
# version made its tables one by one, so a crash may have left some out.
_RECEIVED_AND_STOPS: Final = f"""
ALTER TABLE attempts RENAME TO attempts_before;
DROP INDEX IF EXISTS attempts_open;
DROP INDEX IF EXISTS attempts_of;
{_ATTEMPTS}
INSERT INTO attempts
       (rowid, attempt_id, job_id, attempt, state, owner_pid, owner_born, started_at, progress, report)
SELECT rowid, attempt_id, job_id, attempt, state, owner_pid, owner_born, started_at, progress, report
  FROM attempts_before;
DROP TABLE attempts_before;
{_THE_REST}
"""  # noqa: S608 - put together from the constants above

CHANGES: Final = (_RECEIVED_AND_STOPS, _HANDING_BACK)
"""What leads from version n to n + 1, at place n; none is ever changed once it was released."""
