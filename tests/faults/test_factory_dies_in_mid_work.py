"""Crash table: the factory dies in mid-work; the work may be done twice, but as two attempts, never in one."""

from collections.abc import Callable

import pytest
from faulty_cluster import FaultyCluster, Story

WORKED = "after ops.bench.noop:leave_mark"


@pytest.mark.parametrize("alone", [False, True], ids=["the whole worker", "the process of the mission"])
@pytest.mark.parametrize(
    ("max_retries", "story"),
    [
        (2, Story("succeeded", ("lost", "succeeded"), (1, 2))),
        (0, Story("failed", ("lost",), (1,))),
    ],
)
def test_work_that_was_cut_off_is_done_again_as_another_attempt_or_ends_as_lost(
    resting: FaultyCluster, settled: Callable[[FaultyCluster], None], max_retries: int, story: Story, alone: bool
) -> None:
    """S-27: with `max_retries` 0 the work is done at most once, and the mission says that it was lost."""
    resting.arm("worker", WORKED, alone=alone)
    resting.start()
    resting.publish(resting.order("m-1", max_retries=max_retries))
    if alone:
        resting.crashed_alone("worker")
    else:
        resting.crashed("worker")
        assert resting.story("m-1").finals == 0
        resting.start_worker()
    settled(resting)

    assert resting.story("m-1") == story
    error = resting.value("SELECT error FROM corporation.missions")
    assert error is None if max_retries else error.startswith("lost")
