"""Crash table: a report is applied and the engine dies before the commit; the next engine applies it, once."""

from collections.abc import Callable

import pytest
from faulty_cluster import FaultyCluster, Story

APPLIED = "after corporation.missions.store.reporting:mark_collected"


@pytest.mark.parametrize(
    ("answer", "story"),
    [
        ("done", Story("succeeded", ("succeeded",), (1,))),
        ("failed", Story("failed", ("failed", "failed"), (1, 2))),
    ],
)
def test_a_report_that_was_not_committed_is_collected_by_the_next_engine(
    resting: FaultyCluster, settled: Callable[[FaultyCluster], None], answer: str, story: Story
) -> None:
    resting.arm("engine", APPLIED)
    resting.start()
    resting.publish(resting.order("m-1", max_retries=2, answer=answer))
    resting.crashed("engine")
    assert resting.value("SELECT count(*) FROM mailbox.celery_taskmeta WHERE collected_at IS NULL") == 1
    assert resting.story("m-1").finals == 0

    resting.start_engine()
    settled(resting)

    assert resting.story("m-1") == story
