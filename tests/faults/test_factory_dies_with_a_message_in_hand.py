"""Crash table: a worker took a message, Redis has noted that, and the worker dies before its spool knows of it."""

from collections.abc import Callable

import pytest
from faulty_cluster import FaultyCluster, Story

TAKEN = "before corporation.federation.spool:Spool.accept"


@pytest.fixture
def holding(resting: FaultyCluster) -> FaultyCluster:
    """A dead worker holds the message of `m-1`."""
    resting.arm("worker", TAKEN)
    resting.start()
    resting.publish(resting.order("m-1", max_retries=2))
    resting.crashed("worker")
    assert (len(resting.unacknowledged()), resting.left().get("spool rows not reported")) == (1, None)
    return resting


def test_what_a_dead_worker_holds_is_run_by_the_next_one(holding: FaultyCluster, settled: Callable[..., None]) -> None:
    """It puts back what its predecessor took, before it takes anything: no attempt is used up."""
    holding.start_worker()
    settled(holding)

    assert holding.story("m-1") == Story("succeeded", ("succeeded",), (1,))
    assert not holding.unacknowledged()


def test_what_a_dead_worker_holds_is_given_up_with_its_lease(
    holding: FaultyCluster, settled: Callable[..., None], wait_until: Callable[..., object]
) -> None:
    """HQ cannot tell it from an attempt whose factory cannot be heard, so that one attempt is used up (S-30).

    The next worker may run the first attempt before it hears that nobody counts on it: work twice, as two attempts.
    """
    holding.heard_of("another")
    holding.lease_over()
    wait_until(lambda: holding.value("SELECT 1 FROM corporation.attempts WHERE state = 'lost'"), 30, "given up")
    holding.start_worker()
    settled(holding)

    story = holding.story("m-1")
    assert (story.state, story.attempts, story.finals) == ("succeeded", ("lost", "succeeded"), 1)
