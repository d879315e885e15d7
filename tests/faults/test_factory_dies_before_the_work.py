"""Crash table: the factory received an attempt and dies before the work; nothing was done, so nothing is done twice."""

from collections.abc import Callable

import pytest
from faulty_cluster import FaultyCluster, Story

RECEIVED = "after corporation.federation.spool:Spool.accept"
RUN_ONCE = Story("succeeded", ("succeeded",), (1,))


@pytest.mark.parametrize("max_retries", [2, 0])
def test_an_attempt_whose_worker_died_before_the_work_is_run_by_the_next_worker(
    resting: FaultyCluster, settled: Callable[[FaultyCluster], None], max_retries: int
) -> None:
    """The next worker puts the message back that this one took, so that not even the attempt is used up."""
    resting.arm("worker", RECEIVED)
    resting.start()
    resting.publish(resting.order("m-1", max_retries=max_retries))
    resting.crashed("worker")
    assert resting.story("m-1").finals == 0

    resting.start_worker()
    settled(resting)

    assert resting.story("m-1") == RUN_ONCE


@pytest.mark.parametrize("max_retries", [2, 0])
def test_an_attempt_whose_process_died_before_the_work_is_run_by_another_process(
    resting: FaultyCluster, settled: Callable[[FaultyCluster], None], max_retries: int
) -> None:
    """The worker lives on and gives the message back at once."""
    resting.arm("worker", RECEIVED, alone=True)
    resting.start()
    resting.publish(resting.order("m-1", max_retries=max_retries))
    resting.crashed_alone("worker")

    settled(resting)

    assert resting.story("m-1") == RUN_ONCE
