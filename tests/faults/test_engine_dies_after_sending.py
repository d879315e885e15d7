"""Crash table: the message is sent and the engine dies before its row is removed; the second copy is not run."""

from collections.abc import Callable
from typing import Any

import pytest
from faulty_cluster import FaultyCluster, Story

SENT = "after factory_tasks.broker:CeleryBroker.send"


@pytest.mark.parametrize("first_copy", ["still in the queue", "run to its end"])
def test_two_messages_of_one_attempt_are_one_run(
    resting: FaultyCluster,
    settled: Callable[[FaultyCluster], None],
    wait_until: Callable[..., Any],
    first_copy: str,
) -> None:
    resting.arm("engine", SENT)
    resting.start()
    if first_copy == "still in the queue":
        resting.kill("worker")
    resting.publish(resting.order("m-1", max_retries=1))
    resting.crashed("engine")
    assert resting.value("SELECT count(*) FROM corporation.outbox") == 1
    if first_copy == "run to its end":
        wait_until(lambda: resting.effects() == [("m-1", 1)], 20, "the first copy is run")

    resting.start_engine()
    wait_until(lambda: resting.value("SELECT count(*) FROM corporation.outbox") == 0, 20, "the row is gone")
    if first_copy == "still in the queue":
        assert resting.messages() == 2
        resting.start_worker()
    settled(resting)

    assert resting.story("m-1") == Story("succeeded", ("succeeded",), (1,))
    # It is dropped or, between the report and its receipt, answered with the report.
    wait_until(lambda: resting.log("worker").count("] received") == 2, 10, "the second copy has come too")
