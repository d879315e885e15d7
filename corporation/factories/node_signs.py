"""What the workers of HQ's own nodes last said of themselves: HQ's API speaks under the same name, and counts not."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, text

from corporation.factories.instances import DEFAULT_INTERVAL_SECONDS, INTERVALS_OF_SILENCE
from corporation.factories.signs_of_life import WorkerSign

# Whoever has sent the last beat at its start could not know whether another one was on its way.
READ = text("""
    SELECT f.factory_id, f.interval_seconds, f.workers, x.quarantined_at IS NOT NULL AS quarantined,
           CAST(extract(epoch FROM now() - f.workers_seen_at) AS double precision) AS silent_seconds,
           coalesce(f.metadata ->> 'heartbeat_source' = 'pulse'
                AND json_typeof(f.metadata -> 'uptime_seconds') = 'number'
                AND CAST(f.metadata ->> 'uptime_seconds' AS double precision) > :grown_up, false) AS by_pulse
      FROM corporation.factories f LEFT JOIN corporation.factory_access x USING (factory_id)
     WHERE f.factory_id = ANY(CAST(:factory_ids AS text[]))
""")
GROWN_UP_SECONDS: Final = 120.0


@dataclass(frozen=True)
class NodeSigns:
    """One node by its workers' own words; `silent_seconds` is None where none was ever heard of.

    `by_pulse`: a worker that runs for a while spoke for the node, because no heartbeat was sent in time.
    """

    silent_seconds: float | None = None
    interval_seconds: float = DEFAULT_INTERVAL_SECONDS
    workers: Sequence[WorkerSign] = ()
    by_pulse: bool = False
    quarantined: bool = False

    @property
    def is_silent(self) -> bool:
        """Whether its workers should have been heard of by now."""
        return self.silent_seconds is None or self.silent_seconds > INTERVALS_OF_SILENCE * self.interval_seconds


def read_nodes(connection: Connection, factory_ids: Sequence[str]) -> dict[str, NodeSigns]:
    """The signs of each of these nodes; one that HQ does not know has given none."""
    values = {"factory_ids": list(factory_ids), "grown_up": GROWN_UP_SECONDS}
    found = {
        row.factory_id: NodeSigns(
            row.silent_seconds,
            row.interval_seconds or DEFAULT_INTERVAL_SECONDS,
            [WorkerSign.from_stored(one) for one in row.workers],
            row.by_pulse,
            row.quarantined,
        )
        for row in connection.execute(READ, values)
    }
    return {factory_id: found.get(factory_id, NodeSigns()) for factory_id in factory_ids}
