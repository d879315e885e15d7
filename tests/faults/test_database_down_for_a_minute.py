"""The database is killed while missions run: publishers are told to come again, and nothing is lost or called failed.

By default the outage ends when every loop of HQ and a worker have noticed it, after two seconds; what a longer one adds
is more of the same retries. `FAULTS_OUTAGE_SECONDS=60` makes it as long as its name says.
"""

import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from faulty_cluster import QUICK, FaultyCluster
from warm_starts import WarmStarts

from corporation.db import migrate
from corporation.embedded.postgres import start_postgres

OUTAGE_SECONDS = float(os.environ.get("FAULTS_OUTAGE_SECONDS", "0"))
LOOPS = ("dispatcher", "sender", "collector", "rescuer", "publisher")
MISSIONS = 60
CALLERS = 10


def test_a_database_that_is_down_loses_nothing_and_fails_nothing(
    tmp_path: Path,
    redis_url: str,
    cluster_template: Path,
    wait_until: Callable[..., Any],
    settled: Callable[..., None],
    warm: WarmStarts,
) -> None:
    """H-37: 503 with Retry-After; who comes again with the same key has one mission."""
    refused: list[httpx.Response] = []
    database = start_postgres(tmp_path / "postgres", template=cluster_template, durable=False)
    try:
        migrate(database.url)
        with FaultyCluster(
            tmp_path, database.url, redis_url, lambda it: wait_until(it, 60), QUICK, warm=warm
        ) as cluster:
            cluster.start()
            callers = [cluster.order(f"refused-{number}", max_retries=1) for number in range(CALLERS)]
            cluster.publish(*(cluster.order(f"m-{number}", max_retries=1, sleep=0.05) for number in range(MISSIONS)))
            wait_until(lambda: len(cluster.effects()) >= 10, 30, "the missions run")
            os.killpg(database.process.pid, signal.SIGKILL)
            database.process.wait()
            gone = time.monotonic()

            def long_enough() -> bool:
                refused.append(cluster.ask(callers[len(refused) % CALLERS]))
                noticed = all(f'"loop": "{loop}"' in cluster.log("engine") for loop in LOOPS)
                return noticed and cluster.waiting_reports() > 0 and time.monotonic() - gone > OUTAGE_SECONDS

            wait_until(long_enough, 30 + 10 * OUTAGE_SECONDS, "everybody has noticed")
            worked = len(cluster.effects())
            database = start_postgres(tmp_path / "postgres", port=database.port, durable=False)
            cluster.db.close()
            del cluster.db
            wait_until(lambda: cluster.ask(callers[0]).status_code in (200, 202), 30, "HQ takes missions again")
            for order in callers[1:]:
                assert cluster.ask(order).status_code == 202
            settled(cluster, 90)
            states = Counter(row[0] for row in cluster.db.execute("SELECT state FROM corporation.missions"))
            attempts = cluster.value("SELECT count(*) FROM corporation.attempts")
            effects, told = Counter(cluster.effects()), Counter(cluster.told())
    finally:
        database.stop()

    assert worked < MISSIONS, "the outage fell into the run"
    assert {(answer.status_code, "Retry-After" in answer.headers) for answer in refused} == {(503, True)}
    assert states == {"succeeded": MISSIONS + CALLERS}
    assert attempts == MISSIONS + CALLERS, "no attempt was called failed or lost"
    assert set(effects.values()) == {1}
    assert (len(effects), len(told)) == (attempts, attempts)
    # S-33: what was being told when the database died is told once more.
    assert set(told.values()) <= {1, 2}
