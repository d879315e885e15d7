"""Taking a late result after all: an operator says that the work of an attempt that was given up counts (S-32)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import Connection

from corporation.errors import CorporationError
from corporation.missions.collect import settle
from corporation.missions.outcomes import Done, from_report
from corporation.missions.replay import Names, store_again
from corporation.missions.retry import RetryPolicy
from corporation.missions.states import FINAL, State
from corporation.missions.store import adopting, replaying
from corporation.missions.store.adopting import Attempt
from corporation.missions.store.replaying import Repeatable
from corporation.missions.store.reporting import read_standings
from corporation.wakeups import DISPATCH, SEND, wake

DEFAULT_REASON: Final = "adopted by operator"


class AdoptRefused(CorporationError):
    """There is nothing to adopt here; the message says what there is. Nothing changed."""

    code = "nothing_to_adopt"


@dataclass(frozen=True)
class Adopted:
    """`job_id` has succeeded with the late result of attempt `attempt` of the mission `of`, which may be the same."""

    job_id: str
    of: str
    attempt: int


@dataclass(frozen=True)
class Late:
    """A late result that can be adopted, and how many attempts its mission made in all."""

    attempt: Attempt
    done: Done
    made: int


@dataclass(frozen=True)
class Wish:
    """Who wants which attempt's late result to count, and why."""

    attempt: int
    by: str
    reason: str = DEFAULT_REASON


def adopt(connection: Connection, job_id: str, wish: Wish, default_ttl_seconds: int) -> Adopted | None:
    """The work of that attempt counts; None when no mission is called `job_id`.

    A mission that has not ended succeeds with it, and what else runs for it is told to stop. Of one that has failed, or
    was cancelled, the end stays: a new mission, named as a replay is, has succeeded in its place, and its dead letter
    is closed. Calling again gives the same answer. Raises AdoptRefused when the attempt has no late `done`, or another
    result counts already; ReplayRefused when the new mission cannot be named. Nothing is true before the commit.
    """
    mission = replaying.take(connection, job_id)
    if mission is None:
        return None
    attempts = adopting.read_attempts(connection, mission.mission_id, wish.attempt)
    chosen = next((one for one in attempts if one.number == wish.attempt), None)
    if chosen is not None and chosen.adopted_as is not None:
        return Adopted(chosen.adopted_as, mission.job_id, chosen.number)
    late = _adoptable(mission, attempts, chosen)
    new_job_id = _succeed(connection, mission, late, wish, default_ttl_seconds)
    wake(connection, SEND)
    wake(connection, DISPATCH)
    return Adopted(new_job_id, mission.job_id, wish.attempt)


def _adoptable(mission: Repeatable, attempts: Sequence[Attempt], chosen: Attempt | None) -> Late:
    if other := next((one for one in attempts if one.adopted_as is not None), None):
        raise AdoptRefused(f"the late result of attempt {other.number} was adopted already, as {other.adopted_as}")
    if mission.state == State.SUCCEEDED:
        raise AdoptRefused("the mission has succeeded already; its own result stays")
    done = from_report(chosen.report) if chosen is not None and chosen.report is not None else None
    if chosen is None or not isinstance(done, Done):
        raise AdoptRefused(f"{_what_it_has(chosen)}; {_what_there_is(attempts)}")
    return Late(chosen, done, len(attempts))


def _what_it_has(chosen: Attempt | None) -> str:
    if chosen is None:
        return "there is no such attempt"
    if not chosen.is_late:
        return f"attempt {chosen.number} is {chosen.state} and has no late result"
    return f"attempt {chosen.number} reported late, but not that the work is done"


def _what_there_is(attempts: Sequence[Attempt]) -> str:
    done = [str(one.number) for one in attempts if one.said == "done"]
    if done:
        return f"a late result that is done has attempt {', '.join(done)}"
    made = len(attempts)
    return f"of its {made} attempts none has a late result that is done" if made else "no attempt was made"


def _succeed(connection: Connection, mission: Repeatable, late: Late, wish: Wish, default_ttl_seconds: int) -> str:
    """The job_id of the mission that has succeeded: this one, or a new one where this one has ended."""
    told = {"by": wish.by, "reason": wish.reason, "attempt_id": late.attempt.attempt_id}
    if mission.state not in FINAL:
        _end(connection, mission.mission_id, mission.job_id, late, told)
        return mission.job_id
    again = store_again(connection, mission, Names(), default_ttl_seconds)
    source = {**told, "from_job_id": mission.job_id, "from_attempt": wish.attempt}
    _end(connection, again.mission_id, again.job_id, late, source)
    adopting.tell(connection, mission.mission_id, late.attempt.attempt_id, {**told, "job_id": again.job_id})
    adopting.close_letter(connection, mission.mission_id, again.job_id, f"attempt {wish.attempt}: {wish.reason}")
    return again.job_id


def _end(connection: Connection, mission_id: int, job_id: str, late: Late, told: Mapping[str, Any]) -> None:
    attempt_id = late.attempt.attempt_id
    leaves = adopting.read_standing(connection, mission_id)
    standing = read_standings(connection, [attempt_id])[attempt_id]
    # As it would have been, had the report come in time; of the attempts, all that were made count.
    current = replace(standing, current=True, job_id=job_id, attempt=late.made, cancel_requested=None)
    result = settle(current, late.done, late.attempt.report or {}, RetryPolicy(), 0.0).result
    if not adopting.succeed(connection, mission_id, leaves, attempt_id, result, told):
        raise AdoptRefused("somebody else changed the mission meanwhile; look at it again")
