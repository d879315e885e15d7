"""Why a mission does not run, how far it is, or why it failed: one sentence, the evidence, what would help; pure."""

from dataclasses import replace
from datetime import datetime
from typing import Final

from corporation.missions.explanation import MOST_CANDIDATES, Candidate, Explanation, Facts
from corporation.missions.routing import obstacles
from corporation.missions.states import FINAL, State
from corporation.missions.why_ended import explain_end
from corporation.missions.why_underway import explain_underway
from corporation.missions.why_waiting import NO_LINE, explain_waiting

NEAREST_FIRST: Final = (
    "asks_itself", "no_free_slot", "paused", "draining", "stale", "offline", "no_mission_worker", "no_control_worker",
    "quarantined", "lacks_label", "takes_no_orders", "not_the_target",
)  # fmt: skip
"""How far an obstacle keeps a factory from a mission: a slot is free in minutes, another target is another mission."""


def explain(facts: Facts) -> Explanation:
    """The explanation of the mission in `facts`: the same facts always give the same one."""
    state = facts.mission.state
    if state in FINAL:
        answer = explain_end(facts)
    elif state == State.WAITING:
        answer = explain_waiting(facts)
    else:
        answer = explain_underway(facts)
    ahead, or_more = _ahead(facts, answer)
    return replace(
        answer,
        evidence=[*_repeats(facts), *answer.evidence],
        since=_since(facts),
        candidates=candidates(facts),
        ahead=ahead,
        ahead_or_more=or_more,
    )


def candidates(facts: Facts) -> list[Candidate]:
    """The factories for a mission that does not run yet, at most 100: those that could take it now, then the nearest.

    None for a broadcast, which no factory takes itself.
    """
    mission = facts.mission
    if mission.broadcast or mission.state not in (State.WAITING, State.QUEUED, State.CLAIMED):
        return []
    every = [Candidate(one, obstacles(mission.need, one.view)) for one in facts.factories]
    return sorted(every, key=_nearness)[:MOST_CANDIDATES]


def _repeats(facts: Facts) -> list[str]:
    """Which mission it is another run of."""
    of = facts.mission.repeats
    if of is None:
        return []
    if facts.mission.adopted is not None:
        return [f"It stands for {of}, which had ended before its result came."]
    return [f"It runs the order of {of} again."]


def _nearness(candidate: Candidate) -> tuple[int, int, float, str]:
    view = candidate.factory.view
    farthest = max((1 + NEAREST_FIRST.index(code) for code in candidate.reasons), default=0)
    return farthest, len(candidate.reasons), view.held / max(view.slots, 1), view.factory_id


def _ahead(facts: Facts, answer: Explanation) -> tuple[int, bool]:
    """How many are served before it, and whether there may be more of them; none where there is no line."""
    if facts.mission.state == State.WAITING:
        has_line = answer.reasons[0].code not in NO_LINE
        return (facts.ahead, facts.ahead_or_more) if has_line else (0, False)
    return (facts.queue.place - 1 if facts.queue and facts.mission.state == State.QUEUED else 0), False


def _since(facts: Facts) -> datetime | None:
    """When it came into its state."""
    mission, last = facts.mission, facts.last
    match mission.state:
        case State.WAITING:
            return (last and last.finished_at) or mission.created_at
        case State.QUEUED:
            return last.created_at if last else None
        case State.CLAIMED:
            return last.claimed_at if last else None
        case State.RUNNING:
            return mission.started_at
        case _:
            return mission.finished_at
