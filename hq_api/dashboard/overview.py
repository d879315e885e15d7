"""What the page of the fleet says about the facts it read: how old, how busy, and what needs a person; pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from re import compile as pattern
from typing import Final

from corporation.factories.signs_of_life import Light
from corporation.missions.counts import COUNTED_TO

GONE: Final = ("stale", "offline")
SHUT_OUT: Final = "quarantined"
LABELS_SHOWN: Final = 6
NEEDS_SHOWN: Final = 20
COMMIT: Final = pattern("[0-9a-f]{40}")
SHORT_COMMIT: Final = 7


@dataclass(frozen=True)
class Flag:
    """What HQ has said of a factory: `paused`, `draining` or `quarantined`, by whom, why and until when (ISO-8601)."""

    word: str
    by: str | None = None
    note: str | None = None
    until: str | None = None


@dataclass(frozen=True)
class Running:
    """The mission that has run longest on a factory; `percent` as the factory tells it, None when it tells nothing."""

    job_id: str
    kind: str
    seconds: float | None
    percent: int | None = None


@dataclass(frozen=True)
class FactoryRow:
    """One factory as the page shows it; every text in it was written by somebody else and is believed in nothing."""

    factory_id: str
    role: str
    profile: str
    status: str
    """As it is judged now, or `quarantined`."""
    silent_seconds: float | None
    """None: it has joined and was never heard of."""
    last_seen_at: str
    labels: tuple[str, ...] = ()
    slots: int = 0
    busy: int = 0
    version: str | None = None
    hostname: str | None = None
    display_name: str | None = None
    transport: str | None = None
    """How missions travel to it: `redis`, `https`, or None when it takes none or does not say."""
    flag: Flag | None = None
    running: Running | None = None
    lights: Mapping[str, Light] = field(default_factory=dict[str, Light])
    """`process`, `consumer` and `work`, in this order."""
    rival: bool = False
    """Whether another instance wants to be this factory and is refused."""

    @property
    def own_word(self) -> bool:
        """Whether it says itself that it takes nothing, without HQ having asked for it (F-16)."""
        return self.flag is None and self.status in ("paused", "draining")

    @property
    def version_shown(self) -> str | None:
        """A commit's first signs, anything else whole."""
        known = self.version is not None and COMMIT.fullmatch(self.version)
        return self.version[:SHORT_COMMIT] if self.version and known else self.version

    @property
    def awaited(self) -> bool:
        """Whether it has joined, or is expected, and was never heard of."""
        return self.silent_seconds is None and self.status != SHUT_OUT

    @property
    def gone(self) -> bool:
        """Whether it was silent for so long that HQ counts on it no more."""
        return self.status in GONE

    @property
    def labels_shown(self) -> tuple[str, ...]:
        """The labels that stand in the row; `labels_folded` are behind a click."""
        return self.labels if len(self.labels) <= LABELS_SHOWN + 1 else self.labels[:LABELS_SHOWN]

    @property
    def labels_folded(self) -> tuple[str, ...]:
        """What is left of the labels; a factory may have hundreds."""
        return self.labels[len(self.labels_shown) :]


@dataclass(frozen=True)
class Fleet:
    """The factories most recently heard of, how many there are in all, and the missions by state."""

    factories: tuple[FactoryRow, ...]
    registered: int
    open_missions: Mapping[str, int]
    """By state, each counted no further than COUNTED_TO."""
    ended_missions: Mapping[str, int]
    """By final state, of the missions created within the last day."""
    any_mission: bool
    ended_is_part: bool = False
    """Whether the day had so many missions that only the newest COUNTED_TO of them were looked at."""

    @property
    def present(self) -> tuple[FactoryRow, ...]:
        """The factories that HQ still hears, and listens to."""
        return tuple(one for one in self.factories if not one.gone and one.status != SHUT_OUT)

    @property
    def lost(self) -> tuple[FactoryRow, ...]:
        """The factories that fell silent; one that was shut out is meant to."""
        return tuple(one for one in self.factories if one.gone and not one.awaited)

    @property
    def slots(self) -> int:
        """How many missions the factories that are present can run at once."""
        return sum(one.slots for one in self.present)

    @property
    def under_way(self) -> int:
        """Missions that a factory has taken."""
        return self.open_missions.get("claimed", 0) + self.open_missions.get("running", 0)

    @property
    def to_come(self) -> int:
        """Missions that no factory has taken yet."""
        return self.open_missions.get("waiting", 0) + self.open_missions.get("queued", 0)

    @property
    def gone_wrong(self) -> int:
        """Missions of the last day that failed or ran out of time."""
        return self.ended_missions.get("failed", 0) + self.ended_missions.get("timed_out", 0)


@dataclass(frozen=True)
class Need:
    """One thing that waits for a person: what is so, and what to do about it."""

    subject: str
    text: str
    advice: str


def needs(fleet: Fleet, headquarters: str) -> Sequence[Need]:
    """What needs a person now, the most pressing first; empty is the normal case."""
    return [
        *_missions(fleet),
        *(_rivalry(one) for one in fleet.factories if one.rival),
        *(_silence(one, headquarters) for one in fleet.lost),
        *(need for one in fleet.present for need in _reds(one)),
        *(_absence(one) for one in fleet.factories if one.awaited),
    ]


def _missions(fleet: Fleet) -> Iterator[Need]:
    workers = [one for one in fleet.present if one.slots > 0 and one.status == "online"]
    if fleet.to_come and not workers:
        waiting = f"{counted(fleet.to_come)} {'mission waits' if fleet.to_come == 1 else 'missions wait'}"
        yield Need("Missions", f"{waiting} and no factory is online to take one", "start or resume a factory")


def _rivalry(factory: FactoryRow) -> Need:
    text = "is the name of two machines, or of a machine and a copy of its state folder; the second one is refused"
    return Need(factory.factory_id, text, "stop one of the two, or let it join again under a name of its own")


def _silence(factory: FactoryRow, headquarters: str) -> Need:
    own = factory.factory_id == headquarters
    advice = "see that this server is running" if own else "see that its machine is on"
    if factory.busy:
        advice += "; what it ran goes to another factory when its lease ends"
    return Need(factory.factory_id, f"has been silent for {span(factory.silent_seconds or 0.0)}", advice)


def _reds(factory: FactoryRow) -> Iterator[Need]:
    """Factories that beat, and all the same take nothing or get nowhere."""
    consumer, work = factory.lights.get("consumer"), factory.lights.get("work")
    if consumer and consumer.state == "red":
        advice = "ask corporation factory status on its machine, and restart it there"
        yield Need(factory.factory_id, f"takes no missions: {_clause(consumer.why)}", advice)
    if work and work.state == "red":
        advice = "look at what it runs; what is not named again goes to another factory when its lease ends"
        yield Need(factory.factory_id, f"gets nowhere: {_clause(work.why)}", advice)


def _absence(factory: FactoryRow) -> Need:
    return Need(factory.factory_id, "was never heard of", "start it on its machine with corporation factory up")


def _clause(sentence: str) -> str:
    """A sentence as the end of another one, which has a full stop of its own."""
    return sentence[:1].lower() + sentence[1:].removesuffix(".")


def counted(count: int) -> str:
    """`count` for people, with a plus where counting stopped."""
    return f"{COUNTED_TO:,}+" if count >= COUNTED_TO else f"{count:,}"


def span(seconds: float) -> str:
    """A length of time in its largest unit that is at least one, as `41 s`, `12 min`, `3 h` or `5 d`."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{max(0, int(seconds))} s"


def age(seconds: float | None) -> str:
    """How long ago something was, for a person; None is what never was."""
    if seconds is None:
        return "never"
    return "now" if seconds < 1 else f"{span(seconds)} ago"


def minute(moment: str) -> str:
    """A moment of ISO-8601 in UTC, as people read it and without its seconds."""
    return f"{moment[:16].replace('T', ' ')} UTC"
