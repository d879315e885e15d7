"""Every process of HQ and of the factory is killed while missions run; each mission still ends exactly once."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from faulty_cluster import FaultyCluster

MISSIONS = 200
DONE = "SELECT count(*) FROM corporation.missions WHERE finished_at IS NOT NULL"
FINALS = """
    SELECT count(*) FROM corporation.mission_events WHERE type IN ('succeeded', 'failed', 'timed_out', 'cancelled')
"""


@pytest.mark.parametrize("victims", [("engine", "worker", "api"), ("worker", "worker", "engine")])
def test_two_hundred_missions_end_once_although_each_process_is_killed(
    cluster: FaultyCluster, settled: Callable[..., None], wait_until: Callable[..., Any], victims: tuple[str, ...]
) -> None:
    """Afterwards nothing is left: no message, no outbox row, no report, no row in the spool."""
    restart = {"engine": cluster.start_engine, "worker": cluster.start_worker, "api": cluster.start_api}
    jobs = [f"m-{number}" for number in range(MISSIONS)]
    cluster.publish(*(cluster.order(job_id, max_retries=5, sleep=0.02) for job_id in jobs))
    for turn, victim in enumerate(victims, start=1):
        wait_until(lambda turn=turn: cluster.value(DONE) >= turn * 40, 60, f"mission {turn * 40}")
        cluster.kill(victim)
        restart[victim]()
    settled(cluster, 60)
    states = Counter(row[0] for row in cluster.db.execute("SELECT state FROM corporation.missions"))

    assert states == {"succeeded": MISSIONS}, cluster.log("engine")[-2000:]
    assert cluster.value(FINALS) == MISSIONS
    assert max(Counter(cluster.effects()).values()) == 1, "an attempt did its work twice"
    assert {job_id for job_id, _ in cluster.effects()} == set(jobs)
