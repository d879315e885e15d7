"""Crash table: a factory falls silent with missions at work and in its queue; another one does them."""

from collections.abc import Callable
from typing import Any

from faulty_cluster import FaultyCluster, Story

LONG_AGO = "UPDATE corporation.factories SET last_seen_at = now() - interval '1 day' WHERE factory_id = 'bench'"


def test_what_a_silent_factory_held_is_done_by_another_and_its_late_word_changes_nothing(
    cluster: FaultyCluster, settled: Callable[..., None], wait_until: Callable[..., Any]
) -> None:
    """One attempt is used up by what it had begun, and none by what only lay in its queue (S-32 for the late word)."""
    gate = cluster.folder / "gate"
    cluster.publish(*(cluster.order(f"begun-{number}", max_retries=2, gate=str(gate)) for number in range(2)))
    wait_until(lambda: len(cluster.effects()) == 2, 20, "two missions at work")
    cluster.publish(*(cluster.order(f"queued-{number}", max_retries=1) for number in range(2)))
    wait_until(lambda: cluster.messages() == 2, 20, "two more in the queue")
    cluster.kill("worker")
    gate.touch()

    cluster.start_worker("spare", factory="spare")
    cluster.db.execute(LONG_AGO)
    cluster.lease_over()
    wait_until(lambda: not cluster.value("SELECT count(*) FROM corporation.missions WHERE finished_at IS NULL"), 30)
    assert cluster.messages() == 0
    cluster.start_worker()
    settled(cluster)

    for number in range(2):
        assert cluster.story(f"begun-{number}") == Story("succeeded", ("lost", "succeeded"), (1, 2))
        assert cluster.story(f"queued-{number}") == Story("succeeded", ("withdrawn", "succeeded"), (2,))
    wait_until(lambda: not cluster.left("spare"), 10, "the late word is collected as well")
    assert cluster.value("SELECT count(*) FROM corporation.mission_events WHERE type = 'late_result'") == 2
