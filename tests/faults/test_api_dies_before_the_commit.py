"""Crash table: the API dies while it stores a mission; the caller asks again with the same key, and has one mission."""

from collections.abc import Callable

import httpx
import pytest
from faulty_cluster import FaultyCluster, Story


@pytest.mark.parametrize(
    ("point", "stored", "again"),
    [
        ("after hq_api.routers.missions:publish", 0, 202),
        ("before hq_api.routers.missions:_single", 1, 200),
    ],
    ids=["before the commit", "after the commit, before the answer"],
)
def test_a_caller_without_an_answer_asks_again_and_has_one_mission(
    resting: FaultyCluster, settled: Callable[[FaultyCluster], None], point: str, stored: int, again: int
) -> None:
    """H-24: 202 when nothing was kept, 200 when only the answer was lost."""
    resting.arm("api", point)
    resting.start()
    order = resting.order("m-1", max_retries=1)
    with pytest.raises(httpx.TransportError):
        resting.ask(order)
    resting.crashed("api")
    assert resting.value("SELECT count(*) FROM corporation.missions") == stored

    resting.start_api()
    assert resting.ask(order).status_code == again
    settled(resting)

    assert resting.value("SELECT count(*) FROM corporation.missions") == 1
    assert resting.story("m-1") == Story("succeeded", ("succeeded",), (1,))
