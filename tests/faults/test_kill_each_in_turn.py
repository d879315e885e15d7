"""Every process of HQ and of the factory is killed while missions run; each mission still ends exactly once."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis

from ops.bench.cluster import Cluster

MISSIONS = 300


def publish(cluster: Cluster, marks: Path) -> None:
    """300 missions of a few milliseconds each, in three calls."""
    with cluster.client as client:
        for first in range(0, MISSIONS, 100):
            missions = [
                {
                    "job_id": f"m-{number}",
                    "payload": {"task": "t", "context": {"mission_kind": "noop", "mark": str(marks), "sleep": 0.02}},
                    "max_retries": 5,
                }
                for number in range(first, first + 100)
            ]
            answer = client.post("/api/v1/delegation/publish", json={"missions": missions})
            assert answer.status_code == 202, answer.text[:300]


def count(db: psycopg.Connection[Any], statement: str) -> int:
    row = db.execute(statement.encode()).fetchone()
    return int(row[0]) if row else 0


def done(db: psycopg.Connection[Any]) -> int:
    return count(db, "SELECT count(*) FROM corporation.missions WHERE finished_at IS NOT NULL")


@pytest.mark.parametrize("victims", [("engine", "worker", "api"), ("worker", "worker", "engine")])
def test_three_hundred_missions_end_once_although_each_process_is_killed(
    cluster: Cluster, tmp_path: Path, wait_until: Callable[..., Any], victims: tuple[str, ...]
) -> None:
    marks = tmp_path / "marks"
    restart = {"engine": cluster.start_engine, "worker": cluster.start_worker, "api": cluster.start_api}
    with psycopg.connect(cluster.database_url, autocommit=True) as db:
        publish(cluster, marks)
        for turn, victim in enumerate(victims, start=1):
            wait_until(lambda turn=turn: done(db) >= turn * 50, 60, f"mission {turn * 50}")
            cluster.kill(victim)
            restart[victim]()
        wait_until(lambda: done(db) == MISSIONS, 90, "all missions final")

        states = Counter(row[0] for row in db.execute("SELECT state FROM corporation.missions"))
        finals = count(
            db,
            "SELECT count(*) FROM corporation.mission_events"
            " WHERE type IN ('succeeded', 'failed', 'timed_out', 'cancelled')",
        )
        per_attempt = Counter(marks.read_text().splitlines())

    assert states == {"succeeded": MISSIONS}, cluster.log("engine")[-2000:]
    assert finals == MISSIONS
    assert max(per_attempt.values()) == 1, "an attempt did its work twice"
    assert {line.split()[0] for line in per_attempt} == {f"m-{number}" for number in range(MISSIONS)}


def test_nothing_is_left_in_the_outbox_or_unacknowledged_afterwards(
    cluster: Cluster, tmp_path: Path, wait_until: Callable[..., Any]
) -> None:
    with (
        psycopg.connect(cluster.database_url, autocommit=True) as db,
        redis.Redis.from_url(cluster.redis_url) as broker,
    ):
        publish(cluster, tmp_path / "marks")
        wait_until(lambda: done(db) == MISSIONS, 60, "all missions final")
        wait_until(lambda: broker.hlen("unacked:bench") == 0, 10, "every message acknowledged")

        assert count(db, "SELECT count(*) FROM corporation.outbox") == 0
        assert broker.llen("factory.bench") == 0
