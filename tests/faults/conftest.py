"""A whole HQ and one factory as real processes, which the tests here kill."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from ops.bench.cluster import Cluster


@pytest.fixture
def cluster(tmp_path: Path, database_url: str, redis_url: str, wait_until: Callable[..., Any]) -> Iterator[Cluster]:
    """API, engine and one worker with two slots; retries come at once and leases are as short as the rules allow."""
    quick = {
        "UA_MISSION_RETRY_BASE_SECONDS": "0.1",
        "UA_HEARTBEAT_INTERVAL_SECONDS": "10",
        "UA_ATTEMPT_LEASE_SECONDS": "20",
    }
    with Cluster(tmp_path, database_url, redis_url, lambda condition: wait_until(condition, 60), quick) as cluster:
        cluster.start_api()
        cluster.start_engine()
        cluster.start_worker()
        with psycopg.connect(database_url, autocommit=True) as db:
            wait_until(
                lambda: db.execute("SELECT 1 FROM corporation.factories WHERE slots = 2").fetchone(), 30, "a beat"
            )
        yield cluster
