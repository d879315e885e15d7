"""Crash table: the engine dies in the middle of a rebuild that somebody waits for."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import redis
from faulty_cluster import FaultyCluster, Story

HANDED_OUT = "after corporation.missions.rebuild:rebuild_queues"
REBUILD = "/api/v1/ops/queues/rebuild"


def test_the_next_engine_does_it_and_whoever_waits_has_the_answer(
    resting: FaultyCluster, settled: Callable[..., None], wait_until: Callable[..., Any]
) -> None:
    cluster = resting
    cluster.arm("engine", HANDED_OUT)
    cluster.start()
    cluster.kill("worker")
    cluster.publish(cluster.order("m-1", max_retries=0))
    wait_until(lambda: cluster.messages() == 1, 20, "the message is sent")
    with redis.Redis.from_url(cluster.redis_url) as broker:
        broker.delete("factory.bench")
    with cluster.client as client, ThreadPoolExecutor(1) as pool:
        asked = pool.submit(client.post, REBUILD)
        cluster.crashed("engine")
        assert cluster.db.execute("SELECT done_at FROM corporation.queue_rebuilds").fetchall() == [(None,)]
        assert not cluster.db.execute("SELECT 1 FROM corporation.outbox").fetchall()
        cluster.start_engine()
        answer = asked.result()
    cluster.start_worker()
    settled(cluster)

    assert answer.status_code == 200, answer.text
    assert cluster.db.execute("SELECT 1 FROM corporation.queue_rebuilds").fetchall() == []
    assert cluster.story("m-1") == Story("succeeded", ("succeeded",), (1,))
