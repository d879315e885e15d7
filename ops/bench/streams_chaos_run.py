"""The streams under fire: producers add, the consumer and Valkey are killed, and every mission still ends once.

`ops/bench/streams_chaos [--missions 10000] [--producers 4] [--kills 20] [--restarts 5] [--seed 1]
[--mutant NAME] [--json]`; `--mutants` runs a small chaos with each mistake built into the consumer and fails if one
goes unnoticed.

The kills fall where progress is: right after a read, a commit, an acknowledgement, a telling or a marking, in an order
that the seed decides (`streams_chaos_fire.py`). At the end the history of all clients (`streams_chaos_clients.py`) is
held against the ledger (`streams_chaos_history.py`).
"""

import argparse
import json
import shutil
import signal
import sys
import tempfile
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any, Final

import psycopg

from corporation.db import migrate
from corporation.embedded.postgres import start_postgres
from corporation.embedded.postgres_place import home_of
from ops.bench.streams_chaos_consumer import MUTANTS
from ops.bench.streams_chaos_fire import Plan, run
from ops.bench.streams_chaos_history import Verdict

SMALL: Final = Plan(missions=1000, producers=4, kills=8, restarts=2, seed=1)


def main() -> int:
    """Run one chaos, or one with each mutant; 1 when a promise was broken, or a mutant went unnoticed."""
    options = _options()
    with servers() as (place, database_url):
        if options.mutants:
            return _mutants(options, place, database_url)
        plan = Plan(options.missions, options.producers, options.kills, options.restarts, options.seed, options.mutant)
        verdict, report = run(plan, place / "one", database_url)
    _print(options, plan, verdict, report)
    return 1 if verdict.problems else 0


@contextmanager
def servers() -> Generator[tuple[Path, str]]:
    """A folder and a durable, migrated ledger; both are gone afterwards, also after SIGTERM."""
    signal.signal(signal.SIGTERM, _end)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        place = Path(folder) / "postgres"
        postgres = start_postgres(place)
        stack.callback(lambda: shutil.rmtree(home_of(place), ignore_errors=True))
        stack.callback(postgres.stop)
        migrate(postgres.url)
        yield Path(folder), postgres.url


def _end(_number: int, _frame: FrameType | None) -> None:
    sys.exit(143)


def empty(database_url: str) -> None:
    """The ledger is as if it had just been made."""
    with psycopg.connect(database_url, autocommit=True) as ledger:
        ledger.execute("DROP SCHEMA corporation, mailbox CASCADE; DROP TABLE IF EXISTS alembic_version")
    migrate(database_url)


def _mutants(options: argparse.Namespace, place: Path, database_url: str) -> int:
    """The right consumer must pass, and each wrong one must not."""
    misjudged: list[str] = []
    for name in [None, *MUTANTS]:
        empty(database_url)
        plan = replace(SMALL, seed=options.seed, mutant=name)
        verdict, report = run(plan, place / (name or "none"), database_url)
        _print(options, plan, verdict, report)
        if bool(verdict.problems) != bool(name):
            misjudged.append(name or "none")
    print(f"misjudged: {', '.join(misjudged) or 'nothing'}", file=sys.stderr)
    return 1 if misjudged else 0


def _print(options: argparse.Namespace, plan: Plan, verdict: Verdict, report: dict[str, Any]) -> None:
    said = {"seed": plan.seed, "mutant": plan.mutant, **verdict.counts, **report, "problems": verdict.problems}
    if options.json:
        print(json.dumps(said), flush=True)
        return
    for key, value in said.items():
        print(f"{key:30} {value}")
    print("broken" if verdict.problems else "all promises kept", flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="ops/bench/streams_chaos", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--missions", type=int, default=10_000)
    parser.add_argument("--producers", type=int, default=4)
    parser.add_argument("--kills", type=int, default=20, help="of the consumer, with SIGKILL")
    parser.add_argument("--restarts", type=int, default=5, help="of Valkey, after SIGKILL")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--mutant", choices=MUTANTS, help="build this mistake into the consumer")
    parser.add_argument("--mutants", action="store_true", help="a small chaos with each mistake, which must be noticed")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
