"""Crash table: the report is on the factory's disk and the factory dies before it is sent; the work is not repeated."""

from collections.abc import Callable

import pytest
from faulty_cluster import FaultyCluster, Story

ON_DISK = "after corporation.federation.spool:Spool.finish"


@pytest.mark.parametrize("alone", [False, True], ids=["the whole worker", "the process of the mission"])
def test_a_report_on_the_disk_is_sent_by_whoever_comes_next(
    resting: FaultyCluster, settled: Callable[[FaultyCluster], None], alone: bool
) -> None:
    """The worker's next start sends it, or the next copy of the message; the worst case is a delay."""
    resting.arm("worker", ON_DISK, alone=alone)
    resting.start()
    resting.publish(resting.order("m-1", max_retries=1))
    if alone:
        resting.crashed_alone("worker")
    else:
        resting.crashed("worker")
        assert resting.value("SELECT status FROM mailbox.celery_taskmeta") == "PENDING"
        resting.start_worker()
    settled(resting)

    assert resting.story("m-1") == Story("succeeded", ("succeeded",), (1,))
