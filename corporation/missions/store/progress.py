"""What a running attempt says: its log lines, kept once however often they are sent."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Connection, text

FIND = text("""
    SELECT a.mission_id, a.number, a.factory_id, m.job_id,
           m.attempt_id = a.id AND a.state IN ('queued', 'claimed', 'running') AS current
      FROM corporation.attempts a JOIN corporation.missions m ON m.id = a.mission_id WHERE a.id = :id
""")

ADD_LINES = text("""
    INSERT INTO corporation.mission_log (mission_id, attempt, number, line)
    SELECT :mission_id, :attempt, first.number + t.place - 1, t.line
      FROM unnest(CAST(:lines AS text[])) WITH ORDINALITY AS t(line, place),
           (SELECT coalesce(CAST(:first AS integer), max(number) + 1, 1) AS number FROM corporation.mission_log
             WHERE mission_id = :mission_id AND attempt = :attempt) AS first
        ON CONFLICT DO NOTHING
""")

SPOKE = text("UPDATE corporation.attempts SET progress_at = now() WHERE mission_id = :mission_id AND number = :attempt")

LONGEST_LINE = 8192


@dataclass(frozen=True)
class AttemptRow:
    """The attempt somebody speaks of; `current` while its mission is held by it."""

    mission_id: int
    number: int
    factory_id: str
    job_id: str
    current: bool


def find_attempt(connection: Connection, attempt_id: UUID) -> AttemptRow | None:
    """The attempt with this id, or None."""
    row = connection.execute(FIND, {"id": attempt_id}).first()
    return AttemptRow(row.mission_id, row.number, row.factory_id, row.job_id, bool(row.current)) if row else None


def add_lines(connection: Connection, attempt: AttemptRow, lines: Sequence[str], first: int | None) -> None:
    """Keep `lines` as numbers `first`, `first` + 1, … of the attempt's log; a number that is there stays as it is.

    Without `first` they follow the last one.
    """
    if lines:
        values = {
            "mission_id": attempt.mission_id,
            "attempt": attempt.number,
            "lines": [_storable(line[:LONGEST_LINE]) for line in lines],
            "first": first,
        }
        connection.execute(ADD_LINES, values)
        connection.execute(SPOKE, {"mission_id": attempt.mission_id, "attempt": attempt.number})


def _storable(line: str) -> str:
    """NUL is shown as its symbol, half a surrogate pair as a question mark: output may hold anything, a column not."""
    return line.replace("\0", "\u2400").encode("utf-8", "replace").decode("utf-8")
