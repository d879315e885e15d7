"""Somebody says FLUSHALL while three hundred missions are on their way: none is lost, and none is done twice."""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import redis
from faulty_cluster import FaultyCluster

MISSIONS = 300
FEWER = 60
REBUILD = "/api/v1/ops/queues/rebuild"
QUEUE = "factory.bench"
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


def rebuilt(cluster: FaultyCluster) -> dict[str, Any]:
    with cluster.client as client:
        answer = client.post(REBUILD, json={})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_queues_filled_again_twice_at_once_do_each_mission_once(
    cluster: FaultyCluster, settled: Callable[..., None], wait_until: Callable[..., Any]
) -> None:
    """While no rescuer is there to see it everything is lost, then half of it, and then an old copy comes back."""
    cluster.publish(*(cluster.order(f"m-{number}", max_retries=0, sleep=0.05) for number in range(FEWER)))
    wait_until(lambda: len(cluster.effects()) >= 10, 60, "the first missions are done")
    cluster.kill("engine")
    with redis.Redis.from_url(cluster.redis_url) as broker, ThreadPoolExecutor(2) as pool:
        old = broker.lrange(QUEUE, 0, -1)
        assert old
        broker.flushall()
        for name in ("rebuilder", "another"):
            cluster.start_engine(name, only=["rebuilder"])
        first = [one.result() for one in [pool.submit(rebuilt, cluster) for _ in range(2)]]
        assert 0 < sum(one["resent"] for one in first) < FEWER
        cluster.kill("rebuilder")
        cluster.start_engine()
        wait_until(lambda: len(cluster.effects()) >= 30, 60, "half of the missions are done")

        broker.delete(QUEUE)
        rebuilt(cluster)
        settled(cluster, 90)
        broker.lpush(QUEUE, *old)
        rebuilt(cluster)
        settled(cluster, 90)

    states = Counter(row[0] for row in cluster.db.execute("SELECT state FROM corporation.missions"))
    attempts = Counter(row[0] for row in cluster.db.execute("SELECT state FROM corporation.attempts"))
    assert states == attempts == {"succeeded": FEWER}
    assert Counter(cluster.effects()) == {(f"m-{number}", 1): 1 for number in range(FEWER)}
