"""The database goes away while a mission ends, for longer than the mission may take: its work is done once."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from faulty_cluster import FaultyCluster
from warm_starts import WarmStarts

from corporation.db import migrate
from corporation.embedded.postgres import start_postgres


@pytest.mark.parametrize("limit_seconds", [4])
def test_a_report_that_must_wait_for_the_database_outlives_the_missions_time_limit(
    tmp_path: Path,
    redis_url: str,
    cluster_template: Path,
    wait_until: Callable[..., Any],
    warm: WarmStarts,
    limit_seconds: int,
) -> None:
    marks, gate = tmp_path / "marks", tmp_path / "gate"
    database = start_postgres(tmp_path / "postgres", template=cluster_template, durable=False)
    try:
        migrate(database.url)
        quick = {"UA_MISSION_RETRY_BASE_SECONDS": "0.1", "UA_HEARTBEAT_INTERVAL_SECONDS": "10"}
        with FaultyCluster(
            tmp_path, database.url, redis_url, lambda holds: wait_until(holds, 60), quick, warm=warm
        ) as cluster:
            cluster.start()
            context = {"mission_kind": "noop", "mark": str(marks), "gate": str(gate)}
            order = {"job_id": "m-1", "payload": {"task": "t", "context": context}, "timeout_seconds": limit_seconds}
            with cluster.client as client:
                client.post("/api/v1/delegation/publish", json=order).raise_for_status()
                wait_until(lambda: client.get("/api/v1/missions/m-1").json()["state"] == "running", 20, "running")
                database.stop()
                gate.touch()
                wait_until(cluster.waiting_reports, 20, "the work is done while nobody can be told")
                refused = client.post("/api/v1/delegation/publish", json={"payload": {"task": "t"}})
                # The limit passes while the worker tries to store the report.
                wait_until(lambda: "time limit" in cluster.log("worker").lower(), 20, "the limit is over")
                database = start_postgres(tmp_path / "postgres", port=database.port, durable=False)

                def final() -> dict[str, Any] | None:
                    answer = client.get("/api/v1/missions/m-1")
                    return answer.json() if answer.status_code == 200 and answer.json()["finished_at"] else None

                mission = wait_until(final, 60, "the mission is final")
    finally:
        database.stop()

    assert (refused.status_code, "Retry-After" in refused.headers) == (503, True)
    assert (mission["state"], mission["attempt"]) == ("succeeded", 1)
    assert len(marks.read_text().splitlines()) == 1
