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
from warm_starts import WarmStarts

from ops.bench.cluster import TOKEN, Cluster

Said = Callable[..., tuple[int, str, str]]
STREAM, DLQ = "ua:missions:delegation", "ua:missions:dlq"


def variables(redis_url: str) -> dict[str, str]:
    """The environment of a command."""
    return {"PATH": os.environ["PATH"], "UA_REDIS_URL": redis_url, "UA_DOTENV_PATH": os.devnull}


def command(redis_url: str, *arguments: str) -> "subprocess.Popen[str]":
    """`corporation …` as a process that can be interrupted."""
    return subprocess.Popen(
        [sys.executable, "-m", "corporation.cli", *arguments],
        env=variables(redis_url),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.fixture
def said(warm: WarmStarts, redis_url: str, tmp_path: Path) -> Said:
    """The exit status of `corporation …` and what it wrote, started warm: there are many of them."""

    def run(*arguments: str, **environ: str) -> tuple[int, str, str]:
        words = ["-m", "corporation.cli", *arguments, "--state", str(tmp_path)]
        ended = warm.run(words, variables(redis_url) | environ)
        return ended.returncode, ended.stdout, ended.stderr

    return run


def test_a_stream_that_nobody_reads_is_trouble(said: Said, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.xadd(STREAM, {"envelope": "{}"})
    status, out, err = said("streams", "status")

    assert status == 1, err
    assert "Trouble: nobody reads: the group ua_workers does not exist" in out


def test_what_waits_and_who_reads_is_shown(said: Said, redis_url: str) -> None:
    """S-5: a member that is not ours is named."""
    with redis.Redis.from_url(redis_url) as client:
        client.xgroup_create(STREAM, "ua_workers", id="0", mkstream=True)
        for _ in range(5):
            client.xadd(STREAM, {"envelope": "{}"})
        client.xreadgroup("ua_workers", "worker_me", {STREAM: ">"}, count=1)
        client.xreadgroup("ua_workers", "stranger\x1b[31m", {STREAM: ">"}, count=1)
    ours = {"UA_DELEGATION_CONSUMER_NAME": "worker_me"}
    status, out, _ = said("streams", "status", **ours)
    machine = json.loads(said("streams", "status", "--json", **ours)[1])

    assert status == 1
    assert "stranger\\x1b[31m" in out
    assert "\x1b" not in out
    assert (machine["lag"], machine["pending"], machine["group_exists"]) == (3, 2, True)
    assert {one["name"]: one["own"] for one in machine["members"]}["worker_me"] is True
    assert machine["oldest_waiting_seconds"] < 60


def test_a_key_that_is_no_stream_is_named(said: Said, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.set(DLQ, "x")
    status, out, _ = said("streams", "status")

    assert status == 1
    assert f"Trouble: {DLQ} is no stream (WRONGTYPE): the key holds something that is no stream" in out


def test_the_newest_entries_are_shown_and_nothing_in_them_steers_the_terminal(said: Said, redis_url: str) -> None:
    """A17, A18: escaped wherever shown."""
    with redis.Redis.from_url(redis_url) as client:
        for number in range(5):
            client.xadd(DLQ, {"job_id": f"j-{number}\u202e", "envelope": '{"a": "\x1b[31m"}'})
    _, out, _ = said("streams", "tail", "dlq", "--count", "2")
    machine = [json.loads(line) for line in said("streams", "tail", "dlq", "--json")[1].splitlines()]

    assert [line.split("  ")[1] for line in out.splitlines()] == ["j-3\\u202e", "j-4\\u202e"]
    assert "\x1b" not in out
    assert [one["fields"]["job_id"] for one in machine] == [f"j-{number}\u202e" for number in range(5)]


@pytest.fixture
def following(redis_url: str, tmp_path: Path, wait_until: Callable[..., Any]) -> Iterator["subprocess.Popen[str]"]:
    """`tail results --follow`, which has shown one entry."""
    process = command(redis_url, "streams", "tail", "results", "--follow", "--state", str(tmp_path))
    try:
        with redis.Redis.from_url(redis_url) as client:
            wait_until(lambda: client.info("clients")["blocked_clients"], 30, "the command waits in Redis")
        end_one(redis_url)
        assert process.stdout is not None
        assert "SUCCESS  j-1" in process.stdout.readline()
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()
        process.wait(30)


def end_one(redis_url: str) -> None:
    """A mission's end is told."""
    with redis.Redis.from_url(redis_url) as client:
        client.xadd(f"{STREAM}:results", {"job_id": "j-1", "status": "SUCCESS", "envelope": "{}"})


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_following_goes_on_until_it_is_told_to_end(following: "subprocess.Popen[str]", number: signal.Signals) -> None:
    following.send_signal(number)

    assert (following.communicate(timeout=30), following.returncode) == (("", ""), 128 + number)


def test_following_ends_when_nobody_reads_any_more(following: "subprocess.Popen[str]", redis_url: str) -> None:
    assert following.stdout is not None
    assert following.stderr is not None
    following.stdout.close()
    end_one(redis_url)

    assert (following.wait(30), following.stderr.read()) == (141, "")


def test_a_redis_that_is_away_is_said_without_its_password(said: Said) -> None:
    status, _, err = said("streams", "status", UA_REDIS_URL="redis://:hidden-pw-1@127.0.0.1:1/0")

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


def test_dead_letters_run_again_after_a_look_and_a_yes(hq: Cluster, said: Said) -> None:
    there = {"UA_HQ_BASE_URL": f"http://127.0.0.1:{hq.port}", "UA_OPS_TOKEN": TOKEN}
    looked = said("streams", "replay-dlq", "--all", "--dry-run", **there)
    unasked = said("streams", "replay-dlq", "--all", **there)
    with hq.client as client:
        before = len(client.get("/api/v1/missions").json()["missions"])
    malformed = said("streams", "replay-dlq", "dl-3", "--yes", **there)
    unknown = said("streams", "replay-dlq", "dl-99", "--yes", **there)
    nothing = said("streams", "replay-dlq", **there)
    malformed_ones = said("streams", "replay-dlq", "--all", "--cause", "malformed", **there)
    done = said("streams", "replay-dlq", "--all", "--yes", "--json", **there)
    again = said("streams", "replay-dlq", "dl-1", "--yes", **there)

    assert (looked[0], "2 would be run again; nothing was" in looked[1]) == (0, True)
    assert unasked[0] != 0
    assert before == 2
    assert (malformed[0], unknown[0], nothing[0], malformed_ones[0]) == (65, 66, 2, 2)
    assert [one["job_id"] for one in json.loads(done[1])["replayed"]] == ["j-1-r1", "j-2-r1"]
    assert "dl-1  runs again as j-1-r1" in again[1]


def test_a_letter_that_is_not_taken_keeps_no_other_back(hq: Cluster, said: Said, database_url: str) -> None:
    there = {"UA_HQ_BASE_URL": f"http://127.0.0.1:{hq.port}", "UA_OPS_TOKEN": TOKEN}
    with psycopg.connect(database_url, autocommit=True) as db:
        db.execute("UPDATE corporation.missions SET job_id = repeat('x', 301) WHERE job_id = 'j-1'")
    status, out, err = said("streams", "replay-dlq", "--all", "--yes", **there)

    assert status == 65
    assert "dl-2  runs again as j-2-r1" in out
    assert "1 of 2 do not run again\ndl-1: " in err
    assert "too long" in err


def test_dead_letters_are_listed_shown_and_put_away(hq: Cluster, said: Said, database_url: str) -> None:
    """A17, A18: what a producer wrote is escaped wherever shown."""
    there = {"UA_HQ_BASE_URL": f"http://127.0.0.1:{hq.port}", "UA_OPS_TOKEN": TOKEN}

    def letters(*arguments: str, **more: str) -> tuple[int, str, str]:
        return said("dead-letters", *arguments, **(there | more))

    with psycopg.connect(database_url, autocommit=True) as db:
        db.execute(
            "UPDATE corporation.dead_letters SET raw = %s, job_id = %s WHERE id = 3", [b"\x1b[31m{", "b\u202ead"]
        )
    listed = letters("list")
    shown = letters("show", "dl-3")
    machine = json.loads(letters("show", "dl-1", "--json")[1])
    put_away = letters("discard", "dl-3", "dl-3", "--reason", "a test", "--yes")
    unknown = letters("show", "dl-99")
    nothing = letters("discard", "dl-99", "--yes")
    left = json.loads(letters("list", "--json")[1])["entries"]
    stranger = letters("list", UA_OPS_TOKEN="not-the-token-of-this-headquarters-1")
    late = said("streams", "replay-dlq", "dl-3", "--yes", **there)

    assert [line.split()[0] for line in listed[1].splitlines()[1:]] == ["dl-3", "dl-2", "dl-1"]
    assert "b\\u202ead" in listed[1]
    assert "\\x1b[31m{" in shown[1]
    assert machine["envelope"]["payload"]["task"] == "x"
    assert (put_away[0], put_away[1].splitlines()[-1]) == (0, "dl-3  discarded")
    assert unknown == (66, "", "No dead letter is called dl-99; `corporation dead-letters list` shows them\n")
    assert nothing == unknown
    assert [one["dlq_id"] for one in left] == ["dl-2", "dl-1"]
    assert (stranger[0], "does not accept the token" in stranger[2]) == (77, True)
    assert (late[0], "discarded for good" in late[2]) == (65, True)
