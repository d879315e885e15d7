"""What bootstrap jobs must know of the fleet at this moment: who could take them, and by which way."""

from sqlalchemy import Connection

from corporation.bootstrap_jobs.backends import Sight, seen
from corporation.factories.staleness import Thresholds
from corporation.missions.dispatch import read_views
from corporation.settings import Settings


def sight_of(connection: Connection, settings: Settings, broker_answers: bool) -> Sight:
    """What is seen now; a broker that is switched off counts as away."""
    thresholds = Thresholds(settings.factory_stale_seconds, settings.factory_offline_seconds)
    there = broker_answers and settings.redis_delegation_enabled
    return seen(read_views(connection, thresholds), there, settings.bootstrap_claim_ttl_seconds)
