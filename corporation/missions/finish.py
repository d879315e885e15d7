"""Deciding what a report means for its mission: final, another attempt, or too late."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, assert_never

from corporation.missions.outcomes import Cancelled, Done, Failed, Later, Lost, Outcome, Stop, TimedOut
from corporation.missions.retry import RetryPolicy
from corporation.missions.states import State

WORKERS_LOST_LIMIT = 3
"""A mission that took this many workers down with it is not given another one (architecture §5)."""


@dataclass(frozen=True)
class Standing:
    """What the ledger says about an attempt that was reported on."""

    mission_id: int
    job_id: str
    mission_kind: str
    attempt_id: str
    attempt: int
    factory_id: str
    attempts_total: int
    attempts_before: int
    current: bool
    """Whether the mission is still held by exactly this attempt; if not, the report is late."""
    received: bool = False
    """Whether a factory has said that it holds the attempt."""
    withdrawn: int = 0
    """How many of the mission's attempts were taken back before anybody received them: they use up none."""
    workers_lost: int = 0
    """How many of its earlier attempts were lost together with the process that ran them."""
    cancel_requested: str | None = None
    """Why the mission is to be cancelled, where somebody asked for it while it ran."""
    quarantined: bool = False
    """Whether its factory is shut out: what it says is evidence and no more."""

    @property
    def used(self) -> int:
        """How many attempts are used up with this one (S-27)."""
        return self.attempt - self.withdrawn


@dataclass(frozen=True)
class Finish:
    """The mission ends: `state` is final; `result` is the result object of contract streams §7."""

    state: State
    result: Mapping[str, Any]
    error: str | None


@dataclass(frozen=True)
class Again:
    """The attempt is over and the mission waits for another one, `delay_seconds` from now."""

    delay_seconds: float
    error: str


@dataclass(frozen=True)
class TooLate:
    """The report changes nothing; it is kept, and a `late_result` event says so (S-32)."""

    why: str = field(default="the attempt is no longer current")


Verdict = Finish | Again | TooLate


def judge(standing: Standing, outcome: Outcome, policy: RetryPolicy, chance: float) -> Verdict:
    """What `outcome`, reported for the attempt in `standing`, does to its mission."""
    if not standing.current:
        return TooLate()
    if standing.cancel_requested is not None and not isinstance(outcome, Done):
        # However the attempt came to its end: a mission that is to be cancelled is never tried again (S-30).
        evidence = {} if isinstance(outcome, Later | Lost) else outcome.result
        return _fail(standing, State.CANCELLED, standing.cancel_requested, evidence)
    return _judge_current(standing, outcome, policy, chance)


def _judge_current(standing: Standing, outcome: Outcome, policy: RetryPolicy, chance: float) -> Verdict:
    match outcome:
        case Done(result):
            return Finish(State.SUCCEEDED, _result(standing, result), None)
        case Stop(why, result):
            return _fail(standing, State.FAILED, why, result)
        case Failed(why, result):
            return _retry(standing, State.FAILED, why, result, policy, chance)
        case TimedOut(why, result):
            return _retry(standing, State.TIMED_OUT, why, result, policy, chance)
        case Lost():
            return _lose(standing, outcome, policy, chance)
        case Later(after_seconds, why):
            verdict = _retry(standing, State.FAILED, why, {}, policy, chance)
            return Again(after_seconds, why) if isinstance(verdict, Again) else verdict
        case Cancelled(why, result):
            return _retry(standing, State.FAILED, f"its factory stopped it unasked: {why}", result, policy, chance)
        case _:
            assert_never(outcome)


def cancelled_unrun(job_id: str, mission_kind: str, attempts: int, why: str) -> Finish:
    """The end of a mission that is cancelled while no factory works on it."""
    result = {"mission_id": job_id, "mission_kind": mission_kind, "attempts": attempts}
    return Finish(State.CANCELLED, {**result, "terminal_status": str(State.CANCELLED)}, why)


def _retry(
    standing: Standing, final: State, why: str, result: Mapping[str, Any], policy: RetryPolicy, chance: float
) -> Verdict:
    if standing.attempt >= standing.attempts_total:
        return _fail(standing, final, why, result)
    return Again(policy.delay_seconds(standing.attempts_before + standing.used, chance), why)


def _lose(standing: Standing, lost: Lost, policy: RetryPolicy, chance: float) -> Verdict:
    """A mission that takes its workers down is not given another one, whatever attempts are left."""
    if lost.took_worker and standing.workers_lost + 1 >= WORKERS_LOST_LIMIT:
        # The end of a factory's words is enough: an error is cut at its head, and this one's head must be read.
        why = (
            f"quarantined: it took its worker down {WORKERS_LOST_LIMIT} times, the last time: {lost.why[-500:]}; "
            "look at its log before it runs again, then replay it with a changed order, or discard its dead letter"
        )
        return _fail(standing, State.FAILED, why, {})
    return _retry(standing, State.FAILED, f"lost: {lost.why}", {}, policy, chance)


def _fail(standing: Standing, final: State, why: str, result: Mapping[str, Any]) -> Finish:
    return Finish(final, {**_result(standing, result), "terminal_status": str(final)}, why or "no reason was given")


def _result(standing: Standing, result: Mapping[str, Any]) -> dict[str, Any]:
    """The handler's own keys, without and under those that are ours to say (streams §7)."""
    ours = {
        "mission_id": standing.job_id,
        "mission_kind": standing.mission_kind,
        "factory_id": standing.factory_id,
        "attempts": standing.used,
    }
    reference = result.get("result_ref")
    theirs = {key: value for key, value in result.items() if key != "terminal_status"}
    return {**theirs, "result_ref": reference if isinstance(reference, str) else "", **ours}
