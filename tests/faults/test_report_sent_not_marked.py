"""Crash table: HQ has the report and the factory dies before it knows; it is sent again and changes nothing."""

from collections.abc import Callable
from typing import Any

import pytest
from faulty_cluster import FaultyCluster, Story

SENT = "before corporation.federation.spool:Spool.mark_reported"


@pytest.mark.parametrize("collected", [False, True], ids=["HQ dies as it reads", "HQ has read it"])
def test_a_report_that_is_sent_twice_counts_once(
    resting: FaultyCluster, settled: Callable[[FaultyCluster], None], wait_until: Callable[..., Any], collected: bool
) -> None:
    resting.arm("worker", SENT)
    if not collected:
        resting.arm("engine", "before corporation.missions.store.reporting:read_standings")
    resting.start()
    resting.publish(resting.order("m-1", max_retries=1))
    resting.crashed("worker")
    assert resting.value("SELECT status FROM mailbox.celery_taskmeta") == "SUCCESS"
    if collected:
        wait_until(lambda: resting.story("m-1").finals == 1, 20, "the first copy is collected")
    else:
        resting.crashed("engine")
    resting.start_worker()
    wait_until(lambda: resting.waiting_reports() == 0, 20, "the second copy is sent, by the pulse or with the message")
    if not collected:
        resting.start_engine()
    settled(resting)

    assert resting.story("m-1") == Story("succeeded", ("succeeded",), (1,))
    assert resting.value("SELECT count(*) FROM corporation.mission_events WHERE type = 'late_result'") == 0
