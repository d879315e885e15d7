"""Crash table: the factory is told to stop a mission and dies before it has; the mission is cancelled, not retried."""

from collections.abc import Callable
from typing import Any

import pytest
from faulty_cluster import FaultyCluster, Story

HEARD = "after corporation.federation.spool:Spool.request_stop"


@pytest.mark.parametrize(
    ("returns", "attempt"), [(True, "cancelled"), (False, "lost")], ids=["it returns", "it stays away"]
)
def test_what_was_to_stop_is_cancelled_and_never_tried_again(
    resting: FaultyCluster,
    settled: Callable[..., None],
    wait_until: Callable[..., Any],
    returns: bool,
    attempt: str,
) -> None:
    """S-30: the factory's next start reports it as cancelled; else its lease ends, and the mission is cancelled too."""
    resting.arm("worker", HEARD)
    resting.start()
    resting.publish(resting.order("m-1", max_retries=4, gate=str(resting.folder / "never")))
    wait_until(lambda: resting.story("m-1").state == "running", 20, "it runs")
    assert resting.cancel("m-1").status_code == 202
    resting.crashed("worker")
    assert resting.story("m-1").state == "running"

    if returns:
        resting.start_worker()
    else:
        resting.heard_of("another")
        resting.lease_over()
        wait_until(lambda: resting.story("m-1").finals == 1, 20, "it is over")
        resting.start_worker()
    settled(resting)

    assert resting.story("m-1") == Story("cancelled", (attempt,), (1,))
