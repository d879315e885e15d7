"""A factory is switched off for three days with missions in its queue, at work, and done but not reported.

The three days pass in one statement: all times that HQ and the factory have written down move into the past, since the
database's clock is the only one that judges.
"""

import signal
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from datetime import datetime, timedelta
from typing import Any

import pytest
import redis
from faulty_cluster import FaultyCluster, Story

from corporation.clock import iso

DAYS = 3
ALL_TIMES_OF_HQ = """
    DO $$ DECLARE one record; BEGIN
      SET LOCAL session_replication_role = replica;  -- history may not be changed otherwise
      FOR one IN
        SELECT table_schema, table_name,
               string_agg(format('%1$I = %1$I - interval ''3 days''', column_name), ', ') AS moves
          FROM information_schema.columns JOIN information_schema.tables USING (table_schema, table_name)
         WHERE table_schema IN ('corporation', 'mailbox') AND table_type = 'BASE TABLE' AND data_type LIKE 'timestamp%'
         GROUP BY table_schema, table_name
      LOOP
        EXECUTE format('UPDATE %I.%I SET %s', one.table_schema, one.table_name, one.moves);
      END LOOP;
    END $$
"""
EXPIRED = "SELECT count(*) FROM corporation.missions WHERE state = 'timed_out'"
LATE = """
    SELECT m.job_id, e.attempt, a.outcome ->> 'outcome' FROM corporation.mission_events e
      JOIN corporation.missions m ON m.id = e.mission_id
      JOIN corporation.attempts a ON a.mission_id = m.id AND a.number = e.attempt
     WHERE e.type = 'late_result' ORDER BY m.job_id
"""


def three_days_pass(cluster: FaultyCluster) -> None:
    """HQ went on meanwhile: its engine has judged what is three days old now when this returns."""
    cluster.db.execute(ALL_TIMES_OF_HQ.encode())
    with closing(sqlite3.connect(cluster.spool_of("bench"), timeout=15)) as spool, spool:
        for attempt_id, started_at in spool.execute("SELECT attempt_id, started_at FROM attempts").fetchall():
            before = iso(datetime.fromisoformat(started_at) - timedelta(days=DAYS))
            spool.execute("UPDATE attempts SET started_at = ? WHERE attempt_id = ?", (before, attempt_id))
    with redis.Redis.from_url(cluster.redis_url) as broker:
        taken: Any = broker.zrange("unacked:bench_index", 0, -1)
        for tag in taken:
            broker.zincrby("unacked:bench_index", -DAYS * 86_400, tag)
    cluster.heard_of("another")


@pytest.fixture
def left(resting: FaultyCluster, wait_until: Callable[..., Any]) -> FaultyCluster:
    """Two missions at work, and in the queue or the ledger three of no hurry and three that are worth an hour.

    The worker would be killed when it has the first report on its disk.
    """

    def order(job_id: str, max_retries: int = 1, **more: Any) -> dict[str, Any]:
        return {**resting.order(job_id, max_retries, target_factory_id="bench"), **more}

    resting.arm("worker", "after corporation.federation.spool:Spool.finish")
    resting.start()
    for job_id, max_retries in (("at-work", 2), ("reported", 0)):
        gate = str(resting.folder / f"{job_id}.gate")
        resting.publish(resting.order(job_id, max_retries, target_factory_id="bench", gate=gate))
    wait_until(lambda: len(resting.effects()) == 2, 20, "two at work")
    resting.publish(*(order(f"patient-{number}") for number in range(3)))
    resting.publish(*(order(f"urgent-{number}", ttl_seconds=3600) for number in range(3)))
    wait_until(lambda: resting.messages() == 4, 20, "four in the queue, two in the ledger")
    return resting


def come_back(cluster: FaultyCluster, wait_until: Callable[..., Any]) -> None:
    """The factory works again; `pytest -s` shows after how many seconds (target: 5)."""
    done, began = len(cluster.effects()), time.monotonic()
    cluster.start_worker()
    wait_until(lambda: len(cluster.effects()) > done, 30, "its first mission after three days")
    print(f"\nfirst mission {time.monotonic() - began:.2f} s after the start of the worker")  # noqa: T201


def assert_the_rest_was_kept_or_expired(cluster: FaultyCluster) -> None:
    for number in range(3):
        patient, urgent = cluster.story(f"patient-{number}"), cluster.story(f"urgent-{number}")
        given_back = ("withdrawn",) * (len(patient.attempts) - 1)
        assert patient == Story("succeeded", (*given_back, "succeeded"), (len(patient.attempts),))
        assert urgent == Story("timed_out", ("withdrawn",) * len(urgent.attempts), ())


def test_a_factory_that_was_stopped_for_three_days_takes_up_what_is_still_wanted(
    left: FaultyCluster,
    settled: Callable[..., None],
    wait_until: Callable[..., Any],
) -> None:
    """S-26: what was worth an hour is `timed_out`; the rest begins at once when the factory is back."""
    (left.folder / "worker.crashed").touch()  # it is not killed, but stopped
    worker = left.processes.pop("worker")
    worker.send_signal(signal.SIGTERM)
    wait_until(lambda: "Warm shutdown" in left.log("worker"), 20, "it takes nothing more")
    for job_id in ("at-work", "reported"):
        (left.folder / f"{job_id}.gate").touch()
    assert worker.wait(30) == 0
    three_days_pass(left)
    wait_until(lambda: left.messages() == 0, 30, "HQ takes back what lies in its queue")
    wait_until(lambda: left.value(EXPIRED) == 3, 30, "what expired is final")

    come_back(left, wait_until)
    settled(left)

    assert left.story("at-work") == left.story("reported") == Story("succeeded", ("succeeded",), (1,))
    assert_the_rest_was_kept_or_expired(left)


def test_what_a_factory_had_not_said_when_it_was_killed_is_kept_three_days_later(
    left: FaultyCluster,
    settled: Callable[..., None],
    wait_until: Callable[..., Any],
) -> None:
    """S-32: both attempts are over by then, so the report on its disk is kept as a late result and changes nothing."""
    (left.folder / "reported.gate").touch()
    left.crashed("worker")
    three_days_pass(left)
    wait_until(lambda: left.messages() == 0, 30, "HQ takes back what lies in its queue")
    wait_until(lambda: left.value(EXPIRED) == 3, 30, "what expired is final")
    wait_until(lambda: left.story("reported").state == "failed", 30, "its only attempt is given up")
    (left.folder / "at-work.gate").touch()

    come_back(left, wait_until)
    settled(left)

    assert left.story("at-work") == Story("succeeded", ("lost", "succeeded"), (1, 2))
    assert left.story("reported") == Story("failed", ("lost",), (1,))
    assert left.db.execute(LATE.encode()).fetchall() == [("at-work", 1, "lost"), ("reported", 1, "done")]
    assert_the_rest_was_kept_or_expired(left)
