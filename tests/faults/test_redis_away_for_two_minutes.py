"""Redis is gone while missions are published: the factory gets them over HTTPS, and each is done once.

By default the outage ends as soon as the factory has worked without Redis for a while; `FAULTS_OUTAGE_SECONDS=120`
makes it as long as its name says.
"""

import itertools
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from faulty_cluster import QUICK, FaultyCluster
from warm_starts import WarmStarts

from corporation.embedded.valkey import start_valkey

OUTAGE_SECONDS = float(os.environ.get("FAULTS_OUTAGE_SECONDS", "0"))
MISSIONS = 100
BEFORE = 40
"""How many are published before the outage; the rest come one by one while it lasts."""
SWITCH_SECONDS = 30.0
OPEN = "SELECT count(*) FROM corporation.missions WHERE finished_at IS NULL"
NEWEST = "SELECT over_https FROM corporation.attempts ORDER BY created_at DESC LIMIT 1"


def test_missions_go_on_over_https_while_redis_is_away(
    tmp_path: Path,
    database_url: str,
    wait_until: Callable[..., Any],
    settled: Callable[..., None],
    warm: WarmStarts,
) -> None:
    """H-5, D21: publishes are accepted, the way changes within 30 s and back again, and nobody is called offline."""
    server = start_valkey(tmp_path / "valkey")
    statuses: set[str] = set()
    try:
        with FaultyCluster(
            tmp_path, database_url, server.url, lambda it: wait_until(it, 60), QUICK, warm=warm
        ) as cluster:
            cluster.start()
            cluster.start_pull()

            def labels() -> list[str]:
                return cluster.value("SELECT capabilities FROM corporation.factories WHERE factory_id = 'bench'")

            orders = [cluster.order(f"m-{number}", max_retries=0, sleep=0.05) for number in range(MISSIONS)]
            cluster.publish(*orders[:BEFORE])
            wait_until(lambda: len(cluster.effects()) >= 5, 30, "the missions run over Redis")
            os.killpg(server.process.pid, signal.SIGKILL)
            server.process.wait()
            gone = time.monotonic()
            cluster.publish(*orders[BEFORE : BEFORE + 10])
            wait_until(lambda: "transport:http" in labels(), SWITCH_SECONDS + 5, "HQ hears of the other way")
            switched = time.monotonic() - gone
            later = iter(orders[BEFORE + 10 :])

            def long_enough() -> bool:
                if order := next(later, None):
                    cluster.publish(order)
                statuses.update(_judged(cluster))
                over_https = cluster.value("SELECT count(*) FROM corporation.attempts WHERE over_https")
                return over_https >= MISSIONS / 4 and time.monotonic() - gone > OUTAGE_SECONDS

            wait_until(long_enough, 60 + 2 * OUTAGE_SECONDS, "missions come over HTTPS")
            for order in later:
                cluster.publish(order)
            server = start_valkey(tmp_path / "valkey", port=server.port)
            wait_until(lambda: "transport:http" not in labels(), SWITCH_SECONDS + 30, "the factory uses Redis again")
            more = itertools.count()

            def comes_over_redis() -> bool:
                cluster.publish(cluster.order(f"after-{next(more)}", max_retries=0))
                wait_until(lambda: cluster.value(OPEN) == 0, 30, "it ends")
                return cluster.value(NEWEST) is False

            wait_until(comes_over_redis, 30, "missions come over Redis again")
            settled(cluster, 60)
            states = Counter(row[0] for row in cluster.db.execute("SELECT state FROM corporation.missions"))
            attempts = cluster.value("SELECT count(*) FROM corporation.attempts WHERE state <> 'withdrawn'")
            effects, told = Counter(cluster.effects()), Counter(cluster.told())
    finally:
        server.stop()

    assert switched <= SWITCH_SECONDS
    assert statuses <= {"online"}, "no factory was called stale or offline"
    published = MISSIONS + next(more)
    assert states == {"succeeded": published}
    assert attempts == published, "no attempt was called failed or lost"
    assert set(effects.values()) == {1}, "no mission ran twice"
    assert (len(effects), len(told)) == (published, published)
    assert set(told.values()) <= {1, 2}, "what was being told when Redis died may be told once more (S-33)"


def _judged(cluster: FaultyCluster) -> set[str]:
    with cluster.client as client:
        rows = client.get("/api/v1/factory/registrations").json()["registrations"]
    return {row["registration_status"] for row in rows}
