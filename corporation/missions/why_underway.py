"""Why a mission that a factory has been given does not run yet, or how far it is: queued, claimed, running; pure."""

from corporation.missions import advising
from corporation.missions.explanation import (
    Advice,
    AttemptFacts,
    Explanation,
    FactoryFacts,
    Facts,
    QueuePlace,
    Reason,
)
from corporation.missions.states import State
from corporation.missions.why_waiting import NO_BROKER, NO_ENGINE, STUCK_SECONDS
from corporation.missions.wording import (
    clock_time,
    heard_of,
    load_of,
    nth_attempt,
    ordinal,
    positional,
    quoted,
    sentence,
    silence_of,
    since,
    span,
    state_of,
)


def explain_underway(facts: Facts) -> Explanation:
    """The explanation of a mission that an attempt holds: `queued`, `claimed` or `running`."""
    attempt = facts.last
    if attempt is None:  # the ledger's constraints rule it out; an answer is better than an accident
        return _nobody_has_it(facts)
    match facts.mission.state:
        case State.RUNNING:
            return _running(facts, attempt)
        case State.CLAIMED:
            return _claimed(facts, attempt)
        case _:
            return _queued(facts, attempt)


def _queued(facts: Facts, attempt: AttemptFacts) -> Explanation:
    queue = facts.queue or QueuePlace(1, 1)
    code, clause, advice = _why_queued(facts, attempt, queue)
    first = Reason(code, sentence(clause)[:-1])
    line = []
    if queue.place > 1 and code != "behind_others":
        line = [Reason("behind_others", f"It is {ordinal(queue.place)} of {queue.of} in the queue of its factory")]
    broker = [] if facts.broker_answers or code == "broker_down" else [NO_BROKER]
    return Explanation(
        sentence=sentence(clause, _cancelling(facts)),
        reasons=[first, *line, *broker],
        evidence=[*_about_attempt(facts, attempt), *_about_factory(facts, attempt)],
        advice=advice,
    )


def _why_queued(facts: Facts, attempt: AttemptFacts, queue: QueuePlace) -> tuple[str, str, list[Advice]]:
    """The code, the clause and the advice for an attempt that nobody has received."""
    name = attempt.factory_id
    factory = facts.factory(name)
    if factory is not None and not factory.view.takes_messages and factory.view.status == "online":
        clause = f"it is kept for {name}, which asks HQ for its missions over HTTPS and takes it when a slot is free"
        if silence := silence_of(factory, facts.now):
            return "behind_others", f"{clause}; {silence}", [advising.look_at_silent(factory), _given_back(facts)]
        return "behind_others", clause, [advising.WAIT_A_MOMENT]
    if not facts.broker_answers:
        where = f"queued for {name}" if queue.unsent_seconds is None else f"in HQ's outbox for {name}"
        return (
            "broker_down",
            f"it is {where}, and Redis, which carries it there, does not answer",
            [advising.MEND_BROKER],
        )
    if queue.unsent_seconds is not None:
        return _unsent(name, queue.unsent_seconds)
    place = f"{ordinal(queue.place)} of {queue.of}"
    if factory is None:
        clause = f"no factory named {name} is registered any more; it is {place} in the queue there"
        return "target_unknown", clause, [_given_back(facts)]
    if factory.view.quarantined or factory.view.status in ("stale", "offline"):
        advice = [*advising.let_in([factory]), _given_back(facts)]
        return "target_offline", _held_up(facts, factory, place), advice
    if facts.mission.need.system:
        return _not_taken(facts, attempt, factory, place)
    return _why_not_taken(facts, attempt, factory, place)


def _held_up(facts: Facts, factory: FactoryFacts, place: str) -> str:
    return f"its factory, {factory.view.factory_id}, {state_of(factory, facts.now)}; it is {place} in the queue there"


def _why_not_taken(
    facts: Facts, attempt: AttemptFacts, factory: FactoryFacts, place: str
) -> tuple[str, str, list[Advice]]:
    """The same for a mission that lies in the queue of a factory that is heard of."""
    name = attempt.factory_id
    if factory.view.status in ("paused", "draining"):
        advice = [advising.resume([factory]), _given_back(facts)]
        return "target_paused", _held_up(facts, factory, place), advice
    if not factory.overdue and factory.view.slots < 1:
        advice = [advising.start_workers(name), _given_back(facts)]
        return "no_free_slot", _held_up(facts, factory, place), advice
    if not factory.overdue and factory.running >= factory.view.slots:
        advice = [Advice(f"Wait: {name} takes it when a slot is free"), advising.more_slots(name)]
        clause = f"its factory, {name}, is busy ({load_of(factory)}); it is {place} in the queue there"
        return "no_free_slot", clause, advice
    return _not_taken(facts, attempt, factory, place)


def _unsent(name: str, seconds: float) -> tuple[str, str, list[Advice]]:
    if seconds < STUCK_SECONDS:
        return "behind_others", f"it is on its way from HQ's outbox to {name}", [advising.WAIT_A_MOMENT]
    clause = f"it has been in HQ's outbox for {name} for {span(seconds)}: {NO_ENGINE}"
    return "behind_others", clause, [advising.START_ENGINE]


def _not_taken(facts: Facts, attempt: AttemptFacts, factory: FactoryFacts, place: str) -> tuple[str, str, list[Advice]]:
    """The factory could take the message: it does any moment, or it is silent, or its worker takes nothing at all."""
    name, waited = attempt.factory_id, (facts.now - attempt.created_at).total_seconds()
    if silence := silence_of(factory, facts.now):
        clause = f"{silence}; the mission is {place} in the queue there"
        return "behind_others", f"its factory {clause}", [advising.look_at_silent(factory), _given_back(facts)]
    if waited < STUCK_SECONDS:
        clause = f"it is {place} in the queue of {name}, which is about to take it"
        return "behind_others", clause, [advising.WAIT_A_MOMENT]
    system = facts.mission.need.system
    able = "has a control worker" if system else "has a free slot"
    clause = (
        f"its factory, {name}, has not taken it for {span(waited)}, although it {able} and {heard_of(factory)}; "
        f"it is {place} in the queue there, and its lease ends at {clock_time(attempt.lease_expires_at, facts.now)}"
    )
    restart = Advice(
        f"Restart the {'control' if system else 'mission'} workers of {name}: one may be alive and yet take nothing"
    )
    return "behind_others", clause, [restart, _given_back(facts)]


def _given_back(facts: Facts) -> Advice:
    if facts.mission.need.target is None:
        return Advice("Wait: when HQ takes it back, it may go to another factory")
    # Named for one factory alone, it can only be sent to that one again, unless its order is changed.
    return next(iter(advising.elsewhere(facts)), Advice("Wait: HQ takes it back, and sends it there again"))


def _claimed(facts: Facts, attempt: AttemptFacts) -> Explanation:
    name, held = attempt.factory_id, since(attempt.claimed_at or attempt.created_at, facts.now)
    lease = clock_time(attempt.lease_expires_at, facts.now)
    factory = facts.factory(name)
    full = factory is not None and factory.running > factory.view.slots
    clause = f"it was claimed by {name} {held} ago and is not started; its lease ends at {lease}"
    return Explanation(
        sentence=sentence(clause, silence_of(factory, facts.now), _cancelling(facts)),
        reasons=[Reason("no_free_slot" if full else "behind_others", sentence(clause)[:-1])],
        evidence=[*_about_attempt(facts, attempt), *_about_factory(facts, attempt)],
        advice=[Advice(f"Wait: if {name} does not start it, HQ gives it out again after {lease}")],
    )


def _running(facts: Facts, attempt: AttemptFacts) -> Explanation:
    mission, now = facts.mission, facts.now
    ran = (now - (attempt.started_at or attempt.created_at)).total_seconds()
    clause = f"it has been running on {attempt.factory_id} for {span(ran)}{_progress(attempt)}"
    lease_over = attempt.lease_expires_at <= now
    lease = clock_time(attempt.lease_expires_at, now)
    silent = silence_of(facts.factory(attempt.factory_id), now)
    given_up = f"its lease ended at {lease}, so HQ is about to give it up" if lease_over else ""
    advice = [Advice("Follow it", f"corporation missions watch {positional(mission.job_id)}")]
    if ran > mission.timeout_seconds:
        late = f"It is past its time limit of {mission.timeout_seconds} s; {attempt.factory_id} should have stopped it"
        advice = [Advice(late), *([] if mission.cancel_requested_at else [advising.cancel(mission)]), *advice]
    return Explanation(
        sentence=sentence(clause, silent, given_up, _cancelling(facts)),
        evidence=[
            f"Its time limit is {mission.timeout_seconds} s, of which {span(mission.timeout_seconds - ran)} are left.",
            *_about_attempt(facts, attempt),
            *_about_factory(facts, attempt),
        ],
        advice=advice,
    )


def _progress(attempt: AttemptFacts) -> str:
    progress = attempt.progress or {}
    percent, message = progress.get("percent"), progress.get("message")
    is_one = isinstance(percent, int | float) and 0 <= percent <= 100
    said = [f"at {percent:.0f} %"] if is_one else []
    told = f" ({quoted(message)})" if isinstance(message, str) and message.strip() else ""
    return "".join(f", {part}" for part in said) + told


def _cancelling(facts: Facts) -> str:
    """That somebody asked for its end, and why."""
    asked = facts.mission.cancel_requested_at
    if asked is None:
        return ""
    why = f" ({quoted(facts.mission.cancel_reason)})" if facts.mission.cancel_reason else ""
    return f"its cancelling was asked for {since(asked, facts.now)} ago{why}"


def _about_attempt(facts: Facts, attempt: AttemptFacts) -> list[str]:
    mission, now = facts.mission, facts.now
    lease = attempt.lease_expires_at
    ends = "ended" if lease <= now else "ends"
    lines = [
        sentence(
            f"{nth_attempt(attempt.number, mission)} was given to {attempt.factory_id} "
            f"{since(attempt.created_at, now)} ago",
            f"its lease {ends} at {clock_time(lease, now)}",
        )
    ]
    if attempt.sends > 1:
        lines.append(f"Its message was handed out {attempt.sends} times.")
    return lines


def _about_factory(facts: Facts, attempt: AttemptFacts) -> list[str]:
    factory = facts.factory(attempt.factory_id)
    if factory is None:
        return [f"{attempt.factory_id} is not registered any more."]
    # What its status and its load were when it was last heard of says little of one that has fallen silent.
    known = "" if factory.overdue else f" is {factory.view.status} ({load_of(factory)}) and"
    return [f"{attempt.factory_id}{known} {heard_of(factory)}."]


def _nobody_has_it(facts: Facts) -> Explanation:
    clause = f"it is {facts.mission.state}, and no attempt of it is known"
    return Explanation(sentence=sentence(clause), reasons=[Reason("behind_others", sentence(clause)[:-1])])
