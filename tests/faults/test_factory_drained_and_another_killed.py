"""Two factories, 200 missions: one is drained in the middle, the other is killed, and every mission ends once.

The factory that was drained is resumed when its neighbour is dead, and does what that one had.
"""

import contextlib
import os
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import psutil
import pytest
from faulty_cluster import QUICK, FaultyCluster

MISSIONS = 200
NAMES = ("alpha", "beta")
REAL_LEASE = "FAULTS_REAL_LEASE" in os.environ
"""Wait for the dead one's lease instead of ending it in the ledger; `ops/bench/fleet_story` always does."""
LAPSE = "UPDATE corporation.attempts SET lease_expires_at = now() WHERE factory_id = %s AND finished_at IS NULL"
LEASE_SECONDS = int(QUICK["UA_ATTEMPT_LEASE_SECONDS"])
LIVE = "SELECT count(*) FROM corporation.attempts WHERE factory_id = %s AND finished_at IS NULL"
GIVEN = "SELECT count(*) FROM corporation.attempts WHERE factory_id = %s AND state <> 'withdrawn'"
RUNNING = "SELECT count(*) FROM corporation.missions WHERE factory_id = %s AND state = 'running'"
HELD = "SELECT job_id FROM corporation.missions WHERE factory_id = %s AND finished_at IS NULL"
REASONS = """
    SELECT DISTINCT state_reason FROM corporation.missions
     WHERE target_factory_id = 'alpha' AND mission_kind = 'noop'
"""
PLACES = "SELECT DISTINCT target_factory_id, factory_id FROM corporation.missions WHERE mission_kind = 'noop'"


@pytest.fixture
def fleet(resting: FaultyCluster) -> FaultyCluster:
    """API, engine, and the factories `alpha` (over Redis) and `beta` (over HTTPS alone), of two slots each."""
    resting.start_api()
    resting.start_engine()
    resting.start_control("alpha-control", factory="alpha")
    resting.start_worker("alpha", factory="alpha")
    resting.start_pull("beta", factory="beta", standby=False)
    resting.wait(lambda: resting.value("SELECT count(*) FROM corporation.factories WHERE slots = 2") == 2)
    return resting


def control(cluster: FaultyCluster, action: str, **more: Any) -> None:
    with cluster.client as client:
        body = {"target_factory_id": "alpha", "action": action, **more}
        client.post("/api/v1/ops/factory/control", json=body).raise_for_status()


def test_each_of_two_hundred_missions_ends_once(
    fleet: FaultyCluster, wait_until: Callable[..., Any], settled: Callable[..., None]
) -> None:
    """F-17, F-20, F-21: what waits at the drained one moves, what runs there ends; a lease ends the rest."""
    fleet.publish(*(fleet.order(f"m-{number}", sleep=0.05) for number in range(MISSIONS)))
    wait_until(lambda: len(fleet.effects()) >= MISSIONS / 4, 60, "a quarter is done")
    control(fleet, "drain", note="moving the desk")
    wait_until(lambda: not fleet.value(LIVE, "alpha"), 30, "alpha has nothing left")
    here = fleet.value(GIVEN, "alpha")
    wait_until(lambda: len(fleet.effects()) >= MISSIONS / 2, 60, "half is done, by beta")
    assert fleet.value(GIVEN, "alpha") == here, "a drained factory is given nothing"

    wait_until(lambda: fleet.value(RUNNING, "beta"), 10, "beta works")
    family = psutil.Process(fleet.processes["beta"].pid).children(recursive=True)
    fleet.kill("beta")
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):  # a slot that had just ended, or ended with its parent
            process.kill()
    died = time.monotonic()
    held = {row[0] for row in fleet.db.execute(HELD, ["beta"])}
    control(fleet, "resume")
    if REAL_LEASE:
        wait_until(lambda: not fleet.value(LIVE, "beta"), LEASE_SECONDS + 5, "the lease ends what the dead one held")
    else:
        fleet.db.execute(LAPSE, ["beta"])
    noticed = time.monotonic() - died
    settled(fleet, 60)

    states = Counter(row[0] for row in fleet.db.execute("SELECT state FROM corporation.missions"))
    done = Counter(job_id for job_id, _ in fleet.effects())
    assert set(states) == {"succeeded"}
    assert len(done) == MISSIONS
    assert noticed <= LEASE_SECONDS + 5
    assert {job_id for job_id, times in done.items() if times > 1} <= held, (
        "only what the dead one ran may have been done again, as a new attempt"
    )
    assert max(Counter(fleet.effects()).values()) == 1, "no attempt was run twice"
    told = Counter(fleet.told())
    assert {told[f"m-{number}"] for number in range(MISSIONS)} == {1}


def test_a_mission_that_names_its_factory_waits_for_it_and_for_no_other(
    fleet: FaultyCluster, wait_until: Callable[..., Any], settled: Callable[..., None]
) -> None:
    """Targets decide: each mission is done where it belongs, however idle the other one is."""
    control(fleet, "pause", note="away")
    orders = [fleet.order(f"{name}-{number}", target_factory_id=name) for number in range(5) for name in NAMES]
    fleet.publish(*orders)
    wait_until(lambda: len(fleet.effects()) == 5, 30, "beta has done its own")
    wait_until(lambda: fleet.db.execute(REASONS).fetchall() == [("target_paused",)], 10, "alpha's wait for it")
    control(fleet, "resume")
    settled(fleet, 60)

    assert sorted(fleet.db.execute(PLACES).fetchall()) == [("alpha", "alpha"), ("beta", "beta")]
