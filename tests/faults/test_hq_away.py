"""Crash table: HQ is away altogether while missions run and leases end unheard; its return ends no attempt."""

from collections.abc import Callable
from typing import Any

import pytest
from faulty_cluster import FaultyCluster, Story


@pytest.mark.parametrize("ends", ["while HQ is away", "after HQ came back"])
def test_no_attempt_is_given_up_because_hq_was_away(
    cluster: FaultyCluster, settled: Callable[[FaultyCluster], None], wait_until: Callable[..., Any], ends: str
) -> None:
    """F-7: the API and the rescuer extend every lease when they start; the worst case is a delay."""
    gate = cluster.folder / "gate"
    cluster.publish(*(cluster.order(f"m-{number}", max_retries=0, gate=str(gate)) for number in range(4)))
    wait_until(lambda: len(cluster.effects()) == 2, 20, "two missions at work, two in the queue")
    wait_until(lambda: not cluster.value("SELECT count(*) FROM corporation.outbox"), 20, "everything sent")
    cluster.kill("engine")
    cluster.kill("api")
    cluster.lease_over()
    if ends == "while HQ is away":
        gate.touch()
        wait_until(lambda: len(cluster.effects()) == 4, 20, "all work done")

    cluster.start_api()
    cluster.start_engine()
    gate.touch()
    settled(cluster)

    for number in range(4):
        assert cluster.story(f"m-{number}") == Story("succeeded", ("succeeded",), (1,))
