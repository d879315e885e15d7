"""Crash table: an attempt is committed and the engine dies before it sends the message; the next engine sends it."""

from collections.abc import Callable

from faulty_cluster import FaultyCluster, Story


def test_an_attempt_whose_engine_died_before_sending_is_sent_by_the_next(
    resting: FaultyCluster, settled: Callable[[FaultyCluster], None]
) -> None:
    """The worst case is a delay: no attempt is used up."""
    resting.arm("engine", "before factory_tasks.broker:CeleryBroker.send")
    resting.start()
    resting.publish(resting.order("m-1", max_retries=1))
    resting.crashed("engine")
    assert (resting.value("SELECT count(*) FROM corporation.outbox"), resting.effects()) == (1, [])

    resting.start_engine()
    settled(resting)

    assert resting.story("m-1") == Story("succeeded", ("succeeded",), (1,))
