"""What the page of the fleet reads from the ledger: three readings, each bounded; nothing here changes anything."""

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import Connection, Row, text

from corporation.factories.registry import Wanted, list_registrations
from corporation.factories.signs_of_life import Light
from corporation.factories.staleness import Thresholds
from corporation.missions.counts import count_missions
from hq_api.dashboard.overview import FactoryRow, Flag, Fleet, Running

MOST_FACTORIES: Final = 200
LIGHTS: Final = ("process", "consumer", "work")

# Orders to the factory itself are no work. What is read is bounded by what runs, whatever ran before.
RUNNING = text("""
    SELECT DISTINCT ON (a.factory_id) a.factory_id, m.job_id, m.mission_kind, a.progress,
           CAST(extract(epoch FROM now() - a.started_at) AS double precision) AS seconds
      FROM corporation.attempts a JOIN corporation.missions m ON m.attempt_id = a.id
     WHERE a.factory_id = ANY(CAST(:factory_ids AS text[])) AND a.state = 'running'
       AND m.mission_kind NOT LIKE 'system:%'
     ORDER BY a.factory_id, a.started_at, m.job_id
""")


def read_fleet(connection: Connection, thresholds: Thresholds, lease_seconds: float) -> Fleet:
    """The fleet as the ledger knows it now, silences measured by the database's clock.

    `lease_seconds` is how long a lease is that a beat renews: by it the light of the work is judged.
    """
    wanted = Wanted(limit=MOST_FACTORIES)
    records, registered = list_registrations(connection, wanted, thresholds, lease_seconds)
    names = {"factory_ids": [one["factory_id"] for one in records]}
    running = {row.factory_id: _running(row) for row in connection.execute(RUNNING, names)}
    factories = (_factory(one, running.get(one["factory_id"])) for one in records)
    counts = count_missions(connection)
    return Fleet(
        # By name, so that a row is where it was when the page is loaded again.
        factories=tuple(sorted(factories, key=lambda one: one.factory_id)),
        registered=registered,
        open_missions=counts.open,
        ended_missions=counts.ended,
        ended_is_part=counts.ended_is_part,
        any_mission=counts.any,
    )


def _factory(record: Mapping[str, Any], running: Running | None) -> FactoryRow:
    labels: Any = record["capabilities"]
    metadata: Any = record["metadata"]
    hostname: Any = metadata.get("hostname") if isinstance(metadata, dict) else None
    return FactoryRow(
        factory_id=record["factory_id"],
        role=record["factory_role"],
        profile=record["deployment_profile"],
        status="quarantined" if record["quarantined"] else record["registration_status"],
        silent_seconds=record["age_seconds"],
        last_seen_at=record["last_seen_at"],
        labels=tuple(label for label in labels if isinstance(label, str)) if isinstance(labels, list) else (),
        slots=record["slots"],
        busy=record["busy"],
        version=record["version"],
        hostname=hostname if isinstance(hostname, str) else None,
        display_name=record["display_name"],
        transport=record["transport"],
        flag=_flag(record),
        running=running,
        lights={name: Light(**record["lights"][name]) for name in LIGHTS},
        rival=record["split_brain"] is not None,
    )


def _flag(record: Mapping[str, Any]) -> Flag | None:
    """The stronger of HQ's words on this factory: a quarantine hides a pause."""
    if (quarantine := record["quarantine"]) is not None:
        return Flag("quarantined", quarantine["who"], quarantine["note"])
    if (pause := record["pause"]) is None:
        return None
    return Flag("draining" if record["draining"] else "paused", pause["who"], pause["note"], pause["until"])


def _running(row: Row[Any]) -> Running:
    progress: Any = row.progress
    percent: Any = progress.get("percent") if isinstance(progress, dict) else None
    told = isinstance(percent, int | float) and not isinstance(percent, bool) and 0 <= percent <= 100
    return Running(row.job_id, row.mission_kind, row.seconds, int(percent) if told else None)
