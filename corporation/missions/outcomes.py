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
    took_worker: bool = True
    """False when it took no process down: it lay in a queue, was revoked, or was stopped with its factory."""


@dataclass(frozen=True)
class Cancelled:
    """The attempt was stopped because somebody asked for it; `why` is what the asker said."""

    why: str
    result: Mapping[str, Any] = field(default_factory=dict[str, Any])


Outcome = Done | Later | Stop | Failed | TimedOut | Lost | Cancelled


_WORDS: dict[type[Outcome], str] = {
    Done: "done",
    Later: "later",
    Stop: "stop",
    Failed: "failed",
    TimedOut: "timed_out",
    Lost: "lost",
    Cancelled: "cancelled",
}

WORDS = frozenset(_WORDS.values())
"""What the `outcome` of a report may be."""
_WITH_EVIDENCE = {"stop": Stop, "failed": Failed, "timed_out": TimedOut, "cancelled": Cancelled}


def to_report(outcome: Outcome) -> dict[str, Any]:
    """`outcome` as the JSON object that spool and mailbox carry; `from_report` reads it back."""
    report: dict[str, Any] = {"outcome": _WORDS[type(outcome)]}
    if not isinstance(outcome, Done):
        report["error"] = outcome.why
    if isinstance(outcome, Later):
        report["after_seconds"] = outcome.after_seconds
    elif not isinstance(outcome, Lost):
        report["result"] = dict(outcome.result)
    elif not outcome.took_worker:
        report["took_worker"] = False
    return report


def from_report(report: object) -> Outcome:
    """The outcome in a factory's report; whatever is not one of ours is a failure that says so, never an error."""
    if not isinstance(report, Mapping):
        return Failed("the factory's report is not an object")
    fields = {str(key): value for key, value in report.items()}
    result = fields.get("result")
    evidence: dict[str, Any] = {str(k): v for k, v in result.items()} if isinstance(result, Mapping) else {}
    why = _text(fields.get("error")) or "no reason was given"
    match fields.get("outcome"):
        case "done":
            return Done(evidence)
        case "later":
            return Later(_seconds(fields.get("after_seconds")), why)
        case "lost":
            return Lost(why, took_worker=fields.get("took_worker") is not False)
        case "stop" | "failed" | "timed_out" | "cancelled" as word:
            return _WITH_EVIDENCE[word](why, evidence)
        case _:
            return _from_celery(fields)


def _text(value: object) -> str:
    try:
        return "" if value is None else str(value)
    except ValueError:  # an integer of more digits than Python writes
        return "a number too long to be written"


def _seconds(value: object) -> float:
    # A factory's number: never negative, never NaN, at most a day (the longest wait a handler may ask for).
    # Compared before it is converted: an integer may be larger than every float.
    if not isinstance(value, int | float) or value != value:
        return 0.0
    return float(min(max(value, 0), 86_400))


def _from_celery(fields: Mapping[str, Any]) -> Outcome:
    """What Celery itself stores when the task never got to report: a killed process, an unknown task."""
    kind, message = _text(fields.get("exc_type")), fields.get("exc_message")
    words: list[Any] = list(message) if isinstance(message, list | tuple) else [message]
    text = " ".join(_text(word) for word in words)
    if kind in ("TimeLimitExceeded", "SoftTimeLimitExceeded"):
        return TimedOut(f"the time limit passed ({text})")
    if kind in ("WorkerLostError", "Terminated", "WorkerShutdown"):
        return Lost(text or kind)
    if kind == "NotRegistered":
        return Failed(f"the factory does not know this kind of mission ({text})")
    return Failed(f"{kind}: {text}" if kind else "the factory's report has no outcome")
