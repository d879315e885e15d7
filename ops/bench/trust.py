"""What trust costs: missions a second with and without it, on the same servers, in the same run, in turns.

`ops/bench/trust [--missions 1000] [--rounds 10] [--workers 2] [--slots 1] [--json]`

Off: one password for everybody, the owner of the tables for everybody, nothing signed. On: each process its own user of
Redis with the profile of its role, HQ and the factory their own roles of PostgreSQL under row level security, every
mission signed by HQ and verified by the worker. Afterwards Redis must have refused nobody (`ACL LOG` is empty).

Trust costs processor time; where each fsync takes long, the disk hides it. A TMPDIR in memory shows it best.
"""

import argparse
import json
import os
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import redis

from corporation.db import migrate
from ops.bench.cluster import Cluster
from ops.bench.fresh_servers import FreshServers, fresh_servers
from ops.bench.guarded_cluster import GuardedCluster, Rights
from ops.bench.stock import until
from ops.bench.throughput import Pace, pace_of

MOST_PERCENT = 10.0


def main() -> int:
    """Run the rounds and print what was measured; 1 when trust costs more than 10 % or Redis refused somebody."""
    options = _options()
    with fresh_servers() as servers:
        without, guarded = _rounds(servers, options)
        with redis.Redis.from_url(servers.valkey.url) as server:
            refusals = len(server.acl_log())
    cost = _cost(without, guarded)
    report = {
        **{name: getattr(options, name) for name in ("missions", "rounds", "workers", "slots")},
        "cores": os.cpu_count(),
        "without_per_second": [round(one.per_second, 1) for one in without],
        "with_per_second": [round(one.per_second, 1) for one in guarded],
        "cost_percent": round(cost, 1),
        "cpu_ms_without": _cpu_ms(without),
        "cpu_ms_with": _cpu_ms(guarded),
        "refused_by_redis": refusals,
    }
    print(json.dumps(report) if options.json else _in_words(report))
    return 0 if cost <= MOST_PERCENT and not refusals else 1


def _cost(without: Sequence[Pace], guarded: Sequence[Pace]) -> float:
    """Percent: the median of what the rounds say, each of its own two neighbours in time.

    A machine that grows slow or quick in the middle then changes both sides of a round, and not the answer.
    """
    return statistics.median(
        100 * (1 - its.per_second / plain.per_second) for plain, its in zip(without, guarded, strict=True)
    )


def _cpu_ms(paces: Sequence[Pace]) -> dict[str, float]:
    """Medians of the milliseconds of CPU a mission, the workers of the factory as one."""
    names = sorted({_kind(name) for pace in paces for name in pace.cpu_ms})
    return {name: round(statistics.median(_of(pace, name) for pace in paces), 2) for name in names}


def _of(pace: Pace, kind: str) -> float:
    return sum(ms for name, ms in pace.cpu_ms.items() if _kind(name) == kind)


def _kind(name: str) -> str:
    return name.partition("-")[0]


def _in_words(report: Mapping[str, Any]) -> str:
    before, after = report["cpu_ms_without"], report["cpu_ms_with"]
    cpu = ", ".join(f"{name} {before[name]} -> {after[name]}" for name in before)
    return (
        f"Trust costs {report['cost_percent']} % of the throughput (median of the rounds);"
        f" Redis refused {report['refused_by_redis']} times\n"
        f"CPU a mission: {sum(before.values()):.1f} -> {sum(after.values()):.1f} ms ({cpu})"
    )


def _rounds(servers: FreshServers, options: argparse.Namespace) -> tuple[list[Pace], list[Pace]]:
    migrate(servers.postgres.url)
    without: list[Pace] = []
    guarded: list[Pace] = []
    for number in range(options.rounds):
        # Whoever comes second finds more rows in the tables.
        for trusted in (False, True) if number % 2 else (True, False):
            name, paces = ("with", guarded) if trusted else ("without", without)
            folder = _made(servers.place, f"{name}-{number}")
            cluster = _cluster(folder, servers.valkey.url, servers.postgres.url, trusted=trusted)
            paces.append(pace_of(cluster, options, (servers.valkey, servers.postgres)))
            said = sys.stderr if options.json else sys.stdout
            line = f"{paces[-1].per_second:7.1f} missions/s, {sum(paces[-1].cpu_ms.values()):5.2f} ms of CPU a mission"
            print(f"round {number + 1}: {name:8s} {line}", file=said, flush=True)
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
    parser.add_argument("--missions", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=10, help="of each, in turns")
    parser.add_argument("--workers", type=int, default=2, help="worker processes of the factory")
    parser.add_argument("--slots", type=int, default=1, help="pool processes of each worker")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
