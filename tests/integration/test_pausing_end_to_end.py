"""A factory is paused with real processes: what runs ends, what waits stays, a restart changes nothing; it resumes."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from ops.bench.cluster import Cluster

CONTROL = "/api/v1/ops/factory/control"
QUICK = {"UA_HEARTBEAT_INTERVAL_SECONDS": "10"}


@pytest.fixture
def cluster(tmp_path: Path, module_servers: tuple[str, str], wait_until: Callable[..., Any]) -> Iterator[Cluster]:
    """API, engine, and a factory with one slot and its control worker."""
    database_url, redis_url = module_servers
    with Cluster(tmp_path, database_url, redis_url, lambda condition: wait_until(condition, 60), QUICK) as cluster:
        cluster.start_api()
        cluster.start_engine()
        cluster.start_control()
        cluster.start_worker(slots=1)
        with psycopg.connect(database_url, autocommit=True) as db:
            ready = "SELECT 1 FROM corporation.factories WHERE slots = 1 AND queues::text LIKE '%bench.control%'"
            wait_until(lambda: db.execute(ready).fetchone(), 30, "both workers are in a beat")
        yield cluster


def published(cluster: Cluster, job_id: str, **context: Any) -> None:
    order = {"mission_kind": "noop", "target_factory_id": "bench"} | context
    body = {"job_id": job_id, "payload": {"task": "t", "context": order}}
    with cluster.client as client:
        client.post("/api/v1/delegation/publish", json=body).raise_for_status()


def ordered(cluster: Cluster, action: str) -> str:
    """The job_id of the order."""
    with cluster.client as client:
        body = {"target_factory_id": "bench", "action": action, "note": "moving the desk"}
        return str(client.post(CONTROL, json=body).raise_for_status().json()["job_id"])


def mission(cluster: Cluster, job_id: str) -> dict[str, Any]:
    with cluster.client as client:
        return dict(client.get(f"/api/v1/missions/{job_id}").raise_for_status().json())


def test_a_pause_lets_what_runs_end_keeps_what_waits_and_outlives_the_worker(
    cluster: Cluster, tmp_path: Path, wait_until: Callable[..., Any]
) -> None:
    """F-20 to F-22."""
    gate = tmp_path / "gate"

    def is_now(job_id: str, state: str, reason: str | None = None) -> bool:
        found = mission(cluster, job_id)
        return (found["state"], found["state_reason"]) == (state, reason)

    published(cluster, "runs", gate=str(gate))
    wait_until(lambda: is_now("runs", "running"), 30, "it runs")
    published(cluster, "waits")
    wait_until(lambda: is_now("waits", "queued"), 30, "the next one is in its queue")

    pause = ordered(cluster, "pause")
    wait_until(lambda: is_now("waits", "waiting", "target_paused"), 10, "it was given back")
    wait_until(lambda: is_now(pause, "succeeded"), 30, "the control worker has carried it out, at once")
    assert mission(cluster, pause)["result"]["note"] == "moving the desk"
    gate.touch()
    wait_until(lambda: is_now("runs", "succeeded"), 30, "what ran has ended")
    assert mission(cluster, "waits")["attempts_left"] == 3, "to be given back uses up no attempt"

    cluster.stop("worker")
    cluster.start_worker(slots=1)
    assert is_now("waits", "waiting", "target_paused")
    resume = ordered(cluster, "resume")
    wait_until(lambda: is_now("waits", "succeeded"), 30, "it runs after all")
    wait_until(lambda: is_now(resume, "succeeded"), 30, "the resume was carried out")
