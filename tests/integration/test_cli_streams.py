"""`corporation streams`: what is seen of the streams, and dead letters that run again."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis

from ops.bench.cluster import TOKEN, Cluster

STREAM, DLQ = "ua:missions:delegation", "ua:missions:dlq"


def command(redis_url: str, *arguments: str, **environ: str) -> "subprocess.Popen[str]":
    """`corporation …` as a process."""
    return subprocess.Popen(
        [sys.executable, "-m", "corporation.cli", *arguments],
        env={"PATH": os.environ["PATH"], "UA_REDIS_URL": redis_url, "UA_DOTENV_PATH": os.devnull, **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def said(redis_url: str, tmp_path: Path, *arguments: str, **environ: str) -> tuple[int, str, str]:
    """Its exit status and what it wrote."""
    process = command(redis_url, "streams", *arguments, "--state", str(tmp_path), **environ)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def test_a_stream_that_nobody_reads_is_trouble(redis_url: str, tmp_path: Path) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.xadd(STREAM, {"envelope": "{}"})
    status, out, err = said(redis_url, tmp_path, "status")

    assert status == 1, err
    assert "Trouble: nobody reads: the group ua_workers does not exist" in out


def test_what_waits_and_who_reads_is_shown(redis_url: str, tmp_path: Path) -> None:
    """S-5: a member that is not ours is named."""
    with redis.Redis.from_url(redis_url) as client:
        client.xgroup_create(STREAM, "ua_workers", id="0", mkstream=True)
        for _ in range(5):
            client.xadd(STREAM, {"envelope": "{}"})
        client.xreadgroup("ua_workers", "worker_me", {STREAM: ">"}, count=1)
        client.xreadgroup("ua_workers", "stranger\x1b[31m", {STREAM: ">"}, count=1)
    ours = {"UA_DELEGATION_CONSUMER_NAME": "worker_me"}
    status, out, _ = said(redis_url, tmp_path, "status", **ours)
    machine = json.loads(said(redis_url, tmp_path, "status", "--json", **ours)[1])

    assert status == 1
    assert "stranger\\x1b[31m" in out
    assert "\x1b" not in out
    assert (machine["lag"], machine["pending"], machine["group_exists"]) == (3, 2, True)
    assert {one["name"]: one["own"] for one in machine["members"]}["worker_me"] is True
    assert machine["oldest_waiting_seconds"] < 60


def test_a_key_that_is_no_stream_is_named(redis_url: str, tmp_path: Path) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.set(DLQ, "x")
    status, out, _ = said(redis_url, tmp_path, "status")

    assert status == 1
    assert f"Trouble: {DLQ} is no stream (WRONGTYPE): the key holds something that is no stream" in out


def test_the_newest_entries_are_shown_and_nothing_in_them_steers_the_terminal(redis_url: str, tmp_path: Path) -> None:
    """A17, A18: escaped wherever shown."""
    with redis.Redis.from_url(redis_url) as client:
        for number in range(5):
            client.xadd(DLQ, {"job_id": f"j-{number}\u202e", "envelope": '{"a": "\x1b[31m"}'})
    _, out, _ = said(redis_url, tmp_path, "tail", "dlq", "--count", "2")
    machine = [json.loads(line) for line in said(redis_url, tmp_path, "tail", "dlq", "--json")[1].splitlines()]

    assert [line.split("  ")[1] for line in out.splitlines()] == ["j-3\\u202e", "j-4\\u202e"]
    assert "\x1b" not in out
    assert [one["fields"]["job_id"] for one in machine] == [f"j-{number}\u202e" for number in range(5)]


def test_following_goes_on_until_it_is_interrupted(
    redis_url: str, tmp_path: Path, wait_until: Callable[..., Any]
) -> None:
    process = command(redis_url, "streams", "tail", "results", "--follow", "--state", str(tmp_path))
    try:
        with redis.Redis.from_url(redis_url) as client:
            wait_until(lambda: client.info("clients")["blocked_clients"], 30, "the command waits in Redis")
            client.xadd(f"{STREAM}:results", {"job_id": "j-1", "status": "SUCCESS", "envelope": "{}"})
        assert process.stdout is not None
        line = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()

    assert "SUCCESS  j-1" in line
    assert (process.returncode, err) == (130, "")


def test_a_redis_that_is_away_is_said_without_its_password(tmp_path: Path) -> None:
    status, _, err = said("redis://:hidden-pw-1@127.0.0.1:1/0", tmp_path, "status")

    assert status == 69
    assert "Redis at redis://:***@127.0.0.1:1/0 failed (ConnectionError)" in err
    assert "hidden-pw-1" not in err


@pytest.fixture
def hq(tmp_path: Path, database_url: str, redis_url: str, wait_until: Callable[..., Any]) -> Iterator[Cluster]:
    """An API with three dead letters: two missions that failed, and an entry that was none."""
    with Cluster(tmp_path, database_url, redis_url, lambda condition: wait_until(condition, 60)) as cluster:
        cluster.start_api()
        with cluster.client as client, psycopg.connect(database_url, autocommit=True) as db:
            for number in (1, 2):
                order = {"job_id": f"j-{number}", "idempotency_key": f"k-{number}", "payload": {"task": "x"}}
                client.post("/api/v1/delegation/publish", json=order).raise_for_status()
            db.execute("""UPDATE corporation.missions SET state = 'failed', state_reason = NULL, finished_at = now(),
                                 error = 'exit 2'""")
            db.execute("""INSERT INTO corporation.dead_letters (job_id, cause, code, failure_error)
                          VALUES ('bad', 'malformed', 'invalid_json', 'invalid envelope')""")
        yield cluster


def test_dead_letters_run_again_after_a_look_and_a_yes(hq: Cluster, redis_url: str, tmp_path: Path) -> None:
    there = {"UA_HQ_BASE_URL": f"http://127.0.0.1:{hq.port}", "UA_OPS_TOKEN": TOKEN}
    looked = said(redis_url, tmp_path, "replay-dlq", "--all", "--dry-run", **there)
    unasked = said(redis_url, tmp_path, "replay-dlq", "--all", **there)
    with hq.client as client:
        before = len(client.get("/api/v1/missions").json()["missions"])
    malformed = said(redis_url, tmp_path, "replay-dlq", "dl-3", "--yes", **there)
    unknown = said(redis_url, tmp_path, "replay-dlq", "dl-99", "--yes", **there)
    nothing = said(redis_url, tmp_path, "replay-dlq", **there)
    done = said(redis_url, tmp_path, "replay-dlq", "--all", "--yes", "--json", **there)
    again = said(redis_url, tmp_path, "replay-dlq", "dl-1", "--yes", **there)

    assert (looked[0], "2 would be run again; nothing was" in looked[1]) == (0, True)
    assert unasked[0] != 0
    assert before == 2
    assert (malformed[0], unknown[0], nothing[0]) == (65, 66, 2)
    assert sorted(one["job_id"] for one in json.loads(done[1])["replayed"]) == ["j-1-r1", "j-2-r1"]
    assert "dl-1  runs again as j-1-r1" in again[1]
