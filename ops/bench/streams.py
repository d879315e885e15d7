"""How fast, how steady and how quiet the streams' consumer is.

`ops/bench/streams [--entries 20000] [--batches 50,200,500,1000] [--long 100000] [--idle-seconds 30] [--json]`

Entries lie in the stream before the consumer starts; the rate is from the first mission in the ledger to the last.
PostgreSQL and Valkey are durable and on this machine. Memory is the resident set of the consumer's process.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import psutil
import psycopg
import redis

from corporation.db import migrate
from ops.bench.fresh_servers import FreshServers, fresh_servers
from ops.bench.stock import until

ROOT: Final = Path(__file__).resolve().parent.parent.parent
MISSIONS, RESULTS = "ua:missions:delegation", "ua:missions:delegation:results"
STOPS: Final = 10

END_ALL: Final = b"""
    WITH ended AS (
      UPDATE corporation.missions SET state = 'succeeded', state_reason = NULL, attempt = 1, finished_at = now(),
             event_seq = event_seq + 1, result = json_build_object('mission_id', job_id, 'result_ref', '')
       WHERE state = 'waiting' RETURNING id, event_seq
    )
    INSERT INTO corporation.mission_events (mission_id, seq, type) SELECT id, event_seq, 'succeeded' FROM ended
"""


class Bench:
    """Two servers, and the consumer on them."""

    def __init__(self, servers: FreshServers) -> None:
        self.database_url, self.redis_url, self.folder = servers.postgres.url, servers.valkey.url, servers.place
        self.redis: Any = redis.Redis.from_url(self.redis_url)
        self.db = psycopg.connect(self.database_url, autocommit=True)
        self._made = 0

    def fill(self, entries: int) -> None:
        """So many new entries lie in the stream."""
        for first in range(self._made, self._made + entries, 1000):
            pipeline = self.redis.pipeline(transaction=False)
            for number in range(first, min(first + 1000, self._made + entries)):
                order = {"job_id": f"m-{number}", "idempotency_key": f"k-{number}", "payload": {"task": "Measure"}}
                pipeline.xadd(MISSIONS, {"job_id": f"m-{number}", "envelope": json.dumps(order)})
            pipeline.execute()
        self._made += entries

    def stored(self) -> int:
        """Missions in the ledger."""
        return self._number("SELECT count(*) FROM corporation.missions")

    def untold(self) -> int:
        """Ends that are not on the results stream yet."""
        return self._number("SELECT count(*) FROM corporation.stream_outbox")

    def empty(self) -> None:
        """Nothing is in the streams and in the ledger."""
        self.redis.flushall()
        self.db.execute("TRUNCATE corporation.missions, corporation.stream_outbox RESTART IDENTITY CASCADE")
        self._made = 0

    @contextmanager
    def consumer(self, batch: int = 500) -> Generator[psutil.Process]:
        """The consumer runs within the block; `batch` entries go into one transaction."""
        ready = self.folder / "ready"
        ready.unlink(missing_ok=True)
        source = (
            "from corporation.delegation import consumer, importer\n"
            f"importer.BATCH = {batch}\n"
            f"raise SystemExit(consumer.main(['--ready-file', {str(ready)!r}]))"
        )
        environ = {
            "PATH": os.environ["PATH"],
            "FACTORY_ROLE": "HEADQUARTERS",
            "UA_DATABASE_URL": self.database_url,
            "UA_REDIS_URL": self.redis_url,
            "UA_DOTENV_PATH": os.devnull,
        }
        with (self.folder / "consumer.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-c", source], cwd=ROOT, env=environ, stdout=log, stderr=log, start_new_session=True
            )
        try:
            until(ready.exists, 60)
            yield psutil.Process(process.pid)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            process.wait(20)

    def _number(self, statement: str) -> int:
        row = self.db.execute(statement.encode()).fetchone()
        return int(row[0]) if row else 0


def import_rate(bench: Bench, entries: int, batch: int) -> float:
    """Missions a second, with `batch` entries in a transaction."""
    bench.empty()
    bench.fill(entries)
    with bench.consumer(batch):
        until(lambda: bench.stored() > 0, 60)
        first, began = bench.stored(), time.monotonic()
        until(lambda: bench.stored() == entries, 120)
        return (entries - first) / (time.monotonic() - began)


def publish_rate(bench: Bench) -> float:
    """Results a second, of all missions that are in the ledger now."""
    with bench.consumer():
        bench.db.execute(END_ALL)
        count, began = bench.untold(), time.monotonic()
        until(lambda: bench.untold() == 0, 120)
        return count / (time.monotonic() - began)


def memory(bench: Bench, entries: int, step: int = 20_000) -> list[float]:
    """The resident MiB before, after every `step` entries, and at the end."""
    bench.empty()
    with bench.consumer() as process:
        seen = [process.memory_info().rss / 2**20]
        for stored in range(step, entries + 1, step):
            bench.fill(step)
            until(lambda stored=stored: bench.stored() >= stored, 120)
            seen.append(process.memory_info().rss / 2**20)
    return [round(mebibytes, 1) for mebibytes in seen]


def idle_share(bench: Bench, seconds: float) -> float:
    """Percent of one core that an idle consumer uses."""
    bench.empty()
    with bench.consumer() as process:
        time.sleep(2)  # until it is as idle as it gets
        before = process.cpu_times()
        time.sleep(seconds)
        after = process.cpu_times()
    return 100 * (after.user + after.system - before.user - before.system) / seconds


def stop_seconds(bench: Bench) -> float:
    """The longest of ten times from SIGTERM to the end, while it waits for an entry."""
    longest = 0.0
    for _ in range(STOPS):
        with bench.consumer() as process:
            until(lambda: bench.redis.info("clients")["blocked_clients"], 20)
            began = time.monotonic()
            process.send_signal(signal.SIGTERM)
            process.wait(20)
            longest = max(longest, time.monotonic() - began)
    return longest


def measure(bench: Bench, options: argparse.Namespace) -> Mapping[str, Any]:
    """Everything, in turn."""
    batches = [int(word) for word in options.batches.split(",")]
    rates = {str(batch): round(import_rate(bench, options.entries, batch)) for batch in batches}
    return {
        "cores": os.cpu_count(),
        "imported_per_second_by_batch": rates,
        "published_per_second": round(publish_rate(bench)),
        "mebibytes": memory(bench, options.long),
        "idle_percent_of_a_core": round(idle_share(bench, options.idle_seconds), 2),
        "longest_stop_seconds": round(stop_seconds(bench), 2),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    options = _parser().parse_args(arguments)
    with fresh_servers() as servers:
        migrate(servers.postgres.url)
        report = measure(Bench(servers), options)
    print(json.dumps(report) if options.json else "\n".join(f"{name:<30} {value}" for name, value in report.items()))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ops/bench/streams", description=__doc__)
    parser.add_argument("--entries", type=int, default=20_000)
    parser.add_argument("--batches", default="50,200,500,1000")
    parser.add_argument("--long", type=int, default=100_000)
    parser.add_argument("--idle-seconds", type=float, default=30.0)
    parser.add_argument("--json", action="store_true")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
