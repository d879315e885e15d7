"""The whole system under fire: a thousand missions, forty kills and every other fault, and no promise is broken."""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import pytest
from warm_starts import Started, WarmStarts

from corporation.db import migrate
from corporation.embedded.postgres import start_postgres
from corporation.embedded.server_process import Server
from corporation.embedded.valkey import start_valkey
from ops.bench.chaos_history import Verdict
from ops.bench.chaos_mutants import MUTANTS
from ops.bench.chaos_plan import Plan
from ops.bench.chaos_run import run_chaos

PLAN = Plan(missions=1000, kills=40, seed=1, longest_sleep_seconds=0.12, slow=0.01, cancels=0.03)
pytestmark = pytest.mark.xdist_group("chaos")  # one after the other: each of them keeps both cores busy


@pytest.fixture
def fire(
    tmp_path: Path, cluster_template: Path, warm: WarmStarts
) -> Callable[[Plan], tuple[Verdict, Mapping[str, object]]]:
    """`fire(plan)` runs the chaos on servers of its own, with processes that start in no time."""

    @contextmanager
    def servers(place: Path) -> Generator[tuple[Server, Server]]:
        valkey = start_valkey(place / "valkey")
        try:
            postgres = start_postgres(place / "postgres", template=cluster_template, durable=False)
            migrate(postgres.url)
            yield valkey, postgres
        finally:
            valkey.stop()

    def start(arguments: Sequence[str], env: Mapping[str, str], output: BinaryIO) -> Started:
        return warm.popen(arguments, env, output, output, start_new_session=True)

    said: list[str] = []

    def run(plan: Plan) -> tuple[Verdict, Mapping[str, object]]:
        verdict, report = run_chaos(plan, tmp_path / "chaos", servers, said.append, start, durable=False)
        return verdict, {**report, "struck": said}

    return run


def test_a_thousand_missions_end_once_although_everything_is_killed_cut_off_and_emptied(
    fire: Callable[[Plan], tuple[Verdict, Mapping[str, object]]],
) -> None:
    """I1 to I12, with FLUSHALL, a full disk, a stopped PostgreSQL, partitions and a worker silent beyond its lease."""
    verdict, report = fire(PLAN)

    assert [str(problem) for problem in verdict.problems] == [], (verdict.counts, report)
    assert verdict.counts["missions"] == 1000
    assert report["kills"] == 40
    assert report["faults_without_a_victim"] == []


@pytest.mark.parametrize(
    ("name", "rule", "missions"),
    [
        ("double-send-and-forget", "I3", 20),
        ("retry-counted-twice", "I4", 20),
        ("never-acknowledged", "I7", 20),
        ("secrets-let-out", "I10", 20),
        ("limit-by-the-wall-clock", "I11", 20),
        ("handles-kept", "I12", 60),
    ],
)
def test_a_mistake_that_is_built_in_is_noticed(
    fire: Callable[[Plan], tuple[Verdict, Mapping[str, object]]], name: str, rule: str, missions: int
) -> None:
    """Each is seen by another rule; `ops/bench/chaos --mutants` builds in all that there are."""
    verdict, report = fire(replace(MUTANTS[name].plan(1, name), missions=missions))

    assert rule in {problem.rule for problem in verdict.problems}, (verdict, report)
