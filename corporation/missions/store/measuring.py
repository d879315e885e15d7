"""The numbers that a monitor asks for (contract http §12)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, text

BUCKETS: Final = (0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1800.0, 7200.0, 43200.0)
"""Seconds from publication to start: from "at once" over "a slot was busy" to "a desktop was off for the night"."""

MISSIONS = text("""
    SELECT state, mission_kind, source, count(*) AS found FROM corporation.missions GROUP BY state, mission_kind, source
""")

WAITING = text("""
    SELECT state_reason, count(*) AS found FROM corporation.missions WHERE state = 'waiting' GROUP BY state_reason
""")

ATTEMPTS = text("""
    SELECT state, count(*) AS found FROM corporation.attempts WHERE finished_at IS NOT NULL GROUP BY state
""")

STARTS = text("""
    SELECT width_bucket(waited, CAST(:buckets AS double precision[])) AS bucket, count(*) AS found,
           sum(waited) AS waited
      FROM (SELECT CAST(extract(epoch FROM started_at - created_at) AS double precision) AS waited
              FROM corporation.missions WHERE started_at IS NOT NULL) AS started
     GROUP BY bucket
""")


@dataclass(frozen=True)
class History:
    """What is counted over the whole ledger: the price grows with it, so nobody should ask at every moment."""

    missions: Mapping[tuple[str, str, str], int]
    """By state, kind and source."""
    attempts: Mapping[str, int]
    """Those that ended, by how."""
    starts: Sequence[int]
    """Missions by how long they waited for their start: one number for each of BUCKETS, and one for what is longer."""
    waited_seconds: float


def count_history(connection: Connection) -> History:
    """All of it, in three passes; a million missions take some tenths of a second."""
    starts, waited = [0] * (len(BUCKETS) + 1), 0.0
    for row in connection.execute(STARTS, {"buckets": list(BUCKETS)}):
        starts[row.bucket] = int(row.found)
        waited += float(row.waited)
    return History(
        missions={(row.state, row.mission_kind, row.source): int(row.found) for row in connection.execute(MISSIONS)},
        attempts={row.state: int(row.found) for row in connection.execute(ATTEMPTS)},
        starts=starts,
        waited_seconds=waited,
    )


def count_waiting_reasons(connection: Connection) -> Mapping[str, int]:
    """How many missions wait, by why; as many rows are read as wait."""
    return {row.state_reason: int(row.found) for row in connection.execute(WAITING)}
