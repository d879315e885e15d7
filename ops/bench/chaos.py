"""The whole way of a mission under fire: everything is killed, stopped, cut off and emptied, and nothing may be lost.

`ops/bench/chaos [--missions 1000] [--kills 40] [--seed 1..3] [--cancels 0.03] [--mutant NAME] [--json]`; `--mutants
[NAME …]` runs a small chaos with each mistake built into the product, or with those, and fails if one goes unnoticed.

API, one or two engines, the streams' bridge, two factories with three workers, one of them with beat and control
worker, a third over HTTPS, and clients of REST and of the mission stream run as processes of their own on a Valkey and
a PostgreSQL of their own. What strikes follows from the seed (`chaos_plan.py`); afterwards the accept log, the ledger,
the marks of the work and the results stream are held against each other (`chaos_checks.py`). The folder with all logs
stays when a promise was broken.
"""

import argparse
import json
import shutil
import signal
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from corporation.db import migrate
from corporation.embedded.postgres import start_postgres
from corporation.embedded.postgres_place import home_of
from corporation.embedded.server_process import Server
from corporation.embedded.valkey import start_valkey
from ops.bench.chaos_history import Verdict
from ops.bench.chaos_mutants import MUTANTS
from ops.bench.chaos_plan import Plan
from ops.bench.chaos_run import run_chaos

MOST_PROBLEMS = 40


def main() -> int:
    """Run the chaos once for each seed, or once with each mutant; 1 when a promise was broken or a mutant survived."""
    signal.signal(signal.SIGTERM, _end)
    options = _options()
    if options.mutants is not None:
        return 1 if _mutants(options) else 0
    seeds = _seeds(options.seed)
    if options.mutant:
        return 0 if all(_once(options, MUTANTS[options.mutant].plan(seed, options.mutant)) for seed in seeds) else 1
    broken = [seed for seed in seeds if not _once(options, _plan(options, seed))]
    return 1 if broken else 0


def _plan(options: argparse.Namespace, seed: int) -> Plan:
    return Plan(options.missions, options.kills, seed, options.clients, cancels=options.cancels)


def _once(options: argparse.Namespace, plan: Plan) -> bool:
    """One run on fresh servers, and what came of it printed; whether all promises were kept."""
    place = Path(tempfile.mkdtemp(prefix="chaos-"))
    try:
        verdict, report = run_chaos(plan, place, fresh_servers, _speak(options))
        _print(options, plan, verdict, report)
        broken = bool(verdict.problems)
    except BaseException:
        print(f"the logs are in {place / 'run'}", file=sys.stderr)
        raise
    finally:
        shutil.rmtree(home_of(place / "postgres"), ignore_errors=True)
    unexpected = broken and plan.mutant is None
    if unexpected or options.keep:
        print(f"the logs are in {place / 'run'}", file=sys.stderr)
    else:
        shutil.rmtree(place, ignore_errors=True)
    if unexpected:
        again = f"--missions {plan.missions} --kills {plan.kills} --seed {plan.seed} --cancels {plan.cancels}"
        print(f"once more: ops/bench/chaos {again} --clients {plan.clients} --keep", file=sys.stderr)
    return not broken


def _mutants(options: argparse.Namespace) -> list[str]:
    survived: list[str] = []
    for name in options.mutants or MUTANTS:
        mutant = MUTANTS[name]
        for built_in in (None, name):
            print(f"--- {name}: {'built in' if built_in else 'the right product under the same fire'}", file=sys.stderr)
            plan = mutant.plan(_seeds(options.seed)[0], built_in)
            if _once(options, plan) != (built_in is None):
                survived.append(f"{name} ({'survived' if built_in else 'the right product was blamed'})")
    print(f"misjudged: {', '.join(survived) or 'nothing'}", file=sys.stderr)
    return survived


@contextmanager
def fresh_servers(place: Path) -> Generator[tuple[Server, Server]]:
    """A Valkey and a durable PostgreSQL with an empty ledger; who restarts them stops them too."""
    valkey = start_valkey(place / "valkey")
    try:
        postgres = start_postgres(place / "postgres")
        migrate(postgres.url)
        yield valkey, postgres
    finally:
        valkey.stop()


def _speak(options: argparse.Namespace) -> Any:
    return lambda line: None if options.quiet else print(line, file=sys.stderr, flush=True)


def _print(options: argparse.Namespace, plan: Plan, verdict: Verdict, report: dict[str, Any]) -> None:
    said = {"seed": plan.seed, "mutant": plan.mutant, **verdict.counts, **report}
    if options.json:
        problems = [vars(problem) for problem in verdict.problems]
        print(json.dumps({**said, "problems": problems}), flush=True)
        return
    for key, value in said.items():
        print(f"{key:42} {value}")
    for problem in verdict.problems[:MOST_PROBLEMS]:
        print(f"BROKEN  {problem}")
    kept = "all promises kept" if not verdict.problems else f"{len(verdict.problems)} promises broken"
    print(kept, flush=True)


def _seeds(word: str) -> list[int]:
    """`7`, or `1..3` for all from one to three."""
    first, _, last = word.partition("..")
    return list(range(int(first), int(last or first) + 1))


def _end(_number: int, _frame: FrameType | None) -> None:
    sys.exit(143)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="ops/bench/chaos", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--missions", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=40, help="of processes, with SIGKILL; other faults come on top")
    parser.add_argument("--seed", default="1", help="one number, or several as 1..3")
    parser.add_argument("--clients", type=int, default=3)
    parser.add_argument("--cancels", type=float, default=0.03, help="the share of missions that somebody cancels")
    parser.add_argument("--mutant", choices=MUTANTS, help="build this mistake into the product")
    several = "a small chaos with each mistake, or with those named, which must be noticed"
    parser.add_argument("--mutants", nargs="*", metavar="NAME", choices=[[], *MUTANTS], help=several)
    parser.add_argument("--keep", action="store_true", help="keep the folder with the logs in any case")
    parser.add_argument("--quiet", action="store_true", help="do not say what strikes")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
