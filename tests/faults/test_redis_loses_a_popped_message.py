"""Crash table: a worker dies between popping a message and noting that it has it; the message is nowhere any more."""

from collections.abc import Callable

from faulty_cluster import FaultyCluster, Story

POPPED = "before kombu.transport.redis:QoS.append"


def test_a_message_that_is_nowhere_is_sent_again_as_the_same_attempt(
    resting: FaultyCluster, settled: Callable[..., None]
) -> None:
    """No attempt is used up, so that a mission with one attempt is not lost either."""
    resting.arm("worker", POPPED)
    resting.start()
    resting.publish(resting.order("m-1", max_retries=0))
    resting.crashed("worker")
    assert (resting.messages(), resting.unacknowledged(), resting.effects()) == (0, set(), [])

    resting.start_worker()
    resting.silence(10)
    settled(resting)

    assert resting.story("m-1") == Story("succeeded", ("succeeded",), (1,))
    assert resting.value("SELECT sends FROM corporation.attempts") == 2
