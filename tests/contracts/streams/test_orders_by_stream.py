"""An order to a factory that comes by the stream means what one over HTTP means (fleet F-20, F-21, streams S-35)."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from independent_client import Client, mission

from ops.bench.cluster import Cluster

QUICK = {"UA_HEARTBEAT_INTERVAL_SECONDS": "10"}
FACTORIES = "/api/v1/factory/registrations"
READY = "SELECT 1 FROM corporation.factories WHERE slots = 1 AND queues::text LIKE '%bench.control%'"


@pytest.fixture
def hq(tmp_path: Path, database_url: str, redis_url: str, wait_until: Any) -> Iterator[Cluster]:
    """A whole HQ, and a factory with one mission worker and its control worker."""
    with Cluster(tmp_path, database_url, redis_url, lambda condition: wait_until(condition, 60), QUICK) as cluster:
        cluster.start_api()
        cluster.start_engine()
        cluster.start_control()
        cluster.start_worker(slots=1)
        with psycopg.connect(database_url, autocommit=True) as db:
            wait_until(lambda: db.execute(READY).fetchone(), 60, "both workers are in a beat")
        yield cluster


def order(job_id: str, kind: str, **context: Any) -> dict[str, Any]:
    """A mission for this factory alone."""
    said = {"mission_kind": kind, "target_factory_id": "bench"} | context
    return mission(job_id) | {"payload": {"task": "an order", "context": said}}


def shown(hq: Cluster, path: str) -> Any:
    with hq.client as http:
        return http.get(path).raise_for_status().json()


def factory(hq: Cluster) -> dict[str, Any]:
    return next(one for one in shown(hq, FACTORIES)["registrations"] if one["factory_id"] == "bench")


def reasons(hq: Cluster) -> list[str]:
    return [one["state_reason"] for one in shown(hq, "/api/v1/missions?state=waiting")["missions"]]


def test_a_pause_by_the_stream_lasts_until_the_resume(
    hq: Cluster, redis_url: str, wait_until: Callable[..., Any]
) -> None:
    client = Client(redis_url)
    after = client.newest(client.results)
    client.publish(order("rest", "system:pause_factory", note="moving the desk"))
    paused = client.wait_for_result("rest", after, 60)
    seen = factory(hq)

    assert paused is not None
    assert (paused["status"], paused["error"]) == ("SUCCESS", None)
    expected = {"action": "pause", "note": "moving the desk", "mission_id": "rest", "result_ref": ""}
    assert expected.items() <= paused["result"].items()
    assert (seen["paused"], seen["pause"]["who"], seen["pause"]["note"]) == (True, "redis_bridge", "moving the desk")

    client.publish(order("waits", "noop"))
    wait_until(lambda: factory(hq)["last_seen_at"] > seen["last_seen_at"], 60, "a later beat")
    wait_until(lambda: reasons(hq) == ["target_paused"], 30, "the mission says why it waits")
    still = factory(hq)
    assert (still["paused"], still["registration_status"]) == (True, "paused")

    client.publish(order("go-on", "system:resume_factory"))
    assert client.wait_for_result("go-on", after, 60) is not None
    assert client.wait_for_result("waits", after, 60) is not None
    told = [(one["job_id"], one["status"]) for one in client.read(client.results, after, 1)]
    assert sorted(told) == [("go-on", "SUCCESS"), ("rest", "SUCCESS"), ("waits", "SUCCESS")], "each is told once"
    assert factory(hq)["paused"] is False
