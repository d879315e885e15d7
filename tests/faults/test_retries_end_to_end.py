"""What a handler answers decides how often its mission is tried, through real processes once."""

from collections.abc import Callable

import pytest
from faulty_cluster import FaultyCluster, Story


@pytest.fixture
def tried(resting: FaultyCluster, settled: Callable[..., None]) -> FaultyCluster:
    """One mission for each answer of a handler, all of them over; no wait is longer than 0.3 s."""
    resting.more = {**resting.more, "UA_MISSION_RETRY_CAP_SECONDS": "0.3"}
    resting.start()
    resting.publish(
        resting.order("done", max_retries=4),
        resting.order("later", max_retries=2, answer="later", after=0.7),
        resting.order("stop", max_retries=4, answer="stop"),
        resting.order("failed", max_retries=4, answer="failed"),
        resting.order("raised", max_retries=2, answer="raise"),
        resting.order("once", max_retries=0, answer="raise"),
    )
    settled(resting)
    return resting


def waits(cluster: FaultyCluster, job_id: str) -> list[float]:
    """The seconds between the attempts of this mission, as HQ decided them."""
    events = cluster.db.execute(
        "SELECT (e.detail ->> 'delay_seconds')::float FROM corporation.mission_events e"
        " JOIN corporation.missions m ON m.id = e.mission_id"
        " WHERE m.job_id = %s AND e.type = 'retry_scheduled' ORDER BY e.seq",
        [job_id],
    )
    return [row[0] for row in events]


def test_each_answer_of_a_handler_has_its_own_end(tried: FaultyCluster) -> None:
    """S-27 to S-29: `Done` and `Stop` end it, all else is tried again while attempts are left."""
    jobs = ("done", "later", "stop", "failed", "raised", "once")
    stories = {job_id: tried.story(job_id) for job_id in jobs}
    errors = dict(tried.db.execute("SELECT job_id, error FROM corporation.missions").fetchall())
    backoff = waits(tried, "failed")

    assert stories == {
        "done": Story("succeeded", ("succeeded",), (1,)),
        "later": Story("failed", ("failed",) * 2, (1, 2)),
        "stop": Story("failed", ("failed",), (1,)),
        "failed": Story("failed", ("failed",) * 4, (1, 2, 3, 4)),
        "raised": Story("failed", ("failed",) * 2, (1, 2)),
        "once": Story("failed", ("failed",), (1,)),
    }
    assert errors == {
        "done": None,
        "later": "asked to wait",
        "stop": "asked to stop",
        "failed": "asked to fail",
        "raised": "ValueError: asked to raise",
        "once": "ValueError: asked to raise",
    }
    assert waits(tried, "later") == [0.7]
    assert [0.08 <= backoff[0] <= 0.12, 0.16 <= backoff[1] <= 0.24, 0.3 >= backoff[2] >= 0.3 * 0.8] == [True] * 3
    assert len(backoff) == 3
