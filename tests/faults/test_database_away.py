"""The database goes away while a mission ends, for longer than the mission may take: its work is done once."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from corporation.db import migrate
from corporation.embedded.postgres import start_postgres
from ops.bench.cluster import Cluster


@pytest.mark.parametrize("limit_seconds", [4])
def test_a_report_that_must_wait_for_the_database_outlives_the_missions_time_limit(
    tmp_path: Path,
    redis_url: str,
    cluster_template: Path,
    wait_until: Callable[..., Any],
    limit_seconds: int,
) -> None:
    marks = tmp_path / "marks"
    database = start_postgres(tmp_path / "postgres", template=cluster_template, durable=False)
    try:
        migrate(database.url)
        quick = {"UA_MISSION_RETRY_BASE_SECONDS": "0.1", "UA_HEARTBEAT_INTERVAL_SECONDS": "10"}
        with Cluster(tmp_path, database.url, redis_url, lambda holds: wait_until(holds, 60), quick) as cluster:
            cluster.start_api()
            cluster.start_engine()
            cluster.start_worker()
            with psycopg.connect(database.url, autocommit=True) as db:
                wait_until(lambda: db.execute("SELECT 1 FROM corporation.factories WHERE slots = 2").fetchone(), 30)
            context = {"mission_kind": "noop", "mark": str(marks), "sleep": limit_seconds - 2}
            order = {"job_id": "m-1", "payload": {"task": "t", "context": context}, "timeout_seconds": limit_seconds}
            with cluster.client as client:
                client.post("/api/v1/delegation/publish", json=order).raise_for_status()
                wait_until(lambda: client.get("/api/v1/missions/m-1").json()["state"] == "running", 20, "running")
                database.stop()
                wait_until(marks.exists, 20, "the work is done while nobody can be told")
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
