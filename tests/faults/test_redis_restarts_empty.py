"""Crash table: Redis is killed and comes back without its data while missions lie in queues and run."""

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from faulty_cluster import QUICK, FaultyCluster
from warm_starts import WarmStarts

from corporation.embedded.valkey import start_valkey

MISSIONS = 12


def test_messages_that_redis_forgot_are_sent_again_and_no_attempt_is_used_up(
    tmp_path: Path,
    database_url: str,
    wait_until: Callable[..., Any],
    settled: Callable[..., None],
    warm: WarmStarts,
) -> None:
    """Two missions run, some lie in the queue, others wait in the ledger; what runs is not disturbed.

    With `max_retries` 0 an attempt that was given up would end its mission.
    """
    gate, jobs = tmp_path / "gate", [f"m-{number}" for number in range(MISSIONS)]
    server = start_valkey(tmp_path / "valkey")
    try:
        with FaultyCluster(
            tmp_path, database_url, server.url, lambda it: wait_until(it, 60), QUICK, warm=warm
        ) as cluster:
            cluster.start()
            cluster.publish(*(cluster.order(job_id, max_retries=0, gate=str(gate)) for job_id in jobs))
            wait_until(
                lambda: len(cluster.effects()) == 2 and cluster.messages() >= 2, 20, "two run, others are queued"
            )
            os.killpg(server.process.pid, signal.SIGKILL)
            server.process.wait()
            shutil.rmtree(tmp_path / "valkey" / "data")
            server = start_valkey(tmp_path / "valkey", port=server.port)
            assert cluster.messages() == 0

            gate.touch()
            settled(cluster)
            stories = [cluster.story(job_id) for job_id in jobs]
    finally:
        server.stop()

    assert [(story.state, story.attempts, story.effects) for story in stories] == [
        ("succeeded", ("succeeded",), (1,))
    ] * MISSIONS
    assert [(story.finals, story.told) for story in stories] == [(1, 1)] * MISSIONS
