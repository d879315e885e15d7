"""From the mailbox into the ledger: what factories reported becomes each mission's end, its next try, or evidence."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection

from corporation import strict_json
from corporation.masking import hide_shapes, without_secrets
from corporation.missions.finish import Again, Finish, Standing, TooLate, Verdict, judge
from corporation.missions.outcomes import Done, Failed, Lost, Outcome, TimedOut, from_report
from corporation.missions.retry import RetryPolicy
from corporation.missions.store import finishing, reporting
from corporation.missions.store.finishing import Ended
from corporation.missions.store.reporting import Letter
from corporation.wakeups import DISPATCH, wake

LONGEST_ERROR = 4000
"""Characters of an error kept in the ledger; the tail is kept, since it names the cause (contract http H-36)."""

ROOM_FOR_OURS = 100
"""Characters of it that are left to HQ, which says first that an attempt was lost: what is cut is cut at the head."""

LONGEST_RUN_SECONDS = 10 * 365 * 86_400.0
"""A factory's duration beyond this is a mistake or a lie; it is only used to show when the attempt started."""


# PostgreSQL's text holds no NUL, and half a surrogate pair cannot be written as UTF-8.
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def collect_some(
    connection: Connection,
    policy: RetryPolicy,
    chance: Callable[[], float],
    limit: int,
    hide: Callable[[str], str] = hide_shapes,
) -> int:
    """Apply up to `limit` reports of the mailbox to their missions and return how many were read.

    Reports on attempts that are no longer current, or of a factory in quarantine, change nothing but the history. What
    is kept of a failure went through `hide` (S-40). Two collectors may run at once.
    """
    letters = reporting.take_letters(connection, limit)
    if letters:
        standings = reporting.read_standings(connection, [letter.attempt_id for letter in letters])
        ended = [
            settle(_heard(standings[letter.attempt_id]), *read_letter(letter, hide), policy, chance())
            for letter in letters
            if letter.attempt_id in standings
        ]
        apply(connection, ended)
        reporting.mark_collected(connection, [letter.letter_id for letter in letters])
    return len(letters)


def _heard(standing: Standing) -> Standing:
    """A factory in quarantine ends no mission: it may have written under a snapshot of before it was shut out, or
    committed after it. The attempt ends by its lease; whoever trusts the report adopts it."""
    return replace(standing, current=False) if standing.quarantined else standing


def apply(connection: Connection, ended: Sequence[Ended]) -> None:
    """Write the verdicts into the ledger, and wake the dispatcher, since a slot is free."""
    finishing.apply_finishes(connection, ended)
    finishing.apply_retries(connection, ended)
    finishing.keep_late(connection, ended)
    if ended:
        wake(connection, DISPATCH)


def read_letter(letter: Letter, hide: Callable[[str], str] = hide_shapes) -> tuple[Outcome, Mapping[str, Any]]:
    """The outcome in a factory's bytes, and the object it was read from; hostile bytes are a failure that says so.

    Both without secrets, as far as they tell of a failure: here, before an error is cut, since half a secret has no
    shape any more.
    """
    try:
        report = strict_json.parse(letter.body, strict_json.REPORT) if letter.body else {}
    except strict_json.JsonRefused as refused:
        why = f"the factory's report cannot be read: {refused}"
        # It says itself that the work is done: doing it again would not make its words readable.
        return (Done({"unreadable": why}) if letter.status == "SUCCESS" else Failed(why)), {}
    fields = without_secrets(report, hide) if isinstance(report, dict) else {}
    if letter.status == "REVOKED":
        return Lost("the task was revoked", took_worker=False), fields
    return from_report(fields if isinstance(report, dict) else report), fields


def settle(
    standing: Standing, outcome: Outcome, report: Mapping[str, Any], policy: RetryPolicy, chance: float
) -> Ended:
    """The verdict on one report, ready to be written."""
    verdict = _storable(judge(standing, _with_room(outcome), policy, chance))
    seconds = report.get("duration_seconds")
    honest = isinstance(seconds, int | float) and 0 <= seconds <= LONGEST_RUN_SECONDS
    return Ended(
        standing=standing,
        verdict=verdict,
        result=strict_json.dump(dict(verdict.result)) if isinstance(verdict, Finish) else "null",
        report=strict_json.dump(_clean(report)),
        seconds=float(seconds) if isinstance(seconds, int | float) and honest else 0.0,
        attempt_state=_attempt_state(verdict, outcome),
        took_worker=isinstance(outcome, Lost) and outcome.took_worker,
    )


def _with_room(outcome: Outcome) -> Outcome:
    """A lost attempt in as many of its factory's words as leave room for HQ's own before them."""
    if not isinstance(outcome, Lost):
        return outcome
    return replace(outcome, why=outcome.why[-(LONGEST_ERROR - ROOM_FOR_OURS) :])


def _attempt_state(verdict: Verdict, outcome: Outcome) -> str:
    if isinstance(outcome, Lost):
        return "lost"
    if isinstance(verdict, Finish):
        return str(verdict.state)
    return "timed_out" if isinstance(outcome, TimedOut) else "failed"


def _storable(verdict: Verdict) -> Verdict:
    """The verdict in texts that the ledger and every reader can take; an error of a megabyte helps nobody."""
    match verdict:
        case Finish(state, result, error):
            return Finish(state, _clean(result), _short(error) if error is not None else None)
        case Again(delay, error):
            return Again(delay, _short(error))
        case TooLate():
            return verdict


def _short(error: str) -> str:
    return _UNSTORABLE.sub("\ufffd", error)[-LONGEST_ERROR:]


def _clean(value: Any) -> Any:
    """`value` with the replacement character for every NUL and half a surrogate pair in its texts."""
    if isinstance(value, str):
        return _UNSTORABLE.sub("\ufffd", value)
    if isinstance(value, Mapping):
        return {_clean(str(key)): _clean(item) for key, item in value.items()}
    return [_clean(item) for item in value] if isinstance(value, list | tuple) else value
