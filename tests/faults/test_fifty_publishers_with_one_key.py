"""Fifty callers publish under one key while the API is killed among them and started again: there is one mission."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from faulty_cluster import FaultyCluster, Story

CALLERS = 50


@pytest.mark.parametrize(
    ("point", "nth"),
    [("after hq_api.routers.missions:publish", 1), ("before hq_api.routers.missions:_single", 10)],
    ids=["before the first commit", "after the tenth answer was ready"],
)
def test_fifty_callers_with_one_key_have_one_mission(
    resting: FaultyCluster,
    settled: Callable[..., None],
    wait_until: Callable[..., Any],
    point: str,
    nth: int,
) -> None:
    """S-17, H-24, I9: each caller comes again until it has an answer, and all answers name the same mission."""
    resting.arm("api", point, nth=nth)
    resting.start()
    body = {key: value for key, value in resting.order("m").items() if key != "job_id"}

    def answer() -> httpx.Response | None:
        try:
            return resting.ask(body)
        except httpx.TransportError:
            return None

    with ThreadPoolExecutor(CALLERS) as callers:
        answers = [callers.submit(wait_until, answer, 30, "an answer") for _ in range(CALLERS)]
        resting.crashed("api")
        resting.start_api()
    answered = [each.result() for each in answers]
    [job_id] = {answer.json()["job_id"] for answer in answered}
    settled(resting)

    assert {answer.status_code for answer in answered} <= {200, 202}
    assert sum(answer.status_code == 202 for answer in answered) <= 1
    assert resting.value("SELECT count(*) FROM corporation.missions") == 1
    assert resting.effects() == [(job_id, 1)]
    assert resting.story(job_id) == Story("succeeded", ("succeeded",), (1,))
