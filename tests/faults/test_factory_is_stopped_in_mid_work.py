"""Crash table: a factory is stopped in mid-work; what it still ran was handed back, and took nobody down."""

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
from faulty_cluster import FaultyCluster, Story

Wait = Callable[..., Any]
SLOTS = "SELECT slots FROM corporation.factories WHERE factory_id = 'bench'"
ATTEMPTS = "SELECT state, took_worker, error FROM corporation.attempts ORDER BY number"
HANDED_BACK = ("lost", False, "lost: its factory was stopped while it ran")


@pytest.fixture(params=["redis", "https"])
def name(request: pytest.FixtureRequest, resting: FaultyCluster) -> str:
    """API, engine and one process with two slots; what it is called."""
    resting.start_api()
    resting.start_engine()
    name = "worker" if request.param == "redis" else "pull"
    begin(resting, name)
    return name


def begin(cluster: FaultyCluster, name: str) -> None:
    if name == "worker":
        cluster.start_worker()
    else:
        cluster.start_pull(standby=False)
    cluster.wait(lambda: cluster.value(SLOTS) == 2)


def attempts(cluster: FaultyCluster) -> list[tuple[str, bool, str | None]]:
    return [tuple(row) for row in cluster.db.execute(ATTEMPTS)]


def begun(cluster: FaultyCluster, wait_until: Wait, number: int) -> None:
    """Attempt `number` is at work when this returns."""
    wait_until(lambda: [tried for _, tried in cluster.effects()][-1:] == [number], 20, f"attempt {number} at work")


def told(cluster: FaultyCluster, name: str, wait_until: Wait) -> None:
    """The process was told to stop, and HQ has heard that it leaves."""
    cluster.processes[name].send_signal(signal.SIGTERM)
    wait_until(lambda: cluster.value(SLOTS) == 0, 20, "it leaves")


def published(cluster: FaultyCluster, wait_until: Wait) -> None:
    """A mission that may be tried twice is at work, until it is let go."""
    cluster.publish(cluster.order("m-1", max_retries=2, gate=str(cluster.folder / "gate")))
    begun(cluster, wait_until, 1)


def tried_again(cluster: FaultyCluster, name: str) -> None:
    """The process has ended in order, and started again; the mission is let go."""
    assert cluster.processes[name].wait(20) == 0
    (cluster.folder / "gate").touch()
    begin(cluster, name)


def test_a_stop_hands_back_what_runs_and_quarantines_nothing(
    name: str, resting: FaultyCluster, wait_until: Wait, settled: Callable[[FaultyCluster], None]
) -> None:
    """F-23, S-30: the supervisor kills what does not end in time; three times, and each uses up one attempt."""
    gate = resting.folder / "gate"
    resting.publish(resting.order("m-1", max_retries=5, gate=str(gate)))
    for number in (1, 2, 3):
        begun(resting, wait_until, number)
        told(resting, name, wait_until)
        resting.kill(name)
        begin(resting, name)
    begun(resting, wait_until, 4)
    gate.touch()
    settled(resting)

    assert resting.story("m-1") == Story("succeeded", ("lost", "lost", "lost", "succeeded"), (1, 2, 3, 4))
    assert attempts(resting)[:3] == [HANDED_BACK] * 3


def test_a_stop_of_the_whole_group_hands_back_as_well(
    name: str, resting: FaultyCluster, wait_until: Wait, settled: Callable[[FaultyCluster], None]
) -> None:
    """As systemd does it: the processes of the missions hear SIGTERM too, and end at once."""
    published(resting, wait_until)
    os.killpg(resting.processes[name].pid, signal.SIGTERM)
    tried_again(resting, name)
    settled(resting)

    assert resting.story("m-1") == Story("succeeded", ("lost", "succeeded"), (1, 2))
    state, took_worker, error = attempts(resting)[0]
    assert (state, took_worker) == ("lost", False)
    assert str(error).endswith("as when its factory was stopped")


def test_what_dies_while_its_worker_waits_for_it_counts_as_ever(
    name: str, resting: FaultyCluster, wait_until: Wait, settled: Callable[[FaultyCluster], None]
) -> None:
    """The worker was told to stop, and yet it was not the stop that ended the mission."""
    published(resting, wait_until)
    told(resting, name, wait_until)
    os.kill(resting.spool_owner("m-1"), signal.SIGKILL)
    tried_again(resting, name)
    settled(resting)

    assert resting.story("m-1") == Story("succeeded", ("lost", "succeeded"), (1, 2))
    assert attempts(resting)[0][:2] == ("lost", True)


def test_a_second_word_ends_what_runs_and_hands_it_back(
    name: str, resting: FaultyCluster, wait_until: Wait, settled: Callable[[FaultyCluster], None]
) -> None:
    """Ctrl-C twice: a cold shutdown of Celery, and the same of the process that claims over HTTPS."""
    published(resting, wait_until)
    told(resting, name, wait_until)
    resting.processes[name].send_signal(signal.SIGQUIT if name == "worker" else signal.SIGTERM)
    tried_again(resting, name)
    settled(resting)

    assert resting.story("m-1") == Story("succeeded", ("lost", "succeeded"), (1, 2))
    assert attempts(resting)[0][:2] == ("lost", False)
