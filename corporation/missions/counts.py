"""How many missions are in which state, at a price that does not grow with history."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, text

from corporation.missions.states import FINAL, State

OPEN: Final = tuple(state for state in State if state not in FINAL)
ENDED: Final = tuple(state for state in State if state in FINAL)
COUNTED_TO: Final = 10_000
"""A count stops here: exact counts of big tables are what makes pages slow, and nobody reads the digits."""

# Open states have a partial index, which naming them all makes usable; final ones are looked for among the newest
# missions only, along the index of the list.
COUNTS = text("""
    WITH newest AS (
             SELECT m.state FROM corporation.missions m WHERE m.created_at > now() - interval '24 hours'
              ORDER BY m.created_at DESC LIMIT :most)
    SELECT s.state, (SELECT count(*) FROM (
             SELECT 1 FROM corporation.missions m
              WHERE m.state = s.state AND m.state IN ('waiting', 'queued', 'claimed', 'running') LIMIT :most) f) found
      FROM unnest(CAST(:open AS text[])) AS s (state)
    UNION ALL
    SELECT newest.state, count(*) FROM newest WHERE newest.state = ANY(CAST(:ended AS text[])) GROUP BY newest.state
    UNION ALL
    SELECT 'newest', count(*) FROM newest
    UNION ALL
    SELECT 'ever', count(*) FROM (SELECT 1 FROM corporation.missions LIMIT 1) AS one
""")


@dataclass(frozen=True)
class MissionCounts:
    """Missions by state, each counted no further than COUNTED_TO; `ended` of those created within the last day."""

    open: Mapping[str, int]
    ended: Mapping[str, int]
    ended_is_part: bool
    """Whether the day had so many missions that only the newest COUNTED_TO of them were looked at."""
    any: bool
    """Whether there ever was a mission."""


def count_missions(connection: Connection) -> MissionCounts:
    """The counts as the ledger has them now; every state is named, also one with none."""
    values = {"most": COUNTED_TO, "open": list(OPEN), "ended": list(ENDED)}
    found = {row.state: int(row.found) for row in connection.execute(COUNTS, values)}
    return MissionCounts(
        open={state: found.get(state, 0) for state in OPEN},
        ended={state: found.get(state, 0) for state in ENDED},
        ended_is_part=found["newest"] >= COUNTED_TO,
        any=found["ever"] > 0,
    )
