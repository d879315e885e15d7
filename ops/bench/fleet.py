"""What a large fleet costs at HQ: factories that beat, the sweep over them, and the page that shows them.

`ops/bench/fleet [--factories 2000] [--interval 60] [--seconds 120] [--history 100000]`

A real API process, engine and PostgreSQL; the factories are simulated by one process, whose own time is told apart. The
exit status is 1 when a beat takes 50 ms or more at the 99th percentile, the API more than 15 % of one core, a sweep 100
ms or more, or when the page reads more of the ledger because of what is long over.
"""

import argparse
import asyncio
import json
import re
import statistics
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import psutil
import psycopg
from pydantic import SecretStr

from corporation.clock import new_id, utc_now
from corporation.db import migrate, open_ledger, sqlalchemy_url
from corporation.factories.registry import LIST
from corporation.tokens.minting import FACTORY, Grant, mint
from ops.bench.cluster import Cluster
from ops.bench.fleet_beats import Simulated, beat_for
from ops.bench.fleet_ledger import add_history, add_running, blocks_of, time_sweeps
from ops.bench.fresh_servers import fresh_servers
from ops.bench.stock import until

SECRET = "a-signing-secret-of-one-bench-run-on-loopback-only"  # noqa: S105
P99_MS, CORE_PERCENT, SWEEP_MS = 50.0, 15.0, 100.0
MORE_BLOCKS = 1.2
"""By how much the page may read more with a long history: indexes are a little deeper."""
PAGE = {"only": None, "status": None, "limit": 200, "stale": 300, "offline": 900, "lease": 180, "split_brain": 900}
LABELS = ["delegation_redis", "vp_coder", "vp_general", "tutorial_bootstrap_consumer", "gateway_mode:health_only"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print one JSON document, and say by the status whether every target was met."""
    options = _options(arguments)
    with ExitStack() as stack:
        servers = stack.enter_context(fresh_servers())
        migrate(servers.postgres.url)
        more = {"UA_OPS_JWT_SECRET": SECRET, "UA_ATTEMPT_LEASE_SECONDS": "3600"}
        cluster = stack.enter_context(Cluster(servers.place, servers.postgres.url, servers.valkey.url, until, more))
        cluster.start_api()
        cluster.start_engine()
        db = stack.enter_context(psycopg.connect(servers.postgres.url, autocommit=True))
        report = _measure(cluster, db, options, servers.postgres.process.pid)
    missed = _missed(report)
    sys.stdout.write(f"{json.dumps({**report, 'missed': missed})}\n")
    return 1 if missed else 0


def _measure(cluster: Cluster, db: Any, options: argparse.Namespace, postgres_pid: int) -> dict[str, Any]:
    factories = _factories(options.factories, {})
    _say(options, f"{options.factories} factories register")
    url = f"http://127.0.0.1:{cluster.port}"
    asyncio.run(beat_for(url, factories, 20, 20))
    factories = _factories(options.factories, add_running(db, options.factories))
    _say(options, f"they beat every {options.interval} s for {options.seconds} s")
    watched = {"api": _tree(cluster.processes["api"].pid), "engine": _tree(cluster.processes["engine"].pid)}
    watched |= {"postgres": _tree(postgres_pid), "generator": _tree(psutil.Process().pid, alone=True)}
    before, began = _seconds_of(watched), time.monotonic()
    beats = asyncio.run(beat_for(url, factories, options.seconds, options.interval))
    took, after = time.monotonic() - began, _seconds_of(watched)
    quantiles = statistics.quantiles(beats.seconds, n=100)
    page, deep = _pages(db, options)
    return {
        "factories": options.factories,
        "interval": options.interval,
        "beats": len(beats.seconds),
        "refused": len(beats.refused),
        "beat_ms": {f"p{n}": round(quantiles[n - 1] * 1000, 1) for n in (50, 95, 99)},
        "generator_late_ms_p99": round(statistics.quantiles(beats.late, n=100)[98] * 1000, 1),
        "core_percent": {name: round((after[name] - before[name]) / took * 100, 1) for name in watched},
        "page_blocks": {"without_history": page, "with_history": deep},
        "page_ms": _page_ms(cluster),
        "sweep_ms": time_sweeps(open_ledger(sqlalchemy_url(cluster.database_url), 1), db),
    }


def _factories(count: int, running: dict[str, list[dict[str, Any]]]) -> list[Simulated]:
    return [_simulated(f"factory-{number}", running.get(f"factory-{number}", [])) for number in range(count)]


def _simulated(name: str, running: list[dict[str, Any]]) -> Simulated:
    token = mint(SecretStr(SECRET), Grant(name, FACTORY, name), new_id(), utc_now()).token.get_secret_value()
    worker = {"name": f"missions@{name}", "slots": 2, "busy": len(running), "queues": [f"factory.{name}"]}
    body = {
        "factory_id": name,
        "factory_role": "LOCAL_WORKER",
        "deployment_profile": "local_workstation",
        "registration_status": "online",
        "heartbeat_latency_ms": 38.5,
        "capabilities": LABELS,
        "metadata": {"hostname": name, "pid": 4121, "uptime_seconds": 86.2, "platform": "Linux"},
        "running": running,
        "slots": 2,
        "queues": [f"factory.{name}", f"{name}.control"],
        "version": "4f2a9c1d0b7e6a5f4c3b2a190817263544f0e1d2",
        "instance_id": f"instance-of-{name}",
        "interval_seconds": 60,
        "workers": [{**worker, "loop_age_seconds": 0.4, "connected": True}],
    }
    return Simulated(token, body)


def _tree(pid: int, *, alone: bool = False) -> list[psutil.Process]:
    process = psutil.Process(pid)
    return [process] if alone else [process, *process.children(recursive=True)]


def _seconds_of(watched: dict[str, list[psutil.Process]]) -> dict[str, float]:
    """Processor time of each tree; PostgreSQL's children come and go, and are looked for again."""
    seconds = {}
    for name, processes in watched.items():
        now = {*processes, *(processes[0].children(recursive=True) if name == "postgres" else ())}
        seconds[name] = sum(times.user + times.system for one in now if (times := _times(one)))
    return seconds


def _times(process: psutil.Process) -> Any:
    try:
        return process.cpu_times()
    except psutil.Error:
        return None


def _pages(db: Any, options: argparse.Namespace) -> tuple[int, int]:
    """The blocks that the registry's page reads, without and with a long history."""
    statement = re.sub(r":(\w+)(?!:)", r"%(\1)s", re.sub(r"(?<=\w)::(?=\w)", "CAST_HERE", str(LIST)))
    statement = statement.replace("CAST_HERE", "::")
    db.execute("VACUUM ANALYZE corporation.missions, corporation.attempts, corporation.factories")
    before = blocks_of(db, statement, PAGE)
    _say(options, f"a history of {options.history} missions")
    add_history(db, options.history, options.factories)
    return before, blocks_of(db, statement, PAGE)


def _page_ms(cluster: Cluster) -> float:
    times = []
    with cluster.client as client:
        for _ in range(5):
            began = time.monotonic()
            client.get("/api/v1/factory/registrations").raise_for_status()
            times.append(time.monotonic() - began)
    return round(statistics.median(times) * 1000, 1)


def _missed(report: dict[str, Any]) -> list[str]:
    pages, sweeps = report["page_blocks"], report["sweep_ms"]
    found = {
        f"a beat's p99 is {report['beat_ms']['p99']} ms": report["beat_ms"]["p99"] >= P99_MS,
        f"the API takes {report['core_percent']['api']} % of a core": report["core_percent"]["api"] > CORE_PERCENT,
        f"a sweep takes {max(sweeps.values())} ms": max(sweeps.values()) >= SWEEP_MS,
        "the page reads more with a long history": pages["with_history"] > pages["without_history"] * MORE_BLOCKS,
        f"{report['refused']} beats were refused": report["refused"] > 0,
    }
    return [what for what, is_so in found.items() if is_so]


def _say(options: argparse.Namespace, text: str) -> None:
    if not options.json:
        sys.stderr.write(f"{text}\n")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="ops/bench/fleet", description=__doc__)
    parser.add_argument("--factories", type=int, default=2000)
    parser.add_argument("--interval", type=float, default=60.0, help="seconds between two beats of one factory")
    parser.add_argument("--seconds", type=float, default=120.0, help="how long they beat while it is measured")
    parser.add_argument("--history", type=int, default=100_000, help="missions that are long over")
    parser.add_argument("--json", action="store_true", help="only the document")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
