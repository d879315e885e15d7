"""Whether a factory lives, listens and works: three lights, each with one sentence why (architecture §5); pure.

A heartbeat alone proves little: a worker may beat and take nothing, or take missions and get nowhere.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal

from corporation.factories.instances import DEFAULT_INTERVAL_SECONDS, INTERVALS_OF_SILENCE

State = Literal["green", "red", "unknown"]

LOOP_LIMIT_SECONDS: Final = 60.0
"""A consumer loop that has not ticked for so long, although Redis answers, will not tick again."""
LONGEST_WORK_SECONDS: Final = 600.0
"""How long what runs in a worker whose loop stands still may finish, as at the factory."""
STALLED_SECONDS: Final = 1_800.0
"""Work that told of its progress and has said nothing new for so long deserves a look."""
ECHO_GRACE_SECONDS: Final = 30.0
"""How long an echo may take through the queue, beside the beats that have to tell of it."""
NEVER_SECONDS: Final = 10 * 365 * 86_400.0
"""A silence longer than this project: the factory has joined and was never heard of."""


@dataclass(frozen=True)
class WorkerSign:
    """What a factory says of one of its workers; `loop_age_seconds` since its consumer loop last ticked."""

    name: str
    slots: int = 0
    busy: int = 0
    queues: Sequence[str] = ()
    loop_age_seconds: float | None = None
    connected: bool = False

    def stored(self) -> dict[str, Any]:
        """The worker as its factory's row keeps it."""
        return {**asdict(self), "queues": list(self.queues)}

    @classmethod
    def from_stored(cls, kept: Mapping[str, Any]) -> "WorkerSign":
        """What `stored` had made."""
        return cls(**{name: kept[name] for name in cls.__dataclass_fields__ if name in kept})


@dataclass(frozen=True)
class Signs:
    """What HQ knows of one factory now; every `_seconds` says how long ago something was."""

    status: str
    silent_seconds: float
    interval_seconds: float | None = None
    over_https: bool = False
    slots: int = 0
    busy: int = 0
    running: int = 0
    unnamed_seconds: float | None = None
    """Of what runs there, the longest time since the factory named an attempt."""
    workers: Sequence[WorkerSign] = field(default_factory=tuple)
    echo_asked_seconds: float | None = None
    echo_heard_seconds: float | None = None
    """Of the last echo that was heard, which may be an earlier one than the last that was asked for."""
    stalled_seconds: float | None = None
    """Of what ever told of its progress, the longest time without a new word; None while nothing does."""
    left: bool = False
    """Whether it said, with its last word, that it ends."""

    @property
    def patience_seconds(self) -> float:
        """How long a beat may be due before something is wrong."""
        return INTERVALS_OF_SILENCE * (self.interval_seconds or DEFAULT_INTERVAL_SECONDS)


@dataclass(frozen=True)
class Light:
    """One light, and one sentence why it shows what it shows."""

    state: State
    why: str


@dataclass(frozen=True)
class Lights:
    """Whether the factory's processes live, whether they take missions, and whether the missions move."""

    process: Light
    consumer: Light
    work: Light

    def shown(self) -> dict[str, Any]:
        """The three as the API writes them."""
        return asdict(self)


def judge_lights(signs: Signs) -> Lights:
    """The three lights of a factory; nothing is said of what a silent factory would have to tell itself."""
    process = _process(signs)
    if process.state != "green":
        unheard = Light("unknown", "Nothing is known while the factory is not heard of.")
        return Lights(process, unheard, unheard)
    return Lights(process, _consumer(signs), _work(signs))


def dead_workers(workers: Sequence[WorkerSign]) -> list[str]:
    """The names of those whose consumer loop stands still although Redis answers: only a restart helps them.

    Who still works has ten minutes to finish: what runs is worth more than what waits.
    """
    return [one.name for one in workers if one.connected and (one.loop_age_seconds or 0.0) > _limit_of(one)]


def _limit_of(worker: WorkerSign) -> float:
    return LONGEST_WORK_SECONDS if worker.busy else LOOP_LIMIT_SECONDS


def _process(signs: Signs) -> Light:
    if signs.silent_seconds > NEVER_SECONDS:
        return Light("unknown", "It has joined and was not heard of yet.")
    ago = span(signs.silent_seconds)
    if signs.left:
        return Light("red", f"It was stopped {ago} ago, and said so.")
    if signs.silent_seconds <= signs.patience_seconds:
        return Light("green", f"It was heard of {ago} ago.")
    every = span(signs.interval_seconds or DEFAULT_INTERVAL_SECONDS)
    return Light("red", f"It was last heard of {ago} ago, and should be every {every}.")


def _consumer(signs: Signs) -> Light:
    if signs.over_https:
        return Light("unknown", "It asks for missions over HTTPS; no queue waits for it.")
    if signs.status in ("paused", "draining"):
        return Light("unknown", f"It is {signs.status} and takes nothing.")
    if signs.slots == 0:
        return Light("unknown", "No mission worker runs there.")
    return _loops(signs) or _echo(signs) or _ticking(signs)


def _loops(signs: Signs) -> Light | None:
    if dead := dead_workers(signs.workers):
        oldest = max(one.loop_age_seconds or 0.0 for one in signs.workers if one.name in dead)
        return Light("red", f"The consumer loop of {', '.join(dead)} has stood still for {span(oldest)}.")
    taking = [one for one in signs.workers if one.slots > 0]
    if taking and not any(one.connected for one in taking):
        return Light("red", "None of its mission workers reaches Redis.")
    return None


def _echo(signs: Signs) -> Light | None:
    asked, heard = signs.echo_asked_seconds, signs.echo_heard_seconds
    answered = asked is not None and heard is not None and heard <= asked
    if asked is not None and not answered and asked > signs.patience_seconds + ECHO_GRACE_SECONDS:
        if signs.busy >= signs.slots:
            return Light("unknown", "All its slots are taken, so its queue has to wait.")
        return Light("red", f"What was put into its queue {span(asked)} ago was not taken, though it has room.")
    return Light("green", f"It answered from its queue {span(heard)} ago.") if heard is not None else None


def _ticking(signs: Signs) -> Light:
    ages = [one.loop_age_seconds for one in signs.workers if one.slots > 0 and one.loop_age_seconds is not None]
    if ages:
        return Light("green", f"Its consumer loop ticked {span(max(ages))} before it was heard of.")
    return Light("unknown", "It was not asked through its queue yet.")


def _work(signs: Signs) -> Light:
    if signs.running == 0 or signs.unnamed_seconds is None:
        return Light("unknown", "Nothing runs there.")
    ago, still = span(signs.unnamed_seconds), signs.stalled_seconds
    if signs.unnamed_seconds > signs.patience_seconds:
        return Light("red", f"Of {signs.running} that run there, one was last named {ago} ago.")
    if still is not None and still > STALLED_SECONDS:
        return Light("red", f"Of {signs.running} that run there, one has said nothing new of itself for {span(still)}.")
    moved = f"; the slowest moved {span(still)} ago" if still is not None else ", and told nothing of their progress"
    return Light("green", f"All {signs.running} that run there were named within {ago}{moved}.")


def span(seconds: float) -> str:
    """A length of time for people, in its largest unit: `45 s`, `3 min`, `7 h`, `2 days`."""
    whole = max(0, round(seconds))
    for unit, size in (("days", 172_800), ("h", 7_200), ("min", 120)):
        if whole >= size:
            return f"{whole // (size // 2)} {unit}"
    return f"{whole} s"
