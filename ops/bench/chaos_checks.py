"""Whether a run may have happened so (pure): one linear pass over each mission, and a few counts over all.

`judge` holds the wishes, the accept log, the ledger, the marks of the work, the results stream and the faults against
each other; every problem that it returns is a broken promise. The invariants I1 to I12 are those of CONTRIBUTING.md;
the rest is named after what it is about.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ops.bench.chaos_history import FINAL, LIVE, Attempt, Disturbance, History, MissionRow, Problem, Verdict
from ops.bench.chaos_marks import Mark
from ops.bench.chaos_plan import Wish
from ops.bench.chaos_replay import replay

RESULT_LAG_MS: Final = 5_000
"""So long an entry may lie on the results stream unread; what FLUSHALL took meanwhile nobody could have read."""
AFTERMATH_MS: Final = 30_000
"""So long after a fault an attempt may still be lost by it: a lease, a rescuer's sweep, and a little."""
SPOOLED_MS: Final = 2_500
"""Work that was done so long before its process was killed must be in the spool."""
DEATHS: Final = frozenset(
    {
        *("kill_child", "kill_worker", "kill_parent", "kill_pull", "fill_disk"),
        *("stop_worker", "stop_beside", "term_worker", "term_beside"),
    }
)
"""Faults by which a process may die with the attempt that it runs."""
BREAKS: Final = frozenset(
    {"kill_valkey", "rewind_valkey", "freeze_valkey", "refuse_writes", "cut_clients", "partition"}
)
"""Faults by which a worker loses its connection to Redis with messages in hand."""
QUARANTINED: Final = "quarantined:"
QUARANTINE_AFTER: Final = 3


def judge(history: History) -> Verdict:
    """Every broken promise of the run, and what is worth knowing of it."""
    run = _Run(history)
    problems = [
        *_accepted(history),
        *(problem for mission in history.missions.values() for problem in run.about(mission)),
        *_unknown_marks(history),
        *(Problem("I7", "", f"{count} {what}") for what, count in history.left.items() if count),
        *_unacknowledged(history),
        *(Problem("I8", "", what) for what in history.strangers),
        *(Problem("I10", "", what) for what in history.leaks),
        *(Problem("I12", "", what) for what in history.grown),
        *(Problem("child", "", f"outlived its mission: {what}") for what in history.survivors),
    ]
    return Verdict(problems, _counts(history, run))


@dataclass
class _Run:
    """The history by mission and by attempt."""

    history: History
    marks: dict[str, list[Mark]] = field(default_factory=lambda: defaultdict[str, list[Mark]](list))
    told: dict[str, set[str]] = field(default_factory=lambda: defaultdict[str, set[str]](set))
    unread: int = 0
    spared: Counter[str] = field(default_factory=Counter[str])

    def __post_init__(self) -> None:
        for mark in self.history.marks:
            self.marks[mark.attempt_id].append(mark)
        for told in self.history.told:
            self.told[told.job_id].add(told.content)

    def about(self, mission: MissionRow) -> Iterator[Problem]:
        wish = self.history.wishes.get(mission.key)
        if wish is None or mission.job_id not in (wish.job_id, wish.twin):
            yield Problem("I9", mission.job_id, f"a mission that nobody asked for so (key {mission.key})")
            return
        yield from replay(mission)
        yield from self._runs(mission)
        for attempt in mission.attempts:
            yield from self._attempt(mission, wish, attempt)
        if mission.state in FINAL:
            yield from self._end(mission, wish)
            yield from self._telling(mission)
        else:
            yield Problem("I1", mission.job_id, f"not ended: {mission.state} at attempt {mission.attempt}")

    def _runs(self, mission: MissionRow) -> Iterator[Problem]:
        """Each attempt was begun and done once at most, by the factory that it was given to (I3, I8)."""
        for attempt in mission.attempts:
            marks = self.marks[attempt.attempt_id]
            for what in ("began", "did"):
                if (times := sum(mark.what == what for mark in marks)) > 1:
                    yield Problem("I3", mission.job_id, f"attempt {attempt.number} {what} {times} times")
            if any(mark.factory_id != attempt.factory_id for mark in marks):
                yield Problem("I8", mission.job_id, f"attempt {attempt.number} ran at another factory")
            if any(mark.attempt != attempt.number for mark in marks):
                yield Problem("I4", mission.job_id, f"attempt {attempt.number} ran under another number")

    def _attempt(self, mission: MissionRow, wish: Wish, attempt: Attempt) -> Iterator[Problem]:
        if attempt.sends > 1 and not self._explained(attempt, None):
            what = f"attempt {attempt.number} was handed out {attempt.sends} times, and nothing touched it"
            yield Problem("sent again for nothing", mission.job_id, what)
        if attempt.state == "lost":
            yield from self._lost(mission, attempt)
        elif attempt.state in ("timed_out", "failed"):
            wrong = [*self._failed(mission, wish, attempt)]
            yield from [*wrong, *(self._by_the_clock(mission, attempt) if wrong else ())]
        elif attempt.state == "withdrawn" and self.marks[attempt.attempt_id]:
            yield Problem("I3", mission.job_id, f"attempt {attempt.number} was taken back unreceived, and it ran")
        elif attempt.state == "succeeded" and not self._did(attempt):
            yield Problem("I3", mission.job_id, f"attempt {attempt.number} succeeded and left no effect")
        elif attempt.state in LIVE and mission.state in FINAL:
            yield Problem("I7", mission.job_id, f"attempt {attempt.number} is still {attempt.state}")

    def _failed(self, mission: MissionRow, wish: Wish, attempt: Attempt) -> Iterator[Problem]:
        answer = wish.answer(attempt.number)
        if attempt.state == "timed_out":
            if not wish.times_out:
                yield Problem(
                    "false failure", mission.job_id, f"attempt {attempt.number} timed out; it had time enough"
                )
        elif answer in ("failed", "later", "stop"):
            return
        elif self._explained(attempt, frozenset({"fill_disk"})):
            self.spared["failed by a full disk"] += 1
        else:
            what = f"attempt {attempt.number} failed; it would have {answer}"
            yield Problem("false failure", mission.job_id, what)

    def _lost(self, mission: MissionRow, attempt: Attempt) -> Iterator[Problem]:
        """Something must have happened to it, and neither its report nor its done work may have been thrown away."""
        if not self._explained(attempt, None):
            yield Problem(
                "lost for nothing", mission.job_id, f"attempt {attempt.number} was lost, and nothing touched it"
            )
            yield from self._by_the_clock(mission, attempt)
        late = any(event.type == "late_result" and event.attempt == attempt.number for event in mission.events)
        if attempt.mailbox not in ("", "lost") and not late:
            what = f"attempt {attempt.number} reported {attempt.mailbox}, and was lost without a word of that"
            yield Problem("report thrown away", mission.job_id, what)
        if attempt.mailbox == "lost" and not self._kill_came_soon_after(attempt):
            what = f"attempt {attempt.number} was done long before its process died, and was reported as lost"
            yield Problem("not spooled", mission.job_id, what)

    def _by_the_clock(self, mission: MissionRow, attempt: Attempt) -> Iterator[Problem]:
        """Its end is wrong, and nothing but the wrong clock of its factory can be to blame (I11)."""
        end = attempt.finished_ms or attempt.created_ms
        set_before = [one for one in self.history.disturbances if attempt.factory_id in one.clocks and one.at_ms <= end]
        wrong = [one for one in set_before[-1:] if one.how != "+0" or one.at_ms >= attempt.created_ms]
        if wrong and not self._explained(attempt, None):
            what = f"attempt {attempt.number} {attempt.state}, and only the clock of its factory was wrong"
            yield Problem("I11", mission.job_id, what)

    def _died_with(self, attempt: Attempt) -> bool:
        """Whether the process that ran the attempt was really killed, or could not write down what it did."""
        return attempt.took_worker and self._explained(attempt, DEATHS)

    def _explained(self, attempt: Attempt, kinds: frozenset[str] | None) -> bool:
        end = attempt.finished_ms or attempt.created_ms
        return any(
            one.at_ms <= end and one.until_ms + AFTERMATH_MS >= attempt.created_ms and _touches(one, attempt, kinds)
            for one in self.history.disturbances
        )

    def _kill_came_soon_after(self, attempt: Attempt) -> bool:
        did = [mark.at_ms for mark in self.marks[attempt.attempt_id] if mark.what == "did"]
        if not did:
            return True
        return any(
            one.at_ms - SPOOLED_MS <= did[0] <= one.until_ms + SPOOLED_MS and _touches(one, attempt, DEATHS)
            for one in self.history.disturbances
        )

    def _did(self, attempt: Attempt) -> bool:
        return any(mark.what == "did" for mark in self.marks[attempt.attempt_id])

    def _end(self, mission: MissionRow, wish: Wish) -> Iterator[Problem]:
        """It ended as its last attempt did, and as it was wished (I1), unless a kill took its only attempt."""
        last = mission.attempts[-1] if mission.attempts else None
        yield from self._cancelling(mission)
        if mission.state == "cancelled":
            return
        if last is None:
            yield Problem("I1", mission.job_id, f"{mission.state} without an attempt")
        elif mission.state == "succeeded":
            if last.state != "succeeded" or mission.result.get("attempt_id") != last.attempt_id:
                said = mission.result.get("attempt_id")
                yield Problem("fence", mission.job_id, f"attempt {last.number} ended it with the report of {said}")
        elif not self._may_fail(mission, wish, last):
            what = f"{mission.state} after {len(mission.attempts)} of {wish.attempts_total} attempts: {mission.error}"
            yield Problem("lost", mission.job_id, what)

    def _cancelling(self, mission: MissionRow) -> Iterator[Problem]:
        """What was answered is what became of it: cancelled is cancelled, and what runs is stopped or done (S-30)."""
        answers = self.history.cancels.get(mission.key, set())
        if mission.state == "cancelled" and not answers & {"cancelled", "running", "waiting"}:
            yield Problem("I1", mission.job_id, "cancelled, and nobody asked for it")
        if "cancelled" in answers and mission.state != "cancelled":
            yield Problem("S-30", mission.job_id, f"was answered to be cancelled, and it is {mission.state}")
        if "running" in answers and mission.state not in ("cancelled", "succeeded"):
            yield Problem("S-30", mission.job_id, f"was told to stop, and it is {mission.state}")

    def _may_fail(self, mission: MissionRow, wish: Wish, last: Attempt) -> bool:
        if (mission.error or "").startswith(QUARANTINED):
            return sum(self._died_with(attempt) for attempt in mission.attempts) >= QUARANTINE_AFTER
        if wish.times_out:
            # It never succeeds; a kill may take the last attempt before its time is up.
            ends = {"timed_out": "timed_out", "failed": "lost"}
            return last.state == ends.get(mission.state) and self._used(mission, last, wish)
        if last.state == "lost":
            return wish.attempts_total == 1
        if wish.answer(last.number) == "stop":
            return True
        return last.state == mission.state == "failed" and self._used(mission, last, wish)

    def _used(self, mission: MissionRow, last: Attempt, wish: Wish) -> bool:
        """Whether no attempt was left."""
        withdrawn = sum(attempt.state == "withdrawn" for attempt in mission.attempts)
        return last.number - withdrawn >= wish.attempts_total

    def _telling(self, mission: MissionRow) -> Iterator[Problem]:
        contents = self.told[mission.job_id]
        if len(contents) > 1:
            yield Problem("told twice", mission.job_id, f"with {len(contents)} different contents")
        for content in contents:
            if content.partition(" ")[0] != ("SUCCESS" if mission.state == "succeeded" else "FAILED"):
                yield Problem("told wrongly", mission.job_id, f"{content[:200]}, and it is {mission.state}")
        if not contents:
            if self._taken(mission):
                self.unread += 1
            else:
                yield Problem("never told", mission.job_id, f"{mission.state}, and no entry on the results stream")

    def _taken(self, mission: MissionRow) -> bool:
        """Whether its entry was on the stream when the stream was taken away."""
        published = [event.at_ms for event in mission.events if event.type == "result_published"]
        gone = [one.at_ms for one in self.history.disturbances if one.kind in ("flush_valkey", "rewind_valkey")]
        return any(at - RESULT_LAG_MS <= moment <= at + 1000 for moment in published for at in gone)


def _touches(one: Disturbance, attempt: Attempt, kinds: frozenset[str] | None) -> bool:
    wanted = kinds is None or one.kind in kinds
    return wanted and bool(one.touches & {attempt.factory_id, attempt.attempt_id, "redis", "everybody"})


def _accepted(history: History) -> Iterator[Problem]:
    """Whatever was answered with 2xx is a mission (I5), and a key is one mission (I9)."""
    of_key: dict[str, set[str]] = defaultdict(set)
    for asked, key, answered in history.accepted:
        of_key[key].add(answered)
        if answered not in history.missions:
            yield Problem("I5", answered, f"accepted as {asked} and not in the ledger")
    for key, answers in of_key.items():
        if len(answers) > 1:
            yield Problem("I9", "", f"the key {key} was answered with {', '.join(sorted(answers))}")
    yield from _stored(history)


def _stored(history: History) -> Iterator[Problem]:
    """What was accepted by whatever way is one mission for each key (I5, I9)."""
    keys = Counter(mission.key for mission in history.missions.values())
    for asked, key in history.imported:
        if key not in keys:
            yield Problem("I5", asked, "its entry of the stream was acknowledged, and it is not in the ledger")
    for key, times in keys.items():
        if times > 1:
            yield Problem("I9", "", f"the key {key} is {times} missions")
    unasked = history.wishes.keys() - keys.keys()
    if unasked and history.clients_ended:
        few = ", ".join(sorted(unasked)[:5])
        yield Problem("I5", "", f"{len(unasked)} missions were accepted and are not in the ledger: {few}")


def _unacknowledged(history: History) -> Iterator[Problem]:
    """Messages that a factory has in hand for ever, and that no broken connection explains (I7)."""
    attempts = {one.attempt_id: one for mission in history.missions.values() for one in mission.attempts}
    kept = Counter(
        factory
        for factory, attempt_id in history.unacknowledged
        if not _in_hand_when_redis_went(history, attempts.get(attempt_id))
    )
    for factory, count in kept.items():
        yield Problem("I7", "", f"{count} messages of {factory} not acknowledged")


def _in_hand_when_redis_went(history: History, attempt: Attempt | None) -> bool:
    """Whether its message may have stayed as taken because the connection went over which it would be given back.

    The next start of a worker puts it back, or kombu after two days; nobody waits for it. An old file brings back as
    taken whatever was so then.
    """
    if attempt is None:
        return False
    until = (attempt.finished_ms or attempt.created_ms) + AFTERMATH_MS
    return any(
        attempt.created_ms <= one.until_ms and (one.kind == "rewind_valkey" or one.at_ms <= until)
        for one in history.disturbances
        if one.kind in BREAKS and _touches(one, attempt, None)
    )


def _unknown_marks(history: History) -> Iterator[Problem]:
    known = {attempt.attempt_id for mission in history.missions.values() for attempt in mission.attempts}
    strange = sorted({mark.job_id for mark in history.marks if mark.attempt_id not in known})
    if strange:
        yield Problem("I5", strange[0], f"work was done for {len(strange)} missions in attempts that nobody made")


def _counts(history: History, run: _Run) -> dict[str, Any]:
    missions = list(history.missions.values())
    attempts = [attempt for mission in missions for attempt in mission.attempts]
    done_in = [sum(run._did(attempt) for attempt in mission.attempts) for mission in missions]  # pyright: ignore[reportPrivateUsage]
    return {
        "missions": len(missions),
        "ended": dict(Counter(_how(mission) for mission in missions).most_common()),
        "events": sum(len(mission.events) for mission in missions),
        "attempts": len(attempts),
        "attempts_per_mission": dict(sorted(Counter(len(mission.attempts) for mission in missions).items())),
        "lost_attempts": sum(attempt.state == "lost" for attempt in attempts),
        "withdrawn_attempts": sum(attempt.state == "withdrawn" for attempt in attempts),
        "sent_again": sum(attempt.sends - 1 for attempt in attempts),
        "late_results": sum(event.type == "late_result" for mission in missions for event in mission.events),
        "effects_in_more_than_one_attempt": _remainder(history.wishes, missions, run),
        "most_effects_of_a_mission": max(done_in, default=0),
        "told_again": len(history.told) - len(run.told),
        "results_taken_before_they_were_read": run.unread,
        "messages_in_hand_since_redis_went": len(history.unacknowledged),
        "cancels_answered": dict(Counter(state for states in history.cancels.values() for state in states)),
        **dict(run.spared),
    }


def _remainder(wishes: dict[str, Wish], missions: Sequence[MissionRow], run: _Run) -> int:
    """Missions whose work was done in an attempt that did not count and again in another: at least once, honestly."""
    again = 0
    for mission in missions:
        wasted = [one for one in mission.attempts if one.state == "lost" and run._did(one)]  # pyright: ignore[reportPrivateUsage]
        again += bool(wasted and len(mission.attempts) > wasted[0].number)
    return again


def _how(mission: MissionRow) -> str:
    error = mission.error or ""
    if error.startswith(QUARANTINED):
        return f"{mission.state} (quarantined)"
    return f"{mission.state} (lost)" if error.startswith("lost:") else mission.state
