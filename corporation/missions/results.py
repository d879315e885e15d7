"""An attempt's result comes home over HTTPS and is judged at once, in one transaction (contract http §8)."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from sqlalchemy import Connection

from corporation.masking import without_secrets
from corporation.missions.collect import apply, read_letter, settle
from corporation.missions.finish import Standing, TooLate
from corporation.missions.retry import RetryPolicy
from corporation.missions.store import https_results, reporting
from corporation.missions.store.https_results import LockedLetter
from corporation.missions.store.reporting import Letter
from corporation.strict_json import dump

MOST_LATE: Final = 5
"""Late reports of one attempt that its history tells of; further ones change nothing at all."""


@dataclass(frozen=True)
class Result:
    """What a factory reports of an attempt: a spool's report object, and the whole body it came in."""

    attempt_id: str
    report: Mapping[str, Any]
    body: Mapping[str, Any] = field(repr=False)
    usage: Mapping[str, Any] | None = None
    worker: str = ""

    @property
    def status(self) -> str:
        """As Celery would have stored it."""
        return "SUCCESS" if self.report.get("outcome") == "done" else "FAILURE"

    @property
    def letter(self) -> bytes:
        """What its row of the mailbox will hold: the report, and of a failure what Celery's own tools want to see."""
        named = {"exc_type": "MissionFailed", "exc_message": [str(self.report.get("error", ""))[-4000:]]}
        return dump(dict(self.report) if self.status == "SUCCESS" else {**self.report, **named}).encode()

    @property
    def digest(self) -> bytes:
        """The same for the same body, however it was written."""
        return hashlib.sha256(dump(dict(self.body)).encode()).digest()


@dataclass(frozen=True)
class Taken:
    """The result counts: the mission is in `state` by it, or was, when it came for the first time."""

    job_id: str
    state: str


@dataclass(frozen=True)
class Unknown:
    """No attempt has this id."""


@dataclass(frozen=True)
class Foreign:
    """The attempt is another factory's."""


@dataclass(frozen=True)
class Late:
    """The attempt is no longer current; the result is kept as evidence."""


Answer = Taken | Unknown | Foreign | Late


def take_result(
    connection: Connection, result: Result, speaker: str | None, policy: RetryPolicy, chance: Callable[[], float]
) -> Answer:
    """The mission has ended or waits for its next attempt, or the result is kept as late; the same again is answered
    as the first time, whatever became of the mission since.

    `speaker` is the factory whose token it is, None for an operator's. What is kept of a failure, also in the mailbox,
    has lost what looks like a secret (S-40).
    """
    result = replace(result, report=without_secrets(result.report))
    locked = https_results.lock_letter(connection, result.attempt_id)
    standing = reporting.read_standings(connection, [result.attempt_id]).get(result.attempt_id)
    known = https_results.read_answered(connection, result.attempt_id)
    if standing is None or known is None:
        return Unknown()
    if speaker is not None and speaker != known.factory_id:
        return Foreign()
    if known.digest is not None and known.digest == result.digest:
        return Taken(known.job_id, known.answered or known.state)
    if not standing.current or known.digest is not None or locked is None or locked.collected:
        _keep(connection, standing, result, policy)
        return Late()
    _settle(connection, standing, _filled(connection, locked, result), policy, chance())
    usage = dump(dict(result.usage)) if result.usage else None
    state = https_results.remember_answer(connection, result.attempt_id, result.digest, usage)
    return Taken(known.job_id, state)


def _filled(connection: Connection, locked: LockedLetter, result: Result) -> Letter:
    """The letter with this report in it; one that a worker filled a moment ago counts as it is."""
    if not locked.open:
        return locked.letter
    body = result.letter
    https_results.fill(connection, locked.letter.letter_id, result.status, body, result.worker)
    return Letter(locked.letter.letter_id, locked.letter.attempt_id, result.status, body)


def _settle(connection: Connection, standing: Standing, letter: Letter, policy: RetryPolicy, chance: float) -> None:
    apply(connection, [settle(standing, *read_letter(letter), policy, chance)])
    reporting.mark_collected(connection, [letter.letter_id])


def _keep(connection: Connection, standing: Standing, result: Result, policy: RetryPolicy) -> None:
    """The evidence is beside the attempt, and its mission's history says so, once for each and a few times at most."""
    text = dump(dict(result.report))
    if https_results.is_kept(connection, result.attempt_id, text, MOST_LATE):
        return
    letter = Letter(0, result.attempt_id, result.status, text.encode())
    ended = settle(standing, *read_letter(letter), policy, 0.0)
    apply(connection, [replace(ended, verdict=TooLate("a result that came after the one that counts"))])
