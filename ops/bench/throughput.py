"""Missions a second beside stock Celery, on the same servers, in the same run, in turns.

`ops/bench/throughput [--missions 1000] [--rounds 2] [--workers 2] [--slots 1] [--json]`

Ours is the whole way: REST publish, ledger, dispatcher, Redis, worker with its spool, mailbox, collector; stock is
`delay()` and its result row. Both have the same number of worker processes and no Flower. A round ends when the last
result is in PostgreSQL. Each of our missions leaves a mark, and the marks are counted.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psycopg

from corporation.db import migrate
from corporation.embedded.server_process import Server
from ops.bench.cluster import Cluster
from ops.bench.cpu_time import cpu_milliseconds, cpu_seconds
from ops.bench.fresh_servers import FreshServers, fresh_servers
from ops.bench.stock import until

ROOT = Path(__file__).resolve().parent.parent.parent
BATCH = 500


def main() -> int:
    """Run the rounds and print what was measured; 1 when a mission was not done exactly once."""
    options = _options()
    with fresh_servers() as servers:
        ours, stock = [], []
        for number in range(options.rounds):
            stock.append(_stock(servers, options))
            _say(options, f"round {number + 1}: stock Celery {stock[-1]:7.1f} tasks/s")
            ours.append(_ours(servers, options, number))
            _say(options, f"round {number + 1}: Corporation  {ours[-1]:7.1f} missions/s")
    ratio = statistics.median(ours) / statistics.median(stock)
    report = {
        "missions": options.missions,
        "workers": options.workers,
        "slots": options.slots,
        "cores": os.cpu_count(),
        "stock_per_second": [round(rate, 1) for rate in stock],
        "ours_per_second": [round(rate, 1) for rate in ours],
        "ratio_of_medians": round(ratio, 2),
    }
    print(json.dumps(report) if options.json else f"Corporation does {ratio:.2f} x stock Celery (medians)")
    return 0


def _ours(servers: FreshServers, options: argparse.Namespace, number: int) -> float:
    migrate(servers.postgres.url)
    folder = servers.place / f"ours-{number}"
    folder.mkdir()
    return pace_of(Cluster(folder, servers.postgres.url, servers.valkey.url, until), options).per_second


@dataclass(frozen=True)
class Pace:
    """How fast missions went, and how many milliseconds of CPU each process spent on one of them."""

    per_second: float
    cpu_ms: Mapping[str, float]


def pace_of(fresh: Cluster, options: argparse.Namespace, servers: Sequence[Server] = ()) -> Pace:
    """The pace of `fresh`, whose processes are started here and ended again, with each mission done exactly once.

    The CPU of `servers`, which serve it and nobody else, is counted with that of its processes.
    """
    marks = fresh.folder / "marks"
    with fresh as cluster, cluster.client as client, psycopg.connect(fresh.database_url, autocommit=True) as db:
        cluster.start_api()
        cluster.start_engine()
        for worker in range(options.workers):
            cluster.start_worker(f"worker-{worker}", options.slots)
        slots = "SELECT slots FROM corporation.factories WHERE factory_id = 'bench'"
        until(lambda: _one(db, slots) == options.slots * options.workers)
        _publish(client, db, 50 * options.workers, None)
        pids = {**{name: one.pid for name, one in cluster.processes.items()}, **{one.name: one.pid for one in servers}}
        began, worked = time.monotonic(), cpu_seconds(pids)
        _publish(client, db, options.missions, marks)
        seconds = time.monotonic() - began
        cpu = cpu_milliseconds(worked, cpu_seconds(pids), options.missions)
        _check(db, marks, options.missions)
        for name in [name for name in cluster.processes if name.startswith("worker")]:
            cluster.stop(name)
        # The next round's factory has another spool: while this one counts as living, it would be refused.
        client.delete("/api/v1/factory/registrations/bench").raise_for_status()
        for name in list(cluster.processes):
            cluster.stop(name)
    return Pace(options.missions / seconds, cpu)


def _publish(client: httpx.Client, db: psycopg.Connection, missions: int, marks: Path | None) -> None:
    """Publish through REST and wait until every mission is final."""
    context = {"mission_kind": "noop", **({"mark": str(marks)} if marks else {})}
    for first in range(0, missions, BATCH):
        batch = [
            {"payload": {"task": f"mission {index}", "context": context}}
            for index in range(first, min(first + BATCH, missions))
        ]
        client.post("/api/v1/delegation/publish", json={"missions": batch}).raise_for_status()
    until(lambda: _one(db, "SELECT count(*) FROM corporation.missions WHERE finished_at IS NULL") == 0)


def _check(db: psycopg.Connection, marks: Path, missions: int) -> None:
    """Every mission succeeded and left exactly one mark, or the bench fails: speed without that is worth nothing."""
    failed = _one(db, "SELECT count(*) FROM corporation.missions WHERE state <> 'succeeded'")
    lines = marks.read_text().splitlines()
    if failed or len(lines) != missions or len(set(lines)) != missions:
        raise SystemExit(f"not exactly once: {failed} failed, {len(lines)} marks of which {len(set(lines))} differ")


def _stock(servers: FreshServers, options: argparse.Namespace) -> float:
    with psycopg.connect(servers.postgres.url, autocommit=True) as db:
        db.execute("CREATE SCHEMA IF NOT EXISTS stock")
    results = servers.postgres.url + "?options=-csearch_path%3Dstock"
    env = {
        "BENCH_BROKER": servers.valkey.url.rpartition("/")[0] + "/1",
        "BENCH_BACKEND": "db+postgresql+psycopg://" + results.partition("://")[2],
        "BENCH_RESULTS": results,
    }
    with ExitStack() as stack:
        for worker in range(options.workers):
            command = _celery("ops.bench.stock", "worker", "-c", str(options.slots), "-n", f"stock{worker}@%h")
            stack.enter_context(_process(servers.place / f"stock-{worker}", command, env))
        command = [sys.executable, "-m", "ops.bench.stock", str(options.missions), str(options.workers)]
        answer = subprocess.run(command, cwd=ROOT, env={**os.environ, **env}, stdout=subprocess.PIPE, check=True)
    return float(answer.stdout)


def _celery(app: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "celery", "-A", app, *arguments, "--loglevel", "INFO"]


@contextmanager
def _process(log: Path, command: list[str], env: Mapping[str, str]) -> Generator[None]:
    """A process in its own group, ended with all its children when the block ends."""
    inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    with log.with_suffix(".log").open("wb") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env={**inherited, **env}, stdout=output, stderr=output, start_new_session=True
        )
        try:
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _one(db: psycopg.Connection, statement: str) -> int:
    row = db.execute(statement.encode()).fetchone()
    return int(row[0]) if row else 0


def _say(options: argparse.Namespace, line: str) -> None:
    print(line, file=sys.stderr if options.json else sys.stdout, flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="ops/bench/throughput", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--missions", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=2, help="of each, in turns")
    parser.add_argument("--workers", type=int, default=2, help="worker processes of each")
    parser.add_argument("--slots", type=int, default=1, help="pool processes of each worker")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
