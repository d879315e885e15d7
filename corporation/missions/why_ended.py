"""How a mission ended, and of a failure which class it is, what it most likely means, and what would help; pure."""

from typing import Final

from corporation.envelope import LONGEST_TTL_SECONDS
from corporation.missions import advising
from corporation.missions.explanation import Advice, AttemptFacts, Explanation, Facts, MissionFacts
from corporation.missions.finish import WORKERS_LOST_LIMIT
from corporation.missions.known_causes import cause_of
from corporation.missions.states import State
from corporation.missions.wording import (
    LOST,
    QUARANTINED,
    clock_time,
    counted,
    how_it_ended,
    in_words,
    nth_attempt,
    positional,
    quoted,
    sentence,
    since,
    span,
    why_it_ended,
    without_advice,
)

STOPPED: Final = "its factory was stopped"
"""In what a factory reports of an attempt that it handed back when it was told to stop (`federation/spool.py`)."""
SHORTEST_NEW_TTL_SECONDS: Final = 3600
"""A deadline that is proposed leaves at least so long to whoever makes the mission able to run."""

_BECAME: Final = {
    "succeeded": "has succeeded",
    "failed": "has failed",
    "timed_out": "has timed out",
    "cancelled": "was cancelled",
}
"""The ends of a mission as the end of a clause about it."""


def explain_end(facts: Facts) -> Explanation:
    """The explanation of a mission in a final state."""
    if facts.mission.state == State.SUCCEEDED:
        return Explanation(sentence=_success(facts), evidence=_attempts(facts))
    kind = failure_class(facts)
    error = facts.mission.error
    cause = None if kind == "cancelled" else cause_of(error)
    known = [f"The error suggests that {cause.meaning}."] if cause else []
    return Explanation(
        sentence=sentence(_clause(kind, facts), _repeated(facts)),
        evidence=[*known, *_attempts(facts), *_late(facts)],
        advice=[*([Advice(cause.remedy)] if cause else []), *_advice(kind, facts)],
        failure_class=kind,
    )


def failure_class(facts: Facts) -> str:
    """`timed_out`, `lost`, `quarantined`, `stopped`, `failed` or `cancelled`.

    `stopped` is a permanent error: the handler said so, or the mission ended although attempts were left. It is judged
    by what the ledger and the mailbox hold of the attempt that the mission ended with, never by a handler's words.
    """
    mission, by = facts.mission, facts.ended_by
    if mission.state != State.FAILED:
        return mission.state
    if by is not None and by.state == "lost":
        return "quarantined" if _took_too_many(mission, by) else "lost"
    if mission.broadcast:
        return "failed"
    permanent = by is not None and by.permanent
    return "stopped" if permanent or mission.attempt < mission.attempts_total else "failed"


def _took_too_many(mission: MissionFacts, last: AttemptFacts) -> bool:
    """Whether a mission that ended with a lost attempt was quarantined for the workers it took down."""
    if mission.attempt < mission.attempts_total:
        return True  # nothing else keeps it from another attempt
    if not last.took_worker or mission.workers_lost < WORKERS_LOST_LIMIT:
        return False
    # A report that came after the end may have told only then that the worker had died. The ledger does not say when;
    # of a lost attempt the error's beginning is HQ's own, so here it may be asked.
    return not last.late_result or (mission.error or "").startswith(QUARANTINED)


def _clause(kind: str, facts: Facts) -> str:
    match kind:
        case "timed_out":
            return _timed_out(facts)
        case "lost":
            return _lost(facts)
        case "quarantined":
            why = without_advice((facts.mission.error or "").removeprefix(QUARANTINED))
            return f"it was quarantined: {quoted(why)}"
        case "cancelled":
            return _cancelled(facts)
        case "stopped":
            return _stopped(facts)
        case _:
            return _failed(facts)


def _success(facts: Facts) -> str:
    mission, last = facts.mission, facts.last
    if mission.broadcast:
        return sentence(f"it succeeded: {counted(mission.children or 0, 'factory', 'factories')} did it")
    if (taken := mission.adopted) is not None:
        of = "" if taken.job_id == mission.job_id else f" of {taken.job_id}"
        return sentence(
            f"it succeeded with the late result of attempt {taken.attempt}{of} on {taken.factory_id}, "
            "which an operator adopted"
        )
    where = f" on {last.factory_id}" if last else ""
    took = f" after {_length(last)}" if last and _length(last) else ""
    lost = f", but its result was dropped: {quoted(mission.dropped)}" if mission.dropped else ""
    return sentence(f"it succeeded{where} at {nth_attempt(mission.attempt, mission)}{took}{lost}")


def _timed_out(facts: Facts) -> str:
    mission, by = facts.mission, facts.ended_by
    if by is not None and by.state == "timed_out":
        limit = f"its time limit of {mission.timeout_seconds} s"
        return f"it timed out: {nth_attempt(by.number, mission)} on {by.factory_id} hit {limit}"
    return f"it timed out {_so_far(mission)}: {quoted(in_words(mission.error))}"


def _so_far(mission: MissionFacts) -> str:
    return f"after {counted(mission.tries, 'attempt')}" if mission.tries else "before any attempt"


def _lost(facts: Facts) -> str:
    by = facts.ended_by
    why = quoted((facts.mission.error or "").removeprefix(LOST))
    where = f"{nth_attempt(by.number, facts.mission)} on {by.factory_id}" if by else "its attempt"
    how = "was lost with its worker" if by and by.took_worker else "was lost"
    return f"it failed: {where} {how}, and no attempt is left: {why}"


def _cancelled(facts: Facts) -> str:
    mission = facts.mission
    return f"it was cancelled {_when_cancelled(facts)}: {quoted(mission.cancel_reason or mission.error)}"


def _when_cancelled(facts: Facts) -> str:
    by = facts.ended_by
    if by is not None and by.started_at is not None:
        return f"while it ran on {by.factory_id}"
    before = facts.mission.tries - (1 if by is not None else 0)
    return f"after {counted(before, 'attempt')}, before the next one began" if before > 0 else "before it ran"


def _stopped(facts: Facts) -> str:
    mission, by = facts.mission, facts.ended_by
    if by is None:
        return f"it failed {_so_far(mission)}: {quoted(mission.error)}"
    left = mission.attempts_total - mission.attempt
    with_left = f", with {counted(left, 'attempt')} left" if left else ""
    return f"it failed for good at {nth_attempt(by.number, mission)}{with_left}: {quoted(mission.error)}"


def _failed(facts: Facts) -> str:
    mission, last = facts.mission, facts.ended_by
    why = quoted(mission.error)
    if mission.broadcast:
        return f"it failed: {why}"
    tries = mission.tries
    if last is not None and last.put_off:
        return f"it failed: {nth_attempt(last.number, mission)} was put off ({why}), and no attempt is left"
    if tries <= 1:
        return f"it failed: its only attempt ended with: {why}"
    if len({quoted(one.error) for one in facts.attempts if one.state != "withdrawn"}) <= 1:
        return f"it failed: all {tries} attempts ended alike: {why}"
    return f"it failed: its {tries} attempts ended differently, the last with: {why}"


def _attempts(facts: Facts) -> list[str]:
    """The attempts one by one, the newest at most five of them."""
    lines = [
        f"Attempt {one.number} on {one.factory_id} {how_it_ended(one)}"
        + (f" after {_length(one)}" if _length(one) else "")
        + (f": {why_it_ended(one)}." if one.error else ".")
        for one in facts.attempts[-5:]
    ]
    mission, now = facts.mission, facts.now
    if mission.deadline_at is not None and mission.state == State.TIMED_OUT:
        lines.append(f"Its deadline was {clock_time(mission.deadline_at, now)}.")
    return [*lines, *([f"It ended {since(mission.finished_at, now)} ago."] if mission.finished_at else [])]


def _late(facts: Facts) -> list[str]:
    return [
        f"Attempt {one.number} reported after it had been given up; its report is kept."
        for one in facts.attempts
        if one.late_result
    ]


def _repeated(facts: Facts) -> str:
    """What stands for it now, and what became of that."""
    new = facts.repeat
    if new is None:
        return ""
    if new.adopted:
        return f"its late result counts as {new.job_id}"
    return f"it was run again as {new.job_id}, which {_BECAME.get(new.state, f'is {new.state}')}"


def _advice(kind: str, facts: Facts) -> list[Advice]:
    mission = facts.mission
    show = Advice("Look at its history and its result", f"corporation missions show {positional(mission.job_id)}")
    return [*_adopt(facts), *_remedies(kind, facts), *_see_repeat(facts), show]


def _remedies(kind: str, facts: Facts) -> list[Advice]:
    """What to mend, and how the order runs again; nothing of the second once that was done, or refused for good."""
    may_repeat = facts.dead_letter is not None
    match kind:
        case "lost":
            return [_after_loss(facts.ended_by), *_again(facts)]
        case "quarantined":
            return [_dissect(facts), *([_changed(facts)] if may_repeat else [])]
        case "stopped":
            return [Advice("Mend what the error names: trying again changes nothing by itself"), *_again(facts)]
        case "timed_out":
            return [_more_time(facts), *_again(facts)] if may_repeat else []
        case "cancelled":
            return [] if facts.repeat else [Advice("Run it again after all", advising.again(facts))]
        case _:
            return _again(facts)


def _after_loss(by: AttemptFacts | None) -> Advice:
    if by is not None and not by.took_worker and STOPPED in (by.error or ""):
        return Advice("Nothing is known to be wrong with it: it needs a factory that is not stopped before it is done")
    return Advice("Look into the log of that factory's workers: one died, or the factory fell silent")


def _dissect(facts: Facts) -> Advice:
    command = f"{advising.SHOW_LETTER} {facts.dead_letter}" if facts.dead_letter else None
    return Advice("Look at its order, and find out what in it ends a worker before it is run again", command)


def _changed(facts: Facts) -> Advice:
    what = "Run it again with other values in its context, which you wrote into changed.json"
    return Advice(f"{what} (or --task, --timeout, --target)", advising.again(facts, "--context @changed.json"))


def _see_repeat(facts: Facts) -> list[Advice]:
    new = facts.repeat
    if new is None or new.state == State.SUCCEEDED:
        return []
    return [Advice(f"See what is with {new.job_id}", f"corporation why {positional(new.job_id)}")]


def _adopt(facts: Facts) -> list[Advice]:
    """Of several late results the last one: only one can count."""
    late = [one.number for one in facts.attempts if one.adoptable][-1:]
    job = positional(facts.mission.job_id)
    return [
        Advice(
            f"Let the late result of attempt {number} count, if its work is good",
            f"corporation missions adopt --attempt {number} {job}",
        )
        for number in late
    ]


def _more_time(facts: Facts) -> Advice:
    mission = facts.mission
    if facts.ended_by is not None and facts.ended_by.state == "timed_out":
        longer = mission.timeout_seconds * 2
        return Advice("Run it again with a longer time limit", advising.again(facts, f"--timeout {longer}"))
    had = (mission.deadline_at - mission.created_at).total_seconds() if mission.deadline_at else 0.0
    later = min(max(2 * round(had), SHORTEST_NEW_TTL_SECONDS), LONGEST_TTL_SECONDS)
    return Advice("Run it again with a later deadline, once it can run", advising.again(facts, f"--ttl {later}"))


def _again(facts: Facts) -> list[Advice]:
    if facts.dead_letter is None:
        return []
    return [Advice("Run it again as it was", advising.again(facts))]


def _length(attempt: AttemptFacts) -> str:
    if attempt.started_at is None or attempt.finished_at is None:
        return ""
    return span((attempt.finished_at - attempt.started_at).total_seconds())
