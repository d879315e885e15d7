"""Crash table: a running mission is cancelled and the engine dies before its factory is told; it stops all the same."""

from collections.abc import Callable
from typing import Any

from faulty_cluster import FaultyCluster, Story

STOP_REQUESTED = "SELECT count(*) FROM corporation.missions WHERE cancel_requested_at IS NOT NULL AND state = 'running'"
ORDERS = "SELECT count(*) FROM corporation.outbox WHERE topic = 'stop'"


def test_a_factory_hears_of_a_cancel_without_its_message(
    resting: FaultyCluster, settled: Callable[..., None], wait_until: Callable[..., Any]
) -> None:
    """The ledger knows of it, so that the answer to the factory's next word says it; the engine need not live."""
    resting.arm("engine", "before factory_tasks.broker:CeleryBroker.stop")
    resting.start()
    resting.publish(resting.order("m-1", gate=str(resting.folder / "never")))
    wait_until(lambda: resting.story("m-1").state == "running", 20, "it runs")
    assert resting.cancel("m-1").status_code == 202
    resting.crashed("engine")
    assert (resting.value(STOP_REQUESTED), resting.value(ORDERS)) == (1, 1)

    wait_until(lambda: not resting.left().get("spool rows not reported"), 20, "the factory has stopped it")
    resting.start_engine()
    settled(resting)

    assert resting.story("m-1") == Story("cancelled", ("cancelled",), (1,))
