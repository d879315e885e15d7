"""The clock of a factory is wrong, or is set while missions run: it decides nothing, so nothing changes (I11)."""

from collections.abc import Callable
from typing import Any

import pytest
from faulty_cluster import FaultyCluster, Story

HOUR, DAY = 3600, 86_400
RENEWED = "SELECT count(*) FROM corporation.attempts WHERE lease_expires_at > now() + interval '10 seconds'"
STRANGE = """
    SELECT count(*) FROM corporation.missions
     WHERE started_at NOT BETWEEN created_at - interval '1 second' AND now()
        OR finished_at NOT BETWEEN created_at AND now()
"""


@pytest.mark.parametrize(
    ("at_first", "then"),
    [
        (2 * HOUR, -DAY),
        (0, -10),
        (0, 3 * DAY),
    ],
    ids=["two hours ahead, then a day behind", "set back ten seconds", "set three days ahead"],
)
def test_each_mission_is_run_once_whatever_the_clock_of_its_factory_says(
    resting: FaultyCluster,
    settled: Callable[..., None],
    wait_until: Callable[..., Any],
    at_first: int,
    then: int,
) -> None:
    """The clock is set while two missions run; then another worker of the factory starts, which looks for dead ones.

    Three days ahead is beyond the time after which Redis hands a message out again: its copy is dropped.
    """
    gate = resting.folder / "gate"
    resting.clock = resting.folder / "clock"
    resting.clock.write_text(str(at_first))
    resting.start()
    resting.publish(*(resting.order(f"m-{number}", max_retries=1, gate=str(gate)) for number in range(6)))
    wait_until(lambda: len(resting.effects()) == 2, 20, "two missions at work")
    resting.clock.write_text(str(then))
    resting.db.execute("UPDATE corporation.attempts SET lease_expires_at = now() + interval '8 seconds'")
    resting.start_worker("second", slots=1)
    wait_until(lambda: resting.value(RENEWED) >= 3, 30, "what runs is still spoken of")
    if then - at_first > 2 * DAY:
        wait_until(lambda: "duplicate_dropped" in resting.log("worker") + resting.log("second"), 30, "a second copy")

    gate.touch()
    settled(resting)

    for number in range(6):
        assert resting.story(f"m-{number}") == Story("succeeded", ("succeeded",), (1,))
    assert resting.value(STRANGE) == 0
