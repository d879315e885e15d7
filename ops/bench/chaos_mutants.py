"""`python -m ops.bench.chaos_mutants NAME -m MODULE [arguments]`: a process of the product with one mistake built in.

The chaos must notice each of them, or it notices nothing. The product knows nothing of this file. `Mutant.plan` is the
small chaos that is aimed at the moment at which the mistake shows; the right product must pass the same.
"""

import runpy
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ops.bench import chaos_mistakes as mistakes
from ops.bench.chaos_plan import Fault, Kind, Plan

DOES_NOT_APPLY: Final = 99
Mistake = Callable[[], None]


@dataclass(frozen=True)
class Mutant:
    """What is changed in which process, and in the ledger, and what strikes: each fault `after` so many seconds."""

    engine: Mistake | None = None
    api: Mistake | None = None
    worker: Mistake | None = None
    ledger: str = ""
    faults: tuple[Fault, ...] = ()
    missions: int = 60
    asked: Mapping[str, Any] = field(default_factory=dict[str, Any])
    twins: float = 0.0
    cancels: float = 0.0
    leaks: float = 0.0
    drain_seconds: float = 60.0
    """Less where the mistake keeps missions from ending at all."""

    def plan(self, seed: int, mutant: str | None) -> Plan:
        """The small chaos with the mistake of this name built in, or without any."""
        asked = {"answers": ("done",), "max_retries": 20, "child": False, "talks": False, **self.asked}
        return Plan(
            self.missions, 0, seed, only=self.faults, asked=asked, slow=0.0, mutant=mutant, twins=self.twins,
            timeouts=0.0, cancels=self.cancels, drain_seconds=self.drain_seconds, window=60,
            streams=0.0, leaks=self.leaks, whole=False,
        )  # fmt: skip

    def build_into(self, module: str) -> None:
        """This process, which is about to run `module`, has the mistake."""
        parts = {"corporation.engine": self.engine, "hq_api": self.api, "celery": self.worker}
        if mistake := parts.get(module):
            mistake()


def _often(kind: Kind, times: int, every_seconds: float, seconds: float = 0.0, how: str = "") -> tuple[Fault, ...]:
    return tuple(Fault(kind, 0.0, seconds, how, after_seconds=every_seconds) for _ in range(times))


def _set_clock(how: str, after_seconds: float) -> tuple[Fault, ...]:
    return (Fault("set_clock", 0.0, 0.0, how, after_seconds=after_seconds),)


LONG: Final = {"sleep_seconds": 7.0}
MUTANTS: Final[Mapping[str, Mutant]] = {
    "no-attempt-fence": Mutant(
        engine=mistakes.take_any_report,
        worker=mistakes.go_on_unheard,
        faults=_often("lapse", 2, 1.5),
        missions=6,
        asked=LONG,
    ),
    "final-overwritten": Mutant(
        engine=mistakes.end_what_has_ended,
        worker=mistakes.go_on_unheard,
        ledger=mistakes.NO_REFUSALS,
        faults=_often("lapse", 5, 1.1),
        missions=3,
        asked={**LONG, "slow_once": True},
    ),
    "no-state-guard": Mutant(
        api=mistakes.start_again_and_again, missions=12, asked={"sleep_seconds": 4.0, "talks": True}
    ),
    "mark-before-send": Mutant(engine=mistakes.mark_before_sending, faults=_often("kill_engine", 5, 1.0), missions=200),
    "double-send-and-forget": Mutant(engine=mistakes.send_everything_twice, worker=mistakes.forget_every_attempt),
    "collect-before-apply": Mutant(
        engine=mistakes.collect_before_applying, faults=_often("kill_engine", 8, 2.0), missions=200
    ),
    "rescue-by-age": Mutant(
        engine=mistakes.rescue_by_age,
        missions=3,
        asked={"sleep_seconds": 12.0, "slow_once": True, "talks": True},
    ),
    "retry-counted-twice": Mutant(engine=mistakes.count_a_retry_twice, asked={"answers": ("failed", "later", "done")}),
    "retry-untold": Mutant(engine=mistakes.keep_quiet_about_retries, asked={"answers": ("failed", "done")}),
    "quarantine-at-once": Mutant(engine=mistakes.quarantine_at_once, faults=_often("kill_child", 4, 0.5)),
    "wrong-factory": Mutant(
        engine=mistakes.address_the_wrong_factory, missions=40, asked={"sleep_seconds": 0.3}, drain_seconds=10.0
    ),
    "mark-before-tell": Mutant(engine=mistakes.mark_before_telling, faults=_often("kill_engine", 6, 0.7), missions=200),
    "answer-before-commit": Mutant(
        api=mistakes.answer_before_the_commit, faults=_often("kill_api", 6, 0.7), missions=200
    ),
    "key-not-unique": Mutant(
        engine=mistakes.know_no_keys,
        api=mistakes.know_no_keys,
        ledger=mistakes.NO_UNIQUE_KEY,
        twins=0.5,
    ),
    "run-again-after-death": Mutant(
        worker=mistakes.run_again_after_a_death, faults=_often("kill_child", 5, 0.7), asked={"sleep_seconds": 0.8}
    ),
    "report-before-spool": Mutant(
        worker=mistakes.report_before_spooling,
        faults=(
            Fault("stop_postgres", 0.3, 7.0),
            Fault("kill_worker", 0.0, 0.5, "alpha-1", after_seconds=4.0),
            Fault("kill_worker", 0.0, 0.5, "beta-1"),
        ),
    ),
    "cancel-forgotten": Mutant(api=mistakes.forget_to_cancel, missions=40, cancels=0.5, asked={"sleep_seconds": 0.5}),
    "children-left-alone": Mutant(
        worker=mistakes.leave_children_alone,
        faults=_often("kill_child", 4, 0.5),
        asked={"child": True, "sleep_seconds": 0.5},
    ),
    "done-without-doing": Mutant(worker=mistakes.say_done_without_doing),
    "never-acknowledged": Mutant(worker=mistakes.acknowledge_nothing),
    "secrets-let-out": Mutant(worker=mistakes.let_secrets_out, leaks=0.2),
    "limit-by-the-wall-clock": Mutant(
        worker=mistakes.count_limits_by_the_wall_clock,
        faults=(*_set_clock("+7200", 1.5), *_set_clock("+259200", 2.0), *_set_clock("+0", 1.0)),
        missions=20,
        asked={"sleep_seconds": 1.0},
    ),
    "handles-kept": Mutant(engine=mistakes.keep_a_handle_of_every_report, missions=120),
}


def main(arguments: list[str]) -> None:
    """Build the mistake in, then run the module as `python -m` would."""
    name, flag, module, *rest = arguments
    if flag != "-m":
        raise SystemExit("use: chaos_mutants NAME -m MODULE arguments…")
    try:
        MUTANTS[name].build_into(module)
    except (mistakes.DoesNotApply, ImportError, AttributeError) as error:
        print(f"the mistake {name} does not apply: {error!r}", file=sys.stderr, flush=True)
        raise SystemExit(DOES_NOT_APPLY) from error
    sys.argv = [module, *rest]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(sys.argv[1:])
