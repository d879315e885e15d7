"""When a worker whose loop stands still is restarted: never while Redis is away, late while something runs."""

import pytest

from factory_tasks.loop_watch import LoopSigns, judge_loop


@pytest.mark.parametrize(
    ("loop_age", "connected_for", "running", "verdict"),
    [
        (0, 0, 0, "turns"),
        (0, 10_000, 3, "turns"),
        (60, 10_000, 0, "turns"),
        (60.1, 10_000, 0, "restart"),
        (10_000, 0, 0, "turns"),
        (10_000, 60, 0, "turns"),
        (10_000, 60.1, 0, "restart"),
        (60.1, 10_000, 1, "waits"),
        (600, 10_000, 1, "waits"),
        (600.1, 10_000, 1, "restart"),
        (10_000, 60, 1, "turns"),
    ],
)
def test_the_verdict_on_a_loop(loop_age: float, connected_for: float, running: int, verdict: str) -> None:
    assert judge_loop(LoopSigns(loop_age, connected_for, running)) == verdict
