"""How an explanation words what it found: times, lists, places in a line, factories; plain English, one line each."""

import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from corporation.missions.explanation import AttemptFacts, FactoryFacts, MissionFacts, Restraint
from corporation.missions.routing import SILENT, FactoryView, Need

LONGEST_QUOTE: Final = 240
"""Characters of somebody's error that a sentence repeats; the whole is in the mission."""
MOST_NAMED: Final = 3
LONGEST_NOTE: Final = 120
NEVER_SECONDS: Final = 10 * 365 * 86_400.0
"""Nobody is silent for so long: such a factory is expected, and has not been heard of yet."""

QUARANTINED: Final = "quarantined:"
LOST: Final = "lost:"
"""How HQ begins the errors of lost attempts (`finish.py`). A handler may begin its own so: they alone say nothing."""
LAST_TIME: Final = ", the last time: "
NEXT: Final = "; look at its log"
"""Between these two the error of a quarantine has what the last attempt died of; behind is advice."""

REASONS: Final = {
    "target_unknown": "its target never registered",
    "target_offline": "its target is not heard of",
    "target_paused": "its target takes nothing now",
    "no_capable_factory": "no live factory can run it",
    "no_live_factory": "no factory is live",
    "all_paused": "nobody who could run it takes anything now",
    "no_free_slot": "no slot is free",
    "backoff": "between two attempts",
    "behind_others": "behind others",
    "broker_down": "Redis does not answer",
}
"""The codes of contract http H-29 for people, as a remark in brackets."""

OBSTACLES: Final = {
    "not_the_target": "not the target",
    "takes_no_orders": "takes no such order",
    "lacks_label": "lacks what it needs",
    "no_control_worker": "no control worker",
    "asks_itself": "asks by itself over HTTPS",
    "no_mission_worker": "no mission worker",
    "no_free_slot": "no free slot",
}
"""The codes of `routing.obstacles` for people; those that are left out are words already."""


def span(seconds: float) -> str:
    """A length of time in the largest unit that says it well: `40 s`, `16 min`, `3 h`, `9 days`."""
    whole = max(0, round(seconds))
    for limit, size, unit in ((120, 1, "s"), (7_200, 60, "min"), (172_800, 3_600, "h")):
        if whole < limit:
            return f"{whole // size} {unit}"
    return f"{whole // 86_400} days"


def since(then: datetime, now: datetime) -> str:
    """How long ago `then` was, or `0 s` if it is still to come."""
    return span((now - then).total_seconds())


def clock_time(moment: datetime, now: datetime) -> str:
    """`moment` in UTC: the time of day, with the date unless it is the day of `now`."""
    there, here = moment.astimezone(UTC), now.astimezone(UTC)
    return f"{there:%H:%M:%S} UTC" if there.date() == here.date() else f"{there:%Y-%m-%d %H:%M:%S} UTC"


def counted(number: int, one: str, many: str = "") -> str:
    """`1 factory`, `2 factories`; without `many` an s is added."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def ordinal(number: int) -> str:
    """`1st`, `2nd`, `3rd`, `4th`, `11th`, …"""
    ending = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def listed(names: Sequence[str], most: int = MOST_NAMED) -> str:
    """`a`, `a and b`, `a, b and 3 more`."""
    shown = [*names] if len(names) <= most else [*names[: most - 1], f"{len(names) - most + 1} more"]
    return " and ".join([part for part in (", ".join(shown[:-1]), *shown[-1:]) if part])


def quoted(error: str | None, longest: int = LONGEST_QUOTE) -> str:
    """Somebody's error on one line, its middle left out when it is long; and without a full stop at its end."""
    text = " ".join((error or "").split())
    if len(text) > longest:
        text = f"{text[: longest * 2 // 3]} … {text[3 - longest // 3 :]}"
    return text.rstrip(".: ") or "no reason was given"


def argument(name: str) -> str:
    """`name` as one word of a command that can be copied, whatever it is made of."""
    return shlex.quote(name)


def positional(name: str) -> str:
    """As `argument`, for a place without an option before it: a name that begins with a dash is none."""
    return f"-- {argument(name)}" if name.startswith("-") else argument(name)


def sentence(*clauses: str) -> str:
    """The clauses that say something, as one sentence with a capital and a full stop."""
    text = "; ".join(clause for clause in clauses if clause)
    return f"{text[:1].upper()}{text[1:]}."


def state_of(factory: FactoryFacts, now: datetime) -> str:
    """What keeps this factory from taking a mission, or that nothing does: `is draining`, `runs 2 of 2`, …"""
    view = factory.view
    if view.quarantined:
        return restrained("quarantined", factory.restraint, now)
    match view.status:
        case "stale" | "offline":
            return heard_of(factory)
        case "paused":
            return restrained("paused", factory.restraint, now) if factory.paused_by_hq else "says that it is paused"
        case "draining":
            return restrained("drained", factory.restraint, now) if factory.paused_by_hq else "is draining"
        case _:
            return heard_of(factory) if factory.overdue else room_of(factory)


def room_of(factory: FactoryFacts) -> str:
    """Whether one that is heard of could take another mission: `has room`, `is full (2 of 2 running)`, …"""
    view = factory.view
    if view.slots < 1:
        return "has no mission worker"
    if view.room > 0:
        return "has room"
    if is_laden(view):
        size = f"holds {view.held_bytes // 2**20} MiB of orders"
        return f"{size}, and HQ keeps no more in Redis for one factory"
    return f"is full ({load_of(factory)})"


def is_laden(view: FactoryView) -> bool:
    """Whether the bytes of its orders are what keeps a factory from having more of them."""
    return view.slots > 0 and view.takes_messages and view.is_laden


def restrained(word: str, restraint: Restraint | None, now: datetime) -> str:
    """`is paused by ops since 10:02:00 UTC (moving the desk), until 12:00:00 UTC`, as far as that is known."""
    known = restraint or Restraint()
    said = f"is {word} by {quoted(known.by, LONGEST_NOTE) if known.by else 'HQ'}"
    said += f" since {clock_time(known.since, now)}" if known.since else ""
    said += f" ({quoted(known.note, LONGEST_NOTE)})" if known.note else ""
    return said + (f", until {clock_time(known.until, now)}" if known.until else "")


def heard_of(factory: FactoryFacts) -> str:
    """When it was last heard of; of one that is not stale yet and should have been, for how long it is silent."""
    if factory.silent_seconds > NEVER_SECONDS:
        return "has not been heard of yet"
    if factory.overdue:
        usual = f"should be heard every {span(factory.expected_seconds)}"
        return f"has been silent for {span(factory.silent_seconds)} and {usual}"
    return f"was last heard of {span(factory.silent_seconds)} ago"


def silence_of(factory: FactoryFacts | None, now: datetime) -> str:
    """That one is silent which should have been heard of, and when it becomes stale; empty for any other."""
    if factory is None or not (factory.overdue or factory.view.status in SILENT):
        return ""
    becomes_stale = factory.overdue and factory.stale_at is not None
    stale = f"; it becomes stale at {clock_time(factory.stale_at or now, now)}" if becomes_stale else ""
    return f"{factory.view.factory_id} {heard_of(factory)}{stale}"


def how_it_ended(attempt: AttemptFacts) -> str:
    """What became of an attempt, in words."""
    if attempt.put_off:
        return "was put off"
    said = {
        "queued": "waits in its queue", "claimed": "was claimed", "running": "runs", "lost": "was lost",
        "timed_out": "hit its time limit", "withdrawn": "was taken back", "cancelled": "was cancelled",
    }  # fmt: skip
    return said.get(attempt.state, attempt.state)


def why_it_ended(attempt: AttemptFacts) -> str:
    """The error of an attempt, without the words that HQ put around that of a lost one."""
    error = attempt.error or ""
    if attempt.state != "lost":
        return quoted(error)
    if error.startswith(QUARANTINED) and LAST_TIME in error:
        return quoted(without_advice(error).partition(LAST_TIME)[2])
    return quoted(error.removeprefix(QUARANTINED).removeprefix(LOST))


def in_words(error: str | None) -> str:
    """An error that ends with the code of a reason in brackets, with the words for it in its place."""
    text = error or ""
    head, _, code = text.rpartition("(")
    word = REASONS.get(code.removesuffix(")")) if code.endswith(")") else None
    return f"{head}({word})" if word else text


def without_advice(error: str) -> str:
    """The error of a quarantine up to where it says what to do."""
    head, found, _ = error.rpartition(NEXT)
    return head if found else error


def nth_attempt(number: int, mission: MissionFacts) -> str:
    """`attempt 2 of 3`, for the newest attempt `number`; after some that were taken back, which use up none,
    `attempt 4 (2nd of 3 that count)`: the number is the ledger's, by which its history and commands name it."""
    if not mission.withdrawn:
        return f"attempt {number} of {mission.attempts_total}"
    return f"attempt {number} ({ordinal(number - mission.withdrawn)} of {mission.tries_total} that count)"


def load_of(factory: FactoryFacts) -> str:
    """`2 of 2 running, 4 queued`: what it has claimed beyond its slots waits as what lies in its queue does."""
    running, queued = running_and_queued(factory.running, factory.view.held, factory.view.slots)
    return f"{running} of {factory.view.slots} running" + (f", {queued} queued" if queued else "")


def running_and_queued(claimed: int, held: int, slots: int) -> tuple[int, int]:
    """Of the attempts that a factory holds, those that run in its slots, and those that wait for one (pure)."""
    running = min(claimed, slots) if slots > 0 else claimed
    return running, max(0, held - running)


def each_state(factories: Sequence[FactoryFacts], now: datetime, most: int = MOST_NAMED) -> str:
    """`desk-7 is draining, desk-9 runs 2 of 2` for the first of them, and how many more there are."""
    said = [f"{one.view.factory_id} {state_of(one, now)}" for one in factories[:most]]
    return ", ".join([*said, *([f"{len(factories) - most} more"] if len(factories) > most else [])])


def need_of(need: Need) -> str:
    """The label that the mission needs, in words: a kind that is ours has a label, any other is asked for by name."""
    label = need.label or ""
    return f"a handler for {label.removeprefix('kind:')}" if label.startswith("kind:") else label


def place_in_line(ahead: int, *, or_more: bool) -> str:
    """`3rd in line`, for 2 that are ahead; empty for who is first, or has seen nobody ahead."""
    if not ahead:
        return ""
    return f"behind {ahead} others or more" if or_more else f"{ordinal(ahead + 1)} in line"
