"""What the page of the fleet says about the facts it read: how old, how busy, and what needs a person; pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from corporation.missions.counts import COUNTED_TO

GONE: Final = ("stale", "offline")
LABELS_SHOWN: Final = 6
NEEDS_SHOWN: Final = 20


@dataclass(frozen=True)
class FactoryRow:
    """One factory as the page shows it; every text in it was written by the factory and is believed in nothing."""

    factory_id: str
    role: str
    profile: str
    status: str
    silent_seconds: float
    last_seen_at: datetime
    labels: tuple[str, ...] = ()
    slots: int = 0
    busy: int = 0
    version: str | None = None
    hostname: str | None = None

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
        """The factories that HQ still hears."""
        return tuple(one for one in self.factories if not one.gone)

    @property
    def lost(self) -> tuple[FactoryRow, ...]:
        """The factories that fell silent."""
        return tuple(one for one in self.factories if one.gone)

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
    found: list[Need] = []
    workers = [one for one in fleet.present if one.slots > 0 and one.status == "online"]
    if fleet.to_come and not workers:
        waiting = f"{counted(fleet.to_come)} {'mission waits' if fleet.to_come == 1 else 'missions wait'}"
        found.append(Need("Missions", f"{waiting} and no factory is online to take one", "start or resume a factory"))
    for one in fleet.lost:
        advice = "see that this server is running" if one.factory_id == headquarters else "see that its machine is on"
        if one.busy:
            advice += "; what it ran goes to another factory when its lease ends"
        found.append(Need(one.factory_id, f"has been silent for {span(one.silent_seconds)}", advice))
    return found


def counted(count: int) -> str:
    """`count` for people, with a plus where counting stopped."""
    return f"{COUNTED_TO:,}+" if count >= COUNTED_TO else f"{count:,}"


def span(seconds: float) -> str:
    """A length of time in its largest unit that is at least one, as `41 s`, `12 min`, `3 h` or `5 d`."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{max(0, int(seconds))} s"


def age(seconds: float) -> str:
    """How long ago something was, for a person."""
    return "now" if seconds < 1 else f"{span(seconds)} ago"
