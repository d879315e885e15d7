"""Programs written against the contract alone work with our HQ (contract streams)."""

import ast
import itertools
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from independent_client import Client, check, mission

from ops.bench.cluster import Cluster

HERE = Path(__file__).parent
ROOT = HERE.parent.parent.parent


def test_the_client_knows_nothing_of_ours() -> None:
    tree = ast.parse((HERE / "independent_client.py").read_text())
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [one.name for one in node.names])
    }

    assert imported <= set(sys.stdlib_module_names) | {"redis"}


@pytest.fixture
def hq(tmp_path: Path, database_url: str, redis_url: str, wait_until: Any) -> Iterator[Cluster]:
    """A whole HQ, and one worker of a factory."""
    quick = {"UA_MISSION_RETRY_BASE_SECONDS": "0.1"}
    with Cluster(tmp_path, database_url, redis_url, lambda condition: wait_until(condition, 60), quick) as cluster:
        cluster.start_api()
        cluster.start_engine()
        cluster.start_worker()
        with psycopg.connect(database_url, autocommit=True) as db:
            # A kind is known once somebody says that he runs it.
            wait_until(
                lambda: db.execute("SELECT 1 FROM corporation.factories WHERE slots = 2").fetchone(), 30, "a beat"
            )
        yield cluster


def test_a_mission_goes_in_by_the_stream_and_its_one_result_comes_out(hq: Cluster, redis_url: str) -> None:
    """S-33: published by a stranger, run by a factory, told once, and readable over HTTP by its job_id."""
    client = Client(redis_url)
    after = client.newest(client.results)
    client.publish(mission("from-outside", mission_kind="noop", max_retries="1"))
    client.publish(mission("its-twin", mission_kind="noop", idempotency_key="key-from-outside"))
    result = client.wait_for_result("from-outside", after, 30)
    with hq.client as http:
        shown = http.get("/api/v1/missions/its-twin").json()

    assert result is not None
    assert (result["status"], result["error"], result["result"]["mission_id"]) == ("SUCCESS", None, "from-outside")
    assert (shown["job_id"], shown["source"], shown["aliases"]) == ("from-outside", "redis_bridge", ["its-twin"])
    assert [one["job_id"] for one in client.read_results(after, 1)] == ["from-outside"]


def test_a_retry_adds_nothing_to_the_mission_stream_and_a_failure_is_told_once(hq: Cluster, redis_url: str) -> None:
    """S-28: a retry is an attempt in the ledger; S-36: the dead letter counts both."""
    client = Client(redis_url)
    results, letters = client.newest(client.results), client.newest(client.dead_letters)
    context = {"answer": "failed"}
    sent = mission("fails-twice", mission_kind="noop", max_retries=2) | {"payload": {"task": "x", "context": context}}
    client.publish(sent)
    result = client.wait_for_result("fails-twice", results, 30)
    told = list(client.read(client.dead_letters, letters, 1))
    with hq.client as http:
        shown = http.get("/api/v1/missions/fails-twice").json()

    assert result is not None
    assert (result["status"], result["result"]["terminal_status"], len(shown["attempts"])) == ("FAILED", "failed", 2)
    assert result["error"].startswith("Mission failed: fails-twice")
    assert client.redis.xlen(client.missions) == 1
    assert told == [sent | {"failure_error": "asked to fail", "retry_count": 2}]


def test_an_address_in_a_mission_is_never_called(hq: Cluster, redis_url: str) -> None:
    """S-10: credentials go to HQ's address and nowhere else."""
    client = Client(redis_url)
    after = client.newest(client.results)
    with socket.create_server(("127.0.0.1", 0)) as trap:
        trap.setblocking(False)
        address = f"http://127.0.0.1:{trap.getsockname()[1]}"
        for job_id, kind in (("named-noop", "noop"), ("named-bootstrap", "bootstrap_repo")):
            context = {"gateway_url": address, "tutorial_run_path": "nowhere", "repo_name": "none"}
            order = mission(job_id, mission_kind=kind, max_retries=1) | {"payload": {"task": "x", "context": context}}
            client.publish(order)
        told = [one["job_id"] for one in itertools.islice(client.read_results(after, 30), 2)]
        with pytest.raises(BlockingIOError):
            trap.accept()

    assert sorted(told) == ["named-bootstrap", "named-noop"]


def test_the_check_says_that_our_consumer_is_right(database_url: str, redis_url: str) -> None:
    environ = {
        "PATH": os.environ["PATH"],
        "FACTORY_ROLE": "HEADQUARTERS",
        "UA_DATABASE_URL": database_url,
        "UA_REDIS_URL": redis_url,
        "UA_DOTENV_PATH": os.devnull,
    }
    consumer = subprocess.Popen([sys.executable, "-m", "corporation.delegation.consumer"], cwd=ROOT, env=environ)
    try:
        verdicts = list(check(Client(redis_url), "ua_workers", 15))
    finally:
        consumer.terminate()
        status = consumer.wait(20)

    assert [statement for statement, holds in verdicts if not holds] == []
    assert len(verdicts) == 6
    assert status == 0


def test_the_check_says_that_a_reader_that_only_acknowledges_is_wrong(redis_url: str) -> None:
    """A check that cannot fail is none."""
    stop = threading.Event()
    lazy = threading.Thread(target=_only_acknowledge, args=(redis_url, stop))
    lazy.start()
    try:
        verdicts = dict(check(Client(redis_url), "ua_workers", 2))
    finally:
        stop.set()
        lazy.join()

    assert verdicts["every entry is acknowledged"]
    assert not verdicts["what is no JSON is a dead letter with its exact text"]
    assert not verdicts["a conflicting job_id is a dead letter"]


def _only_acknowledge(url: str, stop: threading.Event) -> None:
    client = Client(url)
    client.redis.xgroup_create(client.missions, "ua_workers", id="0", mkstream=True)
    while not stop.is_set():
        for entry_id, _ in next(
            iter(client.redis.xreadgroup("ua_workers", "x", {client.missions: ">"}, block=50)), (0, [])
        )[1]:
            client.redis.xack(client.missions, "ua_workers", entry_id)
