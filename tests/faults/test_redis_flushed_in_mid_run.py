"""Somebody says FLUSHALL while three hundred missions are on their way: none is lost, and none is done twice."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import redis
from faulty_cluster import FaultyCluster

MISSIONS = 300
PUBLISHED = """
    SELECT count(*) FROM corporation.mission_events WHERE type = 'result_published' GROUP BY mission_id
"""


def test_a_flush_in_mid_run_loses_nothing(
    cluster: FaultyCluster, settled: Callable[..., None], wait_until: Callable[..., Any]
) -> None:
    """With `max_retries` 0, so that an attempt given up because Redis forgot it would end its mission."""
    cluster.publish(*(cluster.order(f"m-{number}", max_retries=0, sleep=0.01) for number in range(MISSIONS)))
    for turn in (1, 2):
        wait_until(lambda turn=turn: len(cluster.effects()) >= turn * 80, 60, f"{turn * 80} missions done")
        with redis.Redis.from_url(cluster.redis_url) as broker:
            broker.flushall()
    settled(cluster, 90)
    states = Counter(row[0] for row in cluster.db.execute("SELECT state FROM corporation.missions"))
    attempts = Counter(row[0] for row in cluster.db.execute("SELECT state FROM corporation.attempts"))

    assert states == attempts == {"succeeded": MISSIONS}
    assert Counter(cluster.effects()) == {(f"m-{number}", 1): 1 for number in range(MISSIONS)}
    # The stream was flushed too, so the ledger says how often each end was told.
    assert [row[0] for row in cluster.db.execute(PUBLISHED)] == [1] * MISSIONS
