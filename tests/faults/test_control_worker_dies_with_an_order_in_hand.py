"""Crash table: a control worker took an order, Redis has noted that, and it dies before its spool knows of it."""

from collections.abc import Callable
from typing import Any

from faulty_cluster import FaultyCluster

from corporation.roles import control_queue

TAKEN = "before corporation.federation.spool:Spool.accept"
BEGUN = "after corporation.federation.spool:Spool.begin"
HEARD = "SELECT 1 FROM corporation.factories WHERE queues::jsonb ? %s"
PAUSED = "SELECT 1 FROM corporation.factories WHERE registration_status = 'paused'"


def pause(cluster: FaultyCluster) -> dict[str, Any]:
    """An order to the factory itself, which only its control worker takes."""
    return cluster.order("o-1", max_retries=2, mission_kind="system:pause_factory", target_factory_id="bench")


def dead_with_the_order(cluster: FaultyCluster, point: str) -> None:
    """The control worker came to `point` with the order in hand; its factory has no other worker."""
    cluster.arm("control", point)
    cluster.start_api()
    cluster.start_engine()
    cluster.start_control()
    cluster.wait(lambda: cluster.value(HEARD, control_queue("bench")))
    cluster.publish(pause(cluster))
    cluster.crashed("control")
    assert len(cluster.unacknowledged()) == 1


def test_the_next_control_worker_carries_out_what_its_predecessor_took(
    resting: FaultyCluster, settled: Callable[..., None]
) -> None:
    """It puts the order back before it takes anything: no mission worker has to start, and no attempt is used up."""
    dead_with_the_order(resting, TAKEN)
    resting.start_control()
    settled(resting)

    story = resting.story("o-1")
    assert (story.state, story.attempts, story.finals) == ("succeeded", ("succeeded",), 1)
    assert resting.value(PAUSED)
    assert not resting.unacknowledged()


def test_an_order_that_was_begun_is_reported_lost_by_the_next_one_and_tried_again(
    resting: FaultyCluster, settled: Callable[..., None]
) -> None:
    """Nobody waits for its lease."""
    dead_with_the_order(resting, BEGUN)
    resting.start_control()
    settled(resting, 15)

    story = resting.story("o-1")
    assert (story.state, story.attempts, story.finals) == ("succeeded", ("lost", "succeeded"), 1)


def test_what_a_mission_worker_has_in_hand_is_not_put_back_by_a_control_worker(resting: FaultyCluster) -> None:
    """Only the queue of orders is a control worker's business."""
    resting.start()
    resting.publish(resting.order("m-1", gate=str(resting.folder / "gate")))
    resting.wait(lambda: resting.story("m-1").state == "running")
    resting.start_control()

    assert "messages_put_back" not in resting.log("control")
    assert len(resting.unacknowledged()) == 1
    (resting.folder / "gate").touch()
    resting.wait(lambda: resting.story("m-1").state == "succeeded")
