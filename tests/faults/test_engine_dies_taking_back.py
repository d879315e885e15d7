"""Crash table: a message was taken back from a silent factory and the engine dies before it could write that down."""

from collections.abc import Callable
from typing import Any

import pytest
from faulty_cluster import FaultyCluster, Story

TAKEN_BACK = "after factory_tasks.broker:CeleryBroker.withdraw"
LONG_AGO = "UPDATE corporation.factories SET last_seen_at = now() - interval '1 day' WHERE factory_id = 'bench'"


@pytest.fixture
def taken(resting: FaultyCluster, wait_until: Callable[..., Any]) -> Callable[[int], FaultyCluster]:
    """`taken(max_retries)`: the message of an attempt is nowhere, its factory silent, and a new engine at work."""

    def take(max_retries: int) -> FaultyCluster:
        resting.arm("engine", TAKEN_BACK)
        resting.start()
        resting.kill("worker")
        resting.publish(resting.order("m-1", max_retries))
        wait_until(lambda: resting.messages() == 1, 20, "the message is sent")
        resting.heard_of("another")
        resting.db.execute(LONG_AGO)
        resting.lease_over()
        resting.crashed("engine")
        assert resting.messages() == 0
        assert resting.db.execute("SELECT state, sends FROM corporation.attempts").fetchall() == [("queued", 1)]
        resting.start_engine()
        return resting

    return take


def test_a_factory_that_returns_is_sent_the_message_again(
    taken: Callable[[int], FaultyCluster], settled: Callable[..., None]
) -> None:
    """As the same attempt, so that nothing is used up."""
    cluster = taken(0)
    cluster.start_worker()
    cluster.silence(10)
    settled(cluster)

    assert cluster.story("m-1") == Story("succeeded", ("succeeded",), (1,))


def test_where_the_factory_stays_away_one_attempt_is_used_up_with_its_lease(
    taken: Callable[[int], FaultyCluster], settled: Callable[..., None]
) -> None:
    """The one place where an attempt that nobody ever took is lost (ops/decisions/0014)."""
    cluster = taken(2)
    cluster.start_worker("spare", factory="spare")
    cluster.lease_over()
    settled(cluster)

    assert cluster.story("m-1") == Story("succeeded", ("lost", "succeeded"), (2,))
