"""What trust costs: missions a second with and without it, on the same servers, in the same run, in turns.

`ops/bench/trust [--missions 2000] [--rounds 3] [--workers 2] [--slots 1] [--json]`

Off: one password for everybody, the owner of the tables for everybody, nothing signed. On: each process its own user of
Redis with the profile of its role, HQ and the factory their own roles of PostgreSQL under row level security, every
mission signed by HQ and verified by the worker. Afterwards Redis must have refused nobody (`ACL LOG` is empty).
"""

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import redis

from corporation.db import migrate
from corporation.embedded.postgres import start_postgres
from corporation.embedded.postgres_place import home_of
from corporation.embedded.valkey import start_valkey
from ops.bench.cluster import Cluster
from ops.bench.guarded_cluster import GuardedCluster, Rights
from ops.bench.stock import until
from ops.bench.throughput import missions_per_second

MOST_PERCENT = 10.0


def main() -> int:
    """Run the rounds and print what was measured; 1 when trust costs more than 10 % or Redis refused somebody."""
    options = _options()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        place = Path(folder)
        valkey = start_valkey(place / "valkey")
        stack.callback(valkey.stop)
        # Beside the folder, where root's server may not read it.
        stack.callback(lambda: shutil.rmtree(home_of(place / "postgres"), ignore_errors=True))
        postgres = start_postgres(place / "postgres")
        stack.callback(postgres.stop)
        without, guarded = _rounds(place, valkey.url, postgres.url, options)
        with redis.Redis.from_url(valkey.url) as server:
            refusals = len(server.acl_log())
    cost = 100 * (1 - statistics.median(guarded) / statistics.median(without))
    report = {
        **{name: getattr(options, name) for name in ("missions", "rounds", "workers", "slots")},
        "cores": os.cpu_count(),
        "without_per_second": [round(rate, 1) for rate in without],
        "with_per_second": [round(rate, 1) for rate in guarded],
        "cost_percent": round(cost, 1),
        "refused_by_redis": refusals,
    }
    print(json.dumps(report) if options.json else f"Trust costs {cost:.1f} % (medians); Redis refused {refusals} times")
    return 0 if cost <= MOST_PERCENT and not refusals else 1


def _rounds(place: Path, broker: str, database: str, options: argparse.Namespace) -> tuple[list[float], list[float]]:
    migrate(database)
    without: list[float] = []
    guarded: list[float] = []
    for number in range(options.rounds):
        # Whoever comes second finds more rows in the tables.
        for trusted in (False, True) if number % 2 else (True, False):
            name, rates = ("with", guarded) if trusted else ("without", without)
            folder = _made(place, f"{name}-{number}")
            rates.append(missions_per_second(_cluster(folder, broker, database, trusted=trusted), options))
            said = sys.stderr if options.json else sys.stdout
            print(f"round {number + 1}: {name:8s} {rates[-1]:7.1f} missions/s", file=said, flush=True)
    return without, guarded


def _cluster(folder: Path, broker: str, database: str, *, trusted: bool) -> Cluster:
    if not trusted:
        return Cluster(folder, database, broker, until)
    # Anew each time: the round before has removed its factory, and with it the factory's way into the mailbox.
    return GuardedCluster(folder, database, broker, until, rights=Rights.granted(broker, database, "bench"))


def _made(place: Path, name: str) -> Path:
    folder = place / name
    folder.mkdir()
    return folder


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="ops/bench/trust", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--missions", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3, help="of each, in turns")
    parser.add_argument("--workers", type=int, default=2, help="worker processes of the factory")
    parser.add_argument("--slots", type=int, default=1, help="pool processes of each worker")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
