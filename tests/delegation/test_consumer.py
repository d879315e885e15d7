"""`python -m corporation.delegation.consumer`: the gate of the streams, seen from outside like any other process."""

import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from streams_at_work import KEYS, StreamsAtWork, envelope

LIMIT_SECONDS = 30


def finished(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    """The exit status and what was written, of a process that ends by itself."""
    out, err = process.communicate(timeout=LIMIT_SECONDS)
    return process.returncode, out, err


def test_once_imports_and_publishes_what_is_there_and_ends(streams: StreamsAtWork) -> None:
    streams.add(envelope("ended"))
    streams.importer.drain()
    streams.end("ended")
    for document in (
        envelope("new"),
        envelope("twin", idempotency_key="k-new"),
        "no JSON",
        envelope("new", priority=2),
    ):
        streams.add(document)
    status, out, err = finished(streams.consumer("--once"))

    assert (status, out) == (
        0,
        "imported 1, duplicates 1, conflicts 1, dead letters 1; published 1 results, 2 dead letters\n",
    ), err
    assert streams.missions() == ["ended", "new"]
    assert [one["job_id"] for one in streams.results()] == ["ended"]
    assert sorted(one["failure_error"].split(":")[0] for one in streams.dead_letters()) == [
        "invalid envelope",
        "job_id conflict",
    ]
    assert streams.pending() == 0


def test_once_with_nothing_to_do_makes_the_group_and_ends(streams: StreamsAtWork) -> None:
    """S-1, S-2: the consumer's name is the factory's, made harmless."""
    status, out, _ = finished(streams.consumer("--once", environ={"UA_FACTORY_ID": "hq test/1"}))
    streams.add()
    again, _, _ = finished(streams.consumer("--once", environ={"UA_FACTORY_ID": "hq test/1"}))

    assert (status, again) == (0, 0)
    assert out.startswith("imported 0,")
    [group] = streams.redis.xinfo_groups(KEYS.missions)
    assert (group["name"], group["lag"], group["pending"]) == (b"ua_workers", 0, 0)
    assert [one["name"] for one in streams.redis.xinfo_consumers(KEYS.missions, KEYS.group)] == [b"worker_hq-test-1"]


def test_names_are_taken_from_the_environment(streams: StreamsAtWork) -> None:
    environ = {
        "UA_DELEGATION_STREAM_NAME": "other:missions",
        "UA_DELEGATION_CONSUMER_GROUP": "others",
        "UA_DELEGATION_DLQ_STREAM": "other:dead",
        "UA_DELEGATION_CONSUMER_NAME": "one of us",
    }
    streams.redis.xadd("other:missions", {"envelope": "no JSON"})
    status, _, err = finished(streams.consumer("--once", environ=environ))

    assert status == 0, err
    assert streams.redis.xlen("other:dead") == 1
    assert [one["name"] for one in streams.redis.xinfo_consumers("other:missions", "others")] == [b"one-of-us"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_works_until_it_is_told_to_stop_and_then_ends_cleanly(
    streams: StreamsAtWork, tmp_path: Path, number: signal.Signals
) -> None:
    """S-6: also while it is blocked in a read; what was there before and comes later is imported."""
    ready = tmp_path / "ready"
    streams.add(envelope("before"))
    process = streams.consumer("--poll-seconds", "5", "--ready-file", str(ready))
    streams.wait_until(ready.exists, LIMIT_SECONDS, "the ready file")
    streams.add(envelope("later"))
    streams.wait_until(lambda: streams.missions() == ["before", "later"], 10, "both missions")
    streams.end("later")
    streams.wait_until(lambda: len(streams.results()) == 1, 10, "a result")
    process.send_signal(number)
    status, _, err = finished(process)

    assert status == 0, err
    assert not ready.exists()
    assert streams.pending() == 0


def test_killed_at_any_moment_it_loses_and_doubles_nothing(streams: StreamsAtWork, tmp_path: Path) -> None:
    """S-19: three kills while 600 entries are imported, then one whole run."""
    for number in range(600):
        streams.add(envelope(f"j-{number}"))
    for least in (1, 200, 400):
        process = streams.consumer()
        streams.wait_until(lambda least=least: len(streams.missions()) >= least, LIMIT_SECONDS, "some missions")
        process.kill()
        process.wait()
    status, _, err = finished(streams.consumer("--once"))

    assert status == 0, err
    assert sorted(streams.missions()) == sorted(f"j-{number}" for number in range(600))
    assert streams.pending() == 0
    assert {tuple(streams.events(f"j-{number}")) for number in range(0, 600, 50)} == {("imported",)}


@pytest.mark.parametrize(
    ("environ", "why"),
    [
        ({"FACTORY_ROLE": "LOCAL_WORKER", "UA_DATABASE_URL": ""}, "only headquarters joins the group"),
        ({"FACTORY_ROLE": "STANDALONE_NODE"}, "only headquarters joins the group"),
        ({"UA_CAPABILITY_DELEGATION_MODE": "listen_only"}, "only headquarters joins the group"),
        ({"UA_DELEGATION_REDIS_ENABLED": "0"}, "UA_DELEGATION_REDIS_ENABLED is off"),
        ({"UA_DATABASE_URL": ""}, "UA_DATABASE_URL is missing"),
        ({"UA_DELEGATION_STREAM_NAME": "two words"}, "UA_DELEGATION_STREAM_NAME"),
    ],
)
def test_a_node_that_must_not_read_the_group_does_not(
    streams: StreamsAtWork, environ: dict[str, str], why: str
) -> None:
    """S-4, E11: nothing is read, and starting it again will not help."""
    streams.add()
    status, _, err = finished(streams.consumer("--once", environ=environ))

    assert status == 78
    assert why in err
    assert streams.redis.xinfo_groups(KEYS.missions) == []


def test_once_says_what_is_away_and_that_nothing_is_lost(streams: StreamsAtWork) -> None:
    streams.add()
    no_redis = finished(streams.consumer("--once", environ={"UA_REDIS_URL": "redis://:hidden-pw-1@127.0.0.1:1/0"}))
    no_ledger = finished(
        streams.consumer("--once", environ={"UA_DATABASE_URL": "postgresql://u:hidden-pw-1@127.0.0.1:1/x"})
    )

    assert (no_redis[0], no_ledger[0]) == (69, 69)
    assert "Redis at redis://:***@127.0.0.1:1/0 failed (ConnectionError)" in no_redis[2]
    assert "what was not imported stays in the stream" in no_ledger[2]
    assert "hidden-pw-1" not in no_redis[2] + no_ledger[2]
    assert streams.redis.xlen(KEYS.missions) == 1


@pytest.mark.parametrize("word", ["OOM", "READONLY"])
def test_while_redis_takes_nothing_it_is_not_ready_and_goes_on_afterwards(
    streams: StreamsAtWork, tmp_path: Path, word: str
) -> None:
    """B20: as with LOADING and MISCONF; here the memory is full, or the server became somebody's replica."""
    refuse: dict[str, Callable[[], Any]] = {
        "OOM": lambda: streams.redis.config_set("maxmemory", "1"),
        "READONLY": lambda: streams.redis.replicaof("127.0.0.1", "1"),
    }
    allow: dict[str, Callable[[], Any]] = {
        "OOM": lambda: streams.redis.config_set("maxmemory", "0"),
        "READONLY": lambda: streams.redis.replicaof("NO", "ONE"),
    }
    ready = tmp_path / "ready"
    streams.add(envelope("first"))
    streams.importer.drain()
    process = streams.consumer("--ready-file", str(ready))
    streams.wait_until(ready.exists, LIMIT_SECONDS, "the ready file")
    refuse[word]()
    try:
        streams.end("first")
        streams.wait_until(lambda: not ready.exists(), 10, "the ready file to go")
    finally:
        allow[word]()
    streams.wait_until(lambda: len(streams.results()) == 1, 15, "the result")
    streams.wait_until(ready.exists, 10, "the ready file again")

    assert process.poll() is None


@pytest.mark.parametrize("arguments", [["--poll-seconds", "0"], ["--poll-seconds", "soon"], ["--twice"]])
def test_a_wrong_option_is_refused_before_anything_happens(streams: StreamsAtWork, arguments: list[Any]) -> None:
    status, _, err = finished(streams.consumer(*arguments))

    assert status == 2
    assert "usage:" in err
