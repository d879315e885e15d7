"""Crash table: the processes of a factory that gets its missions over HTTPS die, with and without their parent."""

import signal
from collections.abc import Callable
from typing import Any

import psutil
import pytest
from faulty_cluster import FaultyCluster, Story


@pytest.fixture
def cluster(resting: FaultyCluster) -> FaultyCluster:
    """API, engine, and a factory with two slots that only speaks HTTPS."""
    resting.start_api()
    resting.start_engine()
    resting.start_pull(standby=False)
    resting.wait(lambda: resting.value("SELECT 1 FROM corporation.factories WHERE slots = 2"))
    return resting


def test_missions_come_and_go_over_https_alone(cluster: FaultyCluster, settled: Callable[..., None]) -> None:
    """No Redis, no mailbox: each is claimed, begun and reported over HTTPS, once."""
    cluster.publish(*(cluster.order(f"m-{number}") for number in range(20)))
    settled(cluster)

    assert {cluster.story(f"m-{number}") for number in range(20)} == {Story("succeeded", ("succeeded",), (1,))}
    assert cluster.value("SELECT bool_and(over_https) FROM corporation.attempts") is True


def test_what_a_killed_child_had_begun_is_reported_lost_and_tried_again(
    cluster: FaultyCluster, wait_until: Callable[..., Any], settled: Callable[..., None]
) -> None:
    """Without waiting for the lease: its parent sees it die."""
    gate = cluster.folder / "gate"
    cluster.publish(cluster.order("m-1", max_retries=2, gate=str(gate)))
    wait_until(lambda: cluster.effects(), 20, "it is at work")
    child = psutil.Process(cluster.spool_owner("m-1"))
    child.send_signal(signal.SIGKILL)
    gate.touch()
    settled(cluster)

    assert cluster.story("m-1") == Story("succeeded", ("lost", "succeeded"), (1, 2))


def test_what_a_killed_parent_had_begun_is_reported_lost_at_its_next_start(
    cluster: FaultyCluster, wait_until: Callable[..., Any], settled: Callable[..., None]
) -> None:
    """Its children die with it, so that nobody works unwatched."""
    gate = cluster.folder / "gate"
    cluster.publish(cluster.order("m-1", max_retries=2, gate=str(gate)))
    wait_until(lambda: cluster.effects(), 20, "it is at work")
    parent = psutil.Process(cluster.processes["pull"].pid)
    children = parent.children()
    parent.send_signal(signal.SIGKILL)
    wait_until(lambda: not any(child.is_running() for child in children), 10, "they die with it")
    cluster.kill("pull")
    gate.touch()
    cluster.start_pull(standby=False)
    settled(cluster)

    assert cluster.story("m-1") == Story("succeeded", ("lost", "succeeded"), (1, 2))


def test_what_runs_is_finished_and_told_when_the_process_is_told_to_end(
    cluster: FaultyCluster, wait_until: Callable[..., Any], settled: Callable[..., None]
) -> None:
    """F-23: SIGTERM takes nothing new, and lets what runs end."""
    gate = cluster.folder / "gate"
    cluster.publish(*(cluster.order(f"m-{number}", max_retries=0, gate=str(gate)) for number in range(3)))
    wait_until(lambda: len(cluster.effects()) == 2, 20, "two are at work")
    cluster.processes["pull"].send_signal(signal.SIGTERM)
    wait_until(lambda: cluster.value("SELECT slots FROM corporation.factories WHERE factory_id = 'bench'") == 0, 20)
    gate.touch()
    assert cluster.processes["pull"].wait(20) == 0
    assert cluster.value("SELECT count(*) FROM corporation.missions WHERE state = 'succeeded'") == 2
    cluster.start_pull("again", standby=False)
    settled(cluster)
    assert {cluster.story(f"m-{number}").attempts for number in range(3)} == {("succeeded",)}


def test_a_mission_that_comes_by_both_ways_is_done_once(
    resting: FaultyCluster, wait_until: Callable[..., Any], settled: Callable[..., None]
) -> None:
    """Its message lies in Redis when it is claimed over HTTPS; the worker that finds it later drops it."""
    resting.start_api()
    resting.start_engine()
    resting.start_worker()
    resting.wait(lambda: resting.value("SELECT 1 FROM corporation.factories WHERE slots = 2"))
    gate = resting.folder / "gate"
    resting.publish(*(resting.order(f"m-{number}", max_retries=0, gate=str(gate)) for number in range(6)))
    wait_until(lambda: len(resting.effects()) == 2 and resting.messages() == 4, 20, "two run, four lie in Redis")
    resting.start_pull("pull", slots=4, standby=False)
    wait_until(lambda: len(resting.effects()) == 4, 20, "two of those are claimed over HTTPS")
    gate.touch()
    settled(resting)

    assert {resting.story(f"m-{number}") for number in range(6)} == {Story("succeeded", ("succeeded",), (1,))}
