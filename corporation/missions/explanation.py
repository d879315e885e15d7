"""What is known about a mission when somebody asks why it is where it is, and the answer they get: values only."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from corporation.factories.instances import DEFAULT_INTERVAL_SECONDS, INTERVALS_OF_SILENCE
from corporation.missions.broadcast import Child
from corporation.missions.routing import LIVE, FactoryView, Need

MOST_AHEAD: Final = 1000
"""How many missions in front of one are counted; who stands that far back does not need the number."""

MOST_CANDIDATES: Final = 100
"""How many factories an answer lists."""


@dataclass(frozen=True)
class MissionFacts:
    """The mission's row; `need` is what routing asks of a factory for it."""

    job_id: str
    kind: str
    state: str
    need: Need
    priority: int
    attempt: int
    attempts_total: int
    timeout_seconds: int
    created_at: datetime
    withdrawn: int = 0
    """Attempts that were taken back before anybody received them: they used up none, and HQ added one for each."""
    workers_lost: int = 0
    """Attempts that were lost together with the process that ran them."""
    factory_id: str | None = None
    """Who holds it, or held it last."""
    started_at: datetime | None = None
    finished_at: datetime | None = None
    deadline_at: datetime | None = None
    next_attempt_at: datetime | None = None
    error: str | None = None
    cancel_requested_at: datetime | None = None
    cancel_reason: str | None = None
    broadcast: bool = False
    """An order to every factory: never sent itself, done by its children (S-25)."""
    children: int | None = None
    """How many it was spread into; None before."""
    adopted: "AdoptedFacts | None" = None
    """Whose late result it succeeded with, where somebody adopted one."""
    dropped: str | None = None
    """Why its factory could not bring the result home, where it succeeded without."""
    repeats: str | None = None
    """The mission whose order it runs again."""

    @property
    def tries(self) -> int:
        """How many attempts are used up, the current one among them."""
        return self.attempt - self.withdrawn

    @property
    def tries_total(self) -> int:
        """How many it may use up, as its publisher asked."""
        return self.attempts_total - self.withdrawn


@dataclass(frozen=True)
class AdoptedFacts:
    """The attempt of the mission `job_id`, perhaps another one, whose late result counts."""

    job_id: str
    attempt: int
    factory_id: str


@dataclass(frozen=True)
class RepeatFacts:
    """The newest mission that stands for this one: its order run again, or its late result that somebody adopted."""

    job_id: str
    state: str
    adopted: bool = False


@dataclass(frozen=True)
class AttemptFacts:
    """One try, as the ledger has it."""

    number: int
    factory_id: str
    state: str
    created_at: datetime
    lease_expires_at: datetime
    claimed_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    progress: Mapping[str, Any] | None = None
    error: str | None = None
    took_worker: bool = False
    sends: int = 1
    late_result: bool = False
    """It reported after it had been given up; the report is kept (H-32)."""
    adoptable: bool = False
    """It said then that the work is done, and no late result of its mission counts yet."""
    permanent: bool = False
    """Its handler said that no other attempt will do better (`Stop`); read only where its mission failed with it."""
    put_off: bool = False
    """Its handler said "not now" (`Later`); read of the newest attempts only."""


@dataclass(frozen=True)
class Restraint:
    """HQ's word that keeps missions from a factory: whose it is, since when, why, and when it ends by itself."""

    by: str | None = None
    since: datetime | None = None
    note: str | None = None
    until: datetime | None = None


@dataclass(frozen=True)
class FactoryFacts:
    """A factory as routing sees it, and what else people want to know of one."""

    view: FactoryView
    silent_seconds: float = 0.0
    paused_by_hq: bool = False
    """HQ's flag is set (F-20); without it a factory that is `paused` or `draining` says so of itself."""
    running: int = 0
    """Attempts it runs, out of those it holds."""
    restraint: Restraint | None = None
    """Of whom HQ's flag is, or the quarantine."""
    interval_seconds: float | None = None
    """How often it said it would be heard of; None while it has not said it."""
    stale_at: datetime | None = None
    """When it becomes stale unless it is heard of before."""

    @property
    def expected_seconds(self) -> float:
        """How often it should be heard of."""
        return self.interval_seconds or DEFAULT_INTERVAL_SECONDS

    @property
    def overdue(self) -> bool:
        """Whether it is silent for longer than its beats allow, as its process light shows, and not yet stale."""
        late = self.silent_seconds > INTERVALS_OF_SILENCE * self.expected_seconds
        return late and not self.view.quarantined and self.view.status in LIVE


@dataclass(frozen=True)
class QueuePlace:
    """Where a queued attempt stands at its factory, counted from 1, out of how many that nobody took yet."""

    place: int
    of: int
    unsent_seconds: float | None = None
    """How long it has been in HQ's outbox; None once its message was handed to the broker."""


@dataclass(frozen=True)
class Facts:
    """All that was read in one look at the ledger, at the moment `now` of its clock."""

    now: datetime
    mission: MissionFacts
    attempts: Sequence[AttemptFacts] = ()
    """The newest at most 20, the oldest of them first."""
    factories: Sequence[FactoryFacts] = ()
    ahead: int = 0
    """Due missions with the same need that are dispatched before it; at most MOST_AHEAD are counted."""
    ahead_or_more: bool = False
    """There may be more than `ahead`: it was counted no further."""
    queue: QueuePlace | None = None
    broker_answers: bool = True
    open_children: Sequence[Child] = ()
    """Those of a broadcast that have not ended, at most 20."""
    open_children_count: int = 0
    dead_letter: str | None = None
    """The open dead letter of this mission, as `dl-12`."""
    repeat: RepeatFacts | None = None
    """What stands for this mission now, where it was run again or its late result was adopted."""

    @property
    def views(self) -> list[FactoryView]:
        """The factories as routing wants them."""
        return [factory.view for factory in self.factories]

    @property
    def last(self) -> AttemptFacts | None:
        """The newest attempt."""
        return self.attempts[-1] if self.attempts else None

    @property
    def ended_by(self) -> AttemptFacts | None:
        """The attempt with which the mission ended; None where it waited then, whatever attempts were before.

        One statement writes both ends, so they bear one time.
        """
        last, end = self.last, self.mission.finished_at
        return last if last is not None and end is not None and last.finished_at == end else None

    def factory(self, factory_id: str | None) -> FactoryFacts | None:
        """The registered factory of this name."""
        return next((one for one in self.factories if one.view.factory_id == factory_id), None)


@dataclass(frozen=True)
class Reason:
    """Why a mission does not run: `code` is one of contract http H-29, `message` the same in words."""

    code: str
    message: str


@dataclass(frozen=True)
class Candidate:
    """A factory, and why it is not sent the mission now: the codes of `routing.obstacles`."""

    factory: FactoryFacts
    reasons: Sequence[str]

    @property
    def eligible(self) -> bool:
        """Whether nothing stands in the way."""
        return not self.reasons


@dataclass(frozen=True)
class Advice:
    """One thing that would help, and the command that does it where there is one; names in it are quoted."""

    what: str
    command: str | None = None


@dataclass(frozen=True)
class Explanation:
    """The answer: one sentence, what it rests on, and what would help."""

    sentence: str
    reasons: Sequence[Reason] = ()
    """At least one while the mission neither runs nor has ended; the first is the one the dispatcher writes down."""
    evidence: Sequence[str] = ()
    advice: Sequence[Advice] = ()
    candidates: Sequence[Candidate] = ()
    failure_class: str | None = None
    """How it failed; None for everything that did not end without success."""
    since: datetime | None = None
    """When it came into its state."""
    ahead: int = 0
    """How many are served before it: missions that wait for the same, or attempts in the queue of its factory."""
    ahead_or_more: bool = False
