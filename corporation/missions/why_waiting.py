"""Why a mission waits: routing's own reason in words, who could take it, and what would help; pure."""

from collections.abc import Callable, Sequence
from datetime import datetime
from difflib import get_close_matches
from typing import Final

from corporation.missions import advising
from corporation.missions.explanation import Advice, Explanation, FactoryFacts, Facts, Reason
from corporation.missions.kinds import AGENT_KINDS
from corporation.missions.known_causes import cause_of
from corporation.missions.routing import Held, may_run, might_run, obstacles, route
from corporation.missions.wording import (
    MOST_NAMED,
    clock_time,
    counted,
    each_state,
    heard_of,
    how_it_ended,
    is_laden,
    listed,
    need_of,
    nth_attempt,
    place_in_line,
    positional,
    sentence,
    since,
    span,
    state_of,
    why_it_ended,
)

STUCK_SECONDS: Final = 10.0
"""After this long a step that HQ's engine takes at once, or within its slow sweep (2 s), is not on its way any more."""

MOST_COMPARED: Final = 1000
"""Factories among whose names the nearest one is looked for."""

ASKS: Final = "if none does, look at its `pull` process"

NO_ENGINE: Final = "HQ's engine may not be running"
NO_BROKER: Final = Reason("broker_down", "Redis does not answer, so nothing that is queued reaches a factory")


def explain_waiting(facts: Facts) -> Explanation:
    """The explanation of a mission in the state `waiting`.

    Its first reason is the one that `dispatch.explain_waiting` writes on the mission: both ask `routing.route`.
    """
    if facts.mission.broadcast:
        return _broadcast(facts)
    due = facts.mission.next_attempt_at
    code = routing_reason(facts)
    if due is not None and due > facts.now:
        return _backoff(facts, due, code)
    clause, advice = _WORDED[code](facts)
    line = "" if code in NO_LINE or code == "behind_others" else place_in_line(facts.ahead, or_more=facts.ahead_or_more)
    others = [Reason("behind_others", sentence(f"{_others(facts)} before it")[:-1])] if line else []
    return Explanation(
        sentence=sentence(clause, line),
        reasons=[Reason(code, sentence(clause)[:-1]), *others, *_broker_too(facts)],
        evidence=[*_standing(facts), *([] if facts.broker_answers else [f"{NO_BROKER.message}."])],
        advice=[*advice, *([] if facts.broker_answers else [advising.MEND_BROKER])],
    )


def routing_reason(facts: Facts) -> str:
    """The code for a due mission in these circumstances."""
    answer = route(facts.mission.need, facts.views)
    return answer.reason if isinstance(answer, Held) else "behind_others"


# --- What is so, and what would help: one pair for each reason of routing ---

Worded = tuple[str, list[Advice]]


def _target_unknown(facts: Facts) -> Worded:
    target = facts.mission.need.target or ""
    names = [view.factory_id for view in facts.views[:MOST_COMPARED]]
    near = next(iter(get_close_matches(target, names, n=1)), None)
    meant = [advising.send_to(facts, near, f"If {near} was meant")] if near else []
    clause = f"No factory named {target} has registered"
    return clause + (f"; the nearest name is {near}" if near else ""), [*meant, advising.start_named(target)]


def _target_offline(facts: Facts) -> Worded:
    target = _target(facts)
    return _meant_for(facts, target), [*advising.let_in([target]), *advising.elsewhere(facts)]


def _target_paused(facts: Facts) -> Worded:
    target = _target(facts)
    return _meant_for(facts, target), [advising.resume([target]), *advising.elsewhere(facts)]


def _all_paused(facts: Facts) -> Worded:
    those = _able(facts)
    resting = [one for one in those if one.view.status in ("paused", "draining")]
    return _who_has_it(facts, those), [advising.resume(resting), advising.start_another(facts.mission.need)]


def _no_live_factory(facts: Facts) -> Worded:
    if not facts.factories:
        return "no factory has registered yet", [advising.start_first()]
    those = _able(facts)
    clause = _who_has_it(facts, those) if those else f"no factory is live: {each_state(facts.factories, facts.now)}"
    return clause, _come_back(facts, _might(facts) or facts.factories)


def _no_capable_factory(facts: Facts) -> Worded:
    need = facts.mission.need
    if not need.routable:
        clause = f"it is an order to a factory itself ({facts.mission.kind}), which no factory takes from a queue"
        return clause, [Advice("Update Corporation on HQ and on the factories to a version that does")]
    if need.target is None and (might := _might(facts)):
        return _only_silent(facts, might)
    return _incapable(facts)


def _only_silent(facts: Facts, might: Sequence[FactoryFacts]) -> Worded:
    """Who has what it needs, or may have it, is not heard of."""
    if those := _able(facts):
        return _who_has_it(facts, those), _come_back(facts, those)
    lacking = f"no live factory has {need_of(facts.mission.need)}{_no_agent(facts)}"
    return f"{lacking}; {each_state(might, facts.now)}", _come_back(facts, might)


def _come_back(facts: Facts, those: Sequence[FactoryFacts]) -> list[Advice]:
    return [*advising.let_in(those), advising.start_another(facts.mission.need)]


def _might(facts: Facts) -> list[FactoryFacts]:
    """Those that could run it, or nobody knows; one in quarantine that says nothing must not hide a mistyped label."""
    need, every = facts.mission.need, facts.factories
    return [one for one in every if might_run(need, one.view) and (not one.view.quarantined or may_run(need, one.view))]


def _incapable(facts: Facts) -> Worded:
    """No factory that it may go to has what it needs."""
    need = facts.mission.need
    stop = advising.cancel(facts.mission)
    if need.target is None:
        names = [view.factory_id for view in facts.views]
        who = f"none of the {len(names)} known factories has"
        who = f"the only known factory, {names[0]}, lacks" if len(names) == 1 else who
        clause = f"{who} {need_of(need)}{_no_agent(facts)}"
        return clause, [_ability(facts, "a factory"), *_another_able(facts), stop]
    others = [view.factory_id for view in facts.views if need.label in view.labels]
    elsewhere = [advising.send_to(facts, others[0], f"As {others[0]} has {need_of(need)}")] if others else []
    who = f"; {listed(others)} {'has' if len(others) == 1 else 'have'} it" if others else ""
    clause = f"its target, {need.target}, lacks {need_of(need)}{who}{_no_agent(facts)}"
    return clause, [_ability(facts, need.target), *elsewhere, stop]


def _no_agent(facts: Facts) -> str:
    """A label is easily set; what it stands for, this version does not have."""
    return f"; no agent runs {facts.mission.kind} in this version" if _lacks_agent(facts) else ""


def _lacks_agent(facts: Facts) -> bool:
    return facts.mission.kind in AGENT_KINDS and all(facts.mission.need.label not in one.labels for one in facts.views)


def _ability(facts: Facts, where: str) -> Advice:
    kind = facts.mission.kind
    return advising.add_handler(kind, where) if _lacks_agent(facts) else advising.enable(facts.mission.need, where)


def _another_able(facts: Facts) -> list[Advice]:
    return [] if _lacks_agent(facts) else [advising.start_another(facts.mission.need)]


def _no_free_slot(facts: Facts) -> Worded:
    those = _able(facts)
    silent = [one for one in those if one.overdue]
    online = [one.view for one in those if one.view.status == "online" and not one.overdue]
    busy = [view.factory_id for view in online if view.slots > 0]
    idle = [view.factory_id for view in online if view.slots < 1]
    laden = [view for view in online if is_laden(view)]
    advice = [Advice(f"Wait: it is sent as soon as {listed(busy)} has room")] if busy else []
    advice += [advising.look_at_silent(one) for one in silent[:1]]
    advice += advising.sooner(facts) if facts.ahead else []
    advice += [advising.start_workers(idle[0])] if idle else []
    # Where bytes are the bound, further slots would stay empty.
    advice += [advising.lighter_orders(laden[0].factory_id)] if laden else []
    advice += [advising.more_slots(busy[0])] if busy and not laden else []
    another = [] if facts.mission.need.target else [advising.start_another(facts.mission.need)]
    return _who_has_it(facts, those), [*advice, *another]


def _behind_others(facts: Facts) -> Worded:
    """A factory has room: it is the dispatcher's turn, or that factory's to ask; unless that does not come."""
    if (told := _told_by_beat(facts)) is not None:
        clause = f"it is an order to {told.view.factory_id} itself, which is told with the answer to its next heartbeat"
        wait = Advice("Wait: it beats about once a minute; if it does not, look at its machine")
        return f"{clause}; {told.view.factory_id} {heard_of(told)}", [wait]
    if asking := _who_asks(facts):
        heard = ", ".join(f"{one.view.factory_id} {heard_of(one)}" for one in asking[:MOST_NAMED])
        clause = f"it waits to be asked for over HTTPS: {heard}"
        return clause, [Advice(f"Wait: whoever has a free slot asks again within a minute; {ASKS}")]
    free = listed([one.view.factory_id for one in facts.factories if not obstacles(facts.mission.need, one.view)])
    waited = (facts.now - _due_since(facts)).total_seconds()
    if waited >= STUCK_SECONDS and not facts.ahead:
        clause = f"there is room for it at {free}, and yet it has not been sent for {span(waited)}: {NO_ENGINE}"
        return clause, [advising.START_ENGINE]
    if facts.ahead:
        clause = f"{_others(facts)} before it; there is room at {free}"
        return clause, [Advice("Wait: they are sent in turn"), *advising.sooner(facts)]
    return f"there is room for it at {free}, and it is sent in a moment", [advising.WAIT_A_MOMENT]


def _told_by_beat(facts: Facts) -> FactoryFacts | None:
    """The factory that an order is for, where nobody there is sent it."""
    need = facts.mission.need
    target = facts.factory(need.target) if need.system else None
    unsent = target is not None and obstacles(need, target.view) in (("asks_itself",), ("no_control_worker",))
    return target if unsent else None


def _who_asks(facts: Facts) -> list[FactoryFacts]:
    """Those that could have it and are sent nothing; empty as soon as one is there that is sent it."""
    every = [(one, obstacles(facts.mission.need, one.view)) for one in facts.factories]
    if any(not codes for _, codes in every):
        return []
    return [one for one, codes in every if codes == ("asks_itself",)]


_WORDED: Final[dict[str, Callable[[Facts], Worded]]] = {
    "target_unknown": _target_unknown,
    "target_offline": _target_offline,
    "target_paused": _target_paused,
    "all_paused": _all_paused,
    "no_live_factory": _no_live_factory,
    "no_capable_factory": _no_capable_factory,
    "no_free_slot": _no_free_slot,
    "behind_others": _behind_others,
}
NO_LINE: Final = frozenset({"target_unknown", "no_capable_factory", "backoff"})
"""Where a place in the line says nothing: nobody in it is served, or the mission does not stand in it yet."""


# --- Waiting that no factory can end ---


def _backoff(facts: Facts, due: datetime, code_when_due: str) -> Explanation:
    """After an attempt that failed; and what would hold it up if it were due now."""
    last, left = facts.last, span((due - facts.now).total_seconds())
    clause = f"its next attempt is due in {left}"
    if last is not None:
        ended = f"{nth_attempt(last.number, facts.mission)} {how_it_ended(last)}"
        clause = f"{ended} ({why_it_ended(last)}), and the next one is due in {left}"
    cause = cause_of(last.error) if last else None
    then = None if code_when_due == "behind_others" else _WORDED[code_when_due](facts)
    after = [Reason(code_when_due, f"And then: {then[0]}")] if then else []
    whole = span((due - last.finished_at).total_seconds()) if last and last.finished_at else left
    return Explanation(
        sentence=sentence(clause),
        reasons=[Reason("backoff", sentence(clause)[:-1]), *after, *_broker_too(facts)],
        evidence=[
            f"The wait between the two is {whole}; it ends at {clock_time(due, facts.now)}.",
            *([f"The error suggests that {cause.meaning}."] if cause else []),
            *_standing(facts),
        ],
        advice=[
            *([Advice(cause.remedy)] if cause else []),
            Advice(f"Wait until {clock_time(due, facts.now)}"),
            *(then[1] if then else []),
        ],
    )


def _broadcast(facts: Facts) -> Explanation:
    """An order to every factory is never sent itself: it waits to be spread, and then behind its children (S-25)."""
    clause, advice = _unspread(facts) if facts.mission.children is None else _spread(facts, facts.mission.children)
    return Explanation(
        sentence=sentence(clause),
        reasons=[Reason("behind_others", sentence(clause)[:-1]), *_broker_too(facts)],
        evidence=[*_standing(facts), *[f"{one.job_id} is {one.state}." for one in facts.open_children[:5]]],
        advice=advice,
    )


def _unspread(facts: Facts) -> Worded:
    waited = (facts.now - facts.mission.created_at).total_seconds()
    clause = "it is an order to every factory, and HQ has not spread it yet"
    if waited < STUCK_SECONDS:
        return clause, [advising.WAIT_A_MOMENT]
    return f"{clause}, for {span(waited)}: {NO_ENGINE}", [advising.START_ENGINE]


def _spread(facts: Facts, children: int) -> Worded:
    if not facts.open_children:
        return "it is an order to every factory, and all have answered: it ends in a moment", [advising.WAIT_A_MOMENT]
    first = facts.open_children[0]
    names = [child.factory_id for child in facts.open_children]
    left = f"{facts.open_children_count} of {counted(children, 'factory', 'factories')}"
    have = "has" if facts.open_children_count == 1 else "have"
    clause = f"it is an order to every factory, and {left} {have} not done it yet: {listed(names)}"
    return clause, [Advice(f"See why {first.factory_id} has not", f"corporation why {positional(first.job_id)}")]


# --- Words that several answers share ---


def _able(facts: Facts) -> list[FactoryFacts]:
    """The factories that could ever be sent it."""
    return [factory for factory in facts.factories if may_run(facts.mission.need, factory.view)]


def _target(facts: Facts) -> FactoryFacts:
    target = facts.factory(facts.mission.need.target)
    assert target is not None  # noqa: S101 - without it the reason is target_unknown
    return target


def _meant_for(facts: Facts, target: FactoryFacts) -> str:
    return f"its target, {target.view.factory_id}, {state_of(target, facts.now)}"


def _who_has_it(facts: Facts, those: Sequence[FactoryFacts]) -> str:
    need = facts.mission.need
    if need.target is not None:
        return _meant_for(facts, _target(facts))
    able = f" with {need_of(need)}" if need.label else ""
    if len(those) == 1:
        return f"the only factory{able}, {those[0].view.factory_id}, {state_of(those[0], facts.now)}"
    return f"none of the {len(those)} factories{able} takes it now: {each_state(those, facts.now)}"


def _broker_too(facts: Facts) -> list[Reason]:
    return [] if facts.broker_answers else [NO_BROKER]


def _others(facts: Facts) -> str:
    if facts.ahead_or_more:
        return f"{facts.ahead} or more missions with the same need are"
    return f"{counted(facts.ahead, 'mission')} with the same need {'is' if facts.ahead == 1 else 'are'}"


def _due_since(facts: Facts) -> datetime:
    mission, last = facts.mission, facts.last
    return max(mission.next_attempt_at or mission.created_at, (last and last.finished_at) or mission.created_at)


def _standing(facts: Facts) -> list[str]:
    """For how long it has waited, until when it may, how urgent it is, and what became of its last attempt."""
    mission, last, now = facts.mission, facts.last, facts.now
    lines = [f"It was accepted {since(mission.created_at, now)} ago, with priority {mission.priority}."]
    if mission.deadline_at is not None:
        when = clock_time(mission.deadline_at, now)
        passed = mission.deadline_at <= now
        lines.append(
            f"Its deadline passed at {when}: it is ended as timed out." if passed else f"Its deadline is {when}."
        )
    if last is not None:
        lines.append(f"Attempt {last.number} on {last.factory_id} {how_it_ended(last)}: {why_it_ended(last)}.")
    return lines
