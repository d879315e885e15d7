"""Why a mission waits: routing's own reason in words, who could take it, and what would help; pure."""

from collections.abc import Callable, Sequence
from datetime import datetime
from difflib import get_close_matches
from typing import Final

from corporation.missions import advising
from corporation.missions.explanation import Advice, Explanation, FactoryFacts, Facts, Reason
from corporation.missions.kinds import AGENT_KINDS
from corporation.missions.known_causes import cause_of
from corporation.missions.routing import LIVE, FactoryView, Held, may_run, might_run, obstacles, route
from corporation.missions.wording import (
    MOST_NAMED,
    clock_time,
    counted,
    each_state,
    heard_of,
    how_it_ended,
    listed,
    need_of,
    nth_attempt,
    place_in_line,
    positional,
    quoted,
    sentence,
    since,
    span,
    state_of,
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
    line = "" if code in _OUT_OF_LINE else place_in_line(facts.ahead, or_more=facts.ahead_or_more)
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
    meant = [advising.publish_for(near, f"If {near} was meant")] if near else []
    clause = f"No factory named {target} has registered"
    return clause + (f"; the nearest name is {near}" if near else ""), [*meant, advising.start_named(target)]


def _target_offline(facts: Facts) -> Worded:
    target = _target(facts)
    return _meant_for(facts, target), [*advising.let_in([target]), *_elsewhere(facts)]


def _target_paused(facts: Facts) -> Worded:
    target = _target(facts)
    return _meant_for(facts, target), [advising.resume([target]), *_elsewhere(facts)]


def _all_paused(facts: Facts) -> Worded:
    those = _able(facts)
    resting = [one for one in those if one.view.status in ("paused", "draining")]
    return _who_has_it(facts, those), [advising.resume(resting), advising.start_another(facts.mission.need)]


def _no_live_factory(facts: Facts) -> Worded:
    if not facts.factories:
        return "no factory has registered yet", [advising.start_first()]
    need = facts.mission.need
    those = _able(facts)
    silent = [one for one in facts.factories if might_run(need, one.view)]
    live = any(one.view.status in LIVE and not one.view.quarantined for one in facts.factories)
    if those:
        clause = _who_has_it(facts, those)
    elif live and silent:
        lacking = f"it needs {need_of(need)}, which no live factory has{_no_agent(facts)}"
        clause = f"{lacking}; {each_state(silent, facts.now)}"
    else:
        clause = f"no factory is live: {each_state(facts.factories, facts.now)}"
    return clause, [*advising.let_in(those or silent or facts.factories), advising.start_another(need)]


def _no_capable_factory(facts: Facts) -> Worded:
    need = facts.mission.need
    if not need.routable:
        clause = f"it is an order to a factory itself ({facts.mission.kind}), which no factory takes from a queue"
        return clause, [Advice("Update Corporation on HQ and on the factories to a version that does")]
    if need.system:
        clause = f"it is an order to {need.target} itself, which has no control worker to take it"
        return clause, [advising.start_control_worker(need.target or "it")]
    return _incapable(facts)


def _incapable(facts: Facts) -> Worded:
    """No factory that it may go to has what it needs."""
    need = facts.mission.need
    stop = advising.cancel(facts.mission)
    if need.target is None:
        many = len(facts.factories)
        who = "the only known factory lacks" if many == 1 else f"none of the {many} known factories has"
        clause = f"it needs {need_of(need)}, which {who}{_no_agent(facts)}"
        return clause, [_ability(facts, "a factory"), *_another_able(facts), stop]
    others = [view.factory_id for view in facts.views if need.label in view.labels]
    elsewhere = [advising.publish_for(others[0], f"Or, as {others[0]} has {need_of(need)}")] if others else []
    who = f"; {listed(others)} {'has' if len(others) == 1 else 'have'} it" if others else ""
    clause = f"it is meant for {need.target} alone, which lacks {need_of(need)}{who}{_no_agent(facts)}"
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


def _elsewhere(facts: Facts) -> list[Advice]:
    """An order to a factory itself is none for another one."""
    return [] if facts.mission.need.system else [advising.publish_untargeted()]


def _no_free_slot(facts: Facts) -> Worded:
    those = _able(facts)
    online = [one.view for one in those if one.view.status == "online"]
    busy = [view.factory_id for view in online if view.slots > 0]
    idle = [view.factory_id for view in online if view.slots < 1]
    laden = [view for view in online if view.slots > 0 and view.takes_messages and view.is_laden]
    advice = [Advice(f"Wait: it is sent as soon as {listed(busy)} has room")] if busy else []
    advice += advising.sooner(facts.mission) if facts.ahead else []
    advice += [advising.start_workers(idle[0])] if idle else []
    # Where bytes are the bound, further slots would stay empty.
    advice += [advising.lighter_orders(laden[0].factory_id)] if laden else []
    advice += [advising.more_slots(busy[0])] if busy and not laden else []
    another = [] if facts.mission.need.target else [advising.start_another(facts.mission.need)]
    return "; ".join([_who_has_it(facts, those), *map(_load_in_bytes, laden[:MOST_NAMED])]), [*advice, *another]


def _load_in_bytes(view: FactoryView) -> str:
    megabytes = view.held_bytes // 2**20
    return f"{view.factory_id} holds {megabytes} MiB of orders, and HQ keeps no more in Redis for one factory"


def _behind_others(facts: Facts) -> Worded:
    """A factory has room: it is the dispatcher's turn, or that factory's to ask; unless that does not come."""
    if asking := _who_asks(facts):
        heard = ", ".join(f"{one.view.factory_id} {heard_of(one)}" for one in asking[:MOST_NAMED])
        clause = f"it waits to be asked for over HTTPS: {heard}"
        return clause, [Advice(f"Wait: whoever has a free slot asks again within a minute; {ASKS}")]
    free = listed([one.view.factory_id for one in facts.factories if not obstacles(facts.mission.need, one.view)])
    waited = (facts.now - _due_since(facts)).total_seconds()
    if waited >= STUCK_SECONDS and not facts.ahead:
        clause = f"there is room for it at {free}, and yet it was not sent for {span(waited)}: {NO_ENGINE}"
        return clause, [advising.START_ENGINE]
    if facts.ahead:
        clause = f"there is room at {free}, and {_others(facts)} before it"
        return clause, [Advice("Wait: they are sent in turn"), *advising.sooner(facts.mission)]
    return f"there is room for it at {free}, and it is sent in a moment", [advising.WAIT_A_MOMENT]


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
_OUT_OF_LINE: Final = frozenset({"target_unknown", "no_capable_factory", "behind_others"})
"""Where a place in the line says nothing, because nobody in it is served, or says it already."""


# --- Waiting that no factory can end ---


def _backoff(facts: Facts, due: datetime, code_when_due: str) -> Explanation:
    """After an attempt that failed; and what would hold it up if it were due now."""
    last, left = facts.last, span((due - facts.now).total_seconds())
    clause = f"its next attempt is due in {left}"
    if last is not None:
        ended = f"{nth_attempt(last.number, facts.mission)} {how_it_ended(last.state)}"
        clause = f"{ended} ({quoted(last.error)}), and the next one is due in {left}"
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
    return f"it is meant for {target.view.factory_id} alone, which {state_of(target, facts.now)}"


def _who_has_it(facts: Facts, those: Sequence[FactoryFacts]) -> str:
    need = facts.mission.need
    if need.target is not None:
        return _meant_for(facts, _target(facts))
    if need.label is None:
        return f"any factory may run it: {each_state(those, facts.now)}"
    have = f"{counted(len(those), 'factory', 'factories')} {'has' if len(those) == 1 else 'have'} it"
    return f"it needs {need_of(need)}: {have}, {each_state(those, facts.now)}"


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
        lines.append(f"Attempt {last.number} on {last.factory_id} {how_it_ended(last.state)}: {quoted(last.error)}.")
    return lines
