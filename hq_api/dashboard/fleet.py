"""What the page of the fleet reads from the ledger: two statements, both bounded; nothing here changes anything."""

from typing import Any, Final

from sqlalchemy import Connection, Row, text

from corporation.factories.staleness import Thresholds, judge_status
from corporation.missions.counts import count_missions
from hq_api.dashboard.overview import FactoryRow, Fleet

MOST_FACTORIES: Final = 200

# How busy a factory is comes from the index of live attempts, once per factory shown.
FACTORIES = text("""
    SELECT f.factory_id, f.factory_role, f.deployment_profile, f.registration_status, f.paused, f.capabilities,
           f.metadata, f.slots, f.version, f.last_seen_at, count(*) OVER () AS registered,
           CAST(extract(epoch FROM now() - f.last_seen_at) AS double precision) AS silent_seconds,
           (SELECT count(*) FROM corporation.attempts a
             WHERE a.factory_id = f.factory_id AND a.state IN ('claimed', 'running')) AS busy
      FROM corporation.factories f
     ORDER BY f.last_seen_at DESC, f.factory_id
     LIMIT :limit
""")


def read_fleet(connection: Connection, thresholds: Thresholds) -> Fleet:
    """The fleet as the ledger knows it now, silences measured by the database's clock."""
    rows = connection.execute(FACTORIES, {"limit": MOST_FACTORIES}).all()
    factories = (_factory(row, thresholds) for row in rows)
    counts = count_missions(connection)
    return Fleet(
        # By name, so that a row is where it was when the page is loaded again.
        factories=tuple(sorted(factories, key=lambda one: one.factory_id)),
        registered=int(rows[0].registered) if rows else 0,
        open_missions=counts.open,
        ended_missions=counts.ended,
        ended_is_part=counts.ended_is_part,
        any_mission=counts.any,
    )


def _factory(row: Row[Any], thresholds: Thresholds) -> FactoryRow:
    labels: list[Any] = row.capabilities if isinstance(row.capabilities, list) else []
    metadata: dict[str, Any] = row.metadata if isinstance(row.metadata, dict) else {}
    hostname = metadata.get("hostname")
    return FactoryRow(
        factory_id=row.factory_id,
        role=row.factory_role,
        profile=row.deployment_profile,
        status=judge_status(row.registration_status, row.silent_seconds, row.paused, thresholds),
        silent_seconds=row.silent_seconds,
        last_seen_at=row.last_seen_at,
        labels=tuple(label for label in labels if isinstance(label, str)),
        slots=row.slots,
        busy=row.busy,
        version=row.version,
        hostname=hostname if isinstance(hostname, str) else None,
    )
