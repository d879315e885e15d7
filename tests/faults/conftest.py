"""A whole HQ and one factory as real processes, which the tests here kill."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from faulty_cluster import QUICK, FaultyCluster
from sqlalchemy import NullPool, create_engine
from warm_starts import WarmStarts

from corporation.db import sqlalchemy_url

sys.path.append(str(Path(__file__).parent.parent / "integration" / "ledger"))  # the checker of whole histories


@pytest.fixture
def resting(
    tmp_path: Path, database_url: str, redis_url: str, wait_until: Callable[..., Any], warm: WarmStarts
) -> Iterator[FaultyCluster]:
    """A cluster of which nothing runs yet; every history in its ledger is whole when the test is over."""
    from history import assert_history_is_whole  # pyright: ignore

    with FaultyCluster(tmp_path, database_url, redis_url, lambda it: wait_until(it, 60), QUICK, warm=warm) as cluster:
        yield cluster
        url = sqlalchemy_url(cluster.database_url)
        # One look at everything: the engine may still be telling how a mission ended.
        engine = create_engine(url, poolclass=NullPool, isolation_level="REPEATABLE READ")
        with engine.connect() as connection:
            assert_history_is_whole(connection)


@pytest.fixture
def cluster(resting: FaultyCluster) -> FaultyCluster:
    """API, engine and one worker with two slots."""
    resting.start()
    return resting


@pytest.fixture
def settled(wait_until: Callable[..., Any]) -> Callable[[FaultyCluster], None]:
    """`settled(cluster)` returns once nothing is left to do anywhere, and fails with what is stuck otherwise."""

    def wait(cluster: FaultyCluster, limit_seconds: float = 30) -> None:
        left: list[dict[str, int]] = [{}]

        def nothing() -> bool:
            left[0] = cluster.left()
            return not left[0]

        try:
            wait_until(nothing, limit_seconds)
        except pytest.fail.Exception:
            pytest.fail(f"after {limit_seconds:g} s there is still something left: {left[0]}")

    return wait
