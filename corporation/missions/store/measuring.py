"""The numbers that a monitor asks for (contract http §12)."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, text

BUCKETS: Final = (0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1800.0, 7200.0, 43200.0)
"""Seconds from publication to start: from "at once" over "a slot was busy" to "a desktop was off for the night"."""

# One pass over the missions for both numbers. The bucket is null where no attempt ever started.
MISSIONS = text("""
    SELECT state, mission_kind, source, width_bucket(started_at - created_at, CAST(:buckets AS interval[])) AS bucket,
           count(*) AS found, extract(epoch FROM sum(started_at - created_at)) AS waited
      FROM corporation.missions
     GROUP BY state, mission_kind, source, bucket
""")

WAITING = text("""
    SELECT state_reason, count(*) AS found FROM corporation.missions WHERE state = 'waiting' GROUP BY state_reason
""")

ATTEMPTS = text("""
    SELECT state, count(*) AS found FROM corporation.attempts WHERE finished_at IS NOT NULL GROUP BY state
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
    """All of it. Every row is read: measured, a second for a million missions of a kilobyte each that lie in memory.

    No window and no running total would be cheaper and right: a counter must not fall, and commits come in no order.
    """
    missions: Counter[tuple[str, str, str]] = Counter()
    starts, waited = [0] * (len(BUCKETS) + 1), 0.0
    for row in connection.execute(MISSIONS, {"buckets": [f"{bound} seconds" for bound in BUCKETS]}):
        missions[row.state, row.mission_kind, row.source] += int(row.found)
        if row.bucket is not None:
            starts[row.bucket] += int(row.found)
            waited += float(row.waited)
    attempts = {row.state: int(row.found) for row in connection.execute(ATTEMPTS)}
    return History(missions, attempts, starts, waited)


def count_waiting_reasons(connection: Connection) -> Mapping[str, int]:
    """How many missions wait, by why; as many rows are read as wait."""
    return {row.state_reason: int(row.found) for row in connection.execute(WAITING)}
