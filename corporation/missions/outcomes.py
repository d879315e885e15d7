"""What a handler may answer: outcomes are values, and an exception means that the attempt failed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Done:
    """The work is done; `result` is a JSON object that goes into the mission's result."""

    result: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True)
class Later:
    """Not now: try again after `after_seconds`; `why` is shown to people. It uses up one attempt."""

    after_seconds: float
    why: str


@dataclass(frozen=True)
class Stop:
    """It will never work: the mission fails now, whatever attempts are left; `why` is its error."""

    why: str
    result: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True)
class Failed:
    """This attempt failed; another one may succeed. `result` keeps the evidence (tails, exit code)."""

    why: str
    result: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True)
class TimedOut:
    """The attempt hit its time limit (`timeout_seconds`, contract S-31) and was stopped with all its children."""

    why: str
    result: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True)
class Lost:
    """The process that ran the attempt died; the factory noticed, or its lease lapsed at HQ."""

    why: str


Outcome = Done | Later | Stop | Failed | TimedOut | Lost
