"""What happened in a run of the chaos, as values (pure): what was wished, accepted, written, done, told and broken.

`chaos_ledger.py` and the clients fill it, `chaos_checks.py` judges it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ops.bench.chaos_marks import Mark
from ops.bench.chaos_plan import Wish

FINAL: Final = frozenset({"succeeded", "failed", "timed_out", "cancelled"})
LIVE: Final = frozenset({"queued", "claimed", "running"})


@dataclass(frozen=True)
class Event:
    """A row of a mission's history; `at_ms` counts from the machine's start, like all times here."""

    seq: int
    type: str
    attempt: int | None
    factory_id: str | None
    at_ms: int
    detail: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True)
class Attempt:
    """A row of the attempts, and whether its report lies in the mailbox."""

    attempt_id: str
    number: int
    factory_id: str
    state: str
    created_ms: int
    finished_ms: int | None
    took_worker: bool = False
    sends: int = 1
    mailbox: str = ""
    """What the factory reported, in one word: `done`, `failed`, `lost`, …; empty while it did not."""


@dataclass(frozen=True)
class MissionRow:
    """A mission as the ledger has it at the end, with its events and attempts in order."""

    job_id: str
    key: str
    state: str
    attempt: int
    attempts_total: int
    event_seq: int
    error: str | None
    result: Mapping[str, Any]
    finished_ms: int | None
    events: Sequence[Event]
    attempts: Sequence[Attempt]


@dataclass(frozen=True)
class Told:
    """An entry of the results stream: its id in milliseconds of the machine's life, and what it says of the mission."""

    at_ms: int
    job_id: str
    content: str


@dataclass(frozen=True)
class Disturbance:
    """A fault that struck from `at_ms` to `until_ms`; `touches` names the factories and servers that it harmed."""

    kind: str
    at_ms: int
    until_ms: int
    touches: frozenset[str]
    how: str = ""
    clocks: frozenset[str] = frozenset()
    """The factories whose clock is wrong from then on by `how` many seconds; that excuses nothing (I11)."""


@dataclass
class History:
    """All that is known of one run."""

    wishes: dict[str, Wish] = field(default_factory=dict[str, Wish])
    """By key: which of its job_ids a mission with a twin has, is decided by who comes first."""
    accepted: list[tuple[str, str, str]] = field(default_factory=list[tuple[str, str, str]])
    """For each 2xx: the job_id that was asked for, the key, the job_id that was answered."""
    imported: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    """For each entry of the mission stream that was acknowledged: the job_id that was asked for, and the key."""
    cancels: dict[str, set[str]] = field(default_factory=dict[str, set[str]])
    """What was answered to those who wanted a mission cancelled, by its key: states, or that it had ended before."""
    missions: dict[str, MissionRow] = field(default_factory=dict[str, MissionRow])
    marks: list[Mark] = field(default_factory=list[Mark])
    told: list[Told] = field(default_factory=list[Told])
    disturbances: list[Disturbance] = field(default_factory=list[Disturbance])
    left: dict[str, int] = field(default_factory=dict[str, int])
    """What should be empty in the end and is not, by name."""
    unacknowledged: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    """Factory and attempt of each mission's message that was taken in Redis and not acknowledged in the end."""
    leaks: list[str] = field(default_factory=list[str])
    """Where a secret was found that must be nowhere (I10)."""
    grown: list[str] = field(default_factory=list[str])
    """What did not go back to what it was before the first mission (I12)."""
    strangers: list[str] = field(default_factory=list[str])
    """Messages that lay in the queue of another factory than theirs."""
    survivors: list[str] = field(default_factory=list[str])
    """Processes that a mission started and that outlived it."""
    clients_ended: bool = True


@dataclass(frozen=True)
class Problem:
    """A broken promise: which rule, about which mission (empty when about none), and in words."""

    rule: str
    job_id: str
    what: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.job_id + ': ' if self.job_id else ''}{self.what}"


@dataclass(frozen=True)
class Verdict:
    """The broken promises, none when all is well, and what was counted on the way."""

    problems: list[Problem]
    counts: dict[str, Any]
