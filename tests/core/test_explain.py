"""Why a mission does not run and why it failed, in whole sentences: this file is the list of what people read."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from builders import factory_view
from hypothesis import given
from hypothesis import strategies as st

from corporation.missions.broadcast import Child
from corporation.missions.explain import NEAREST_FIRST, explain
from corporation.missions.explanation import (
    AdoptedFacts,
    AttemptFacts,
    FactoryFacts,
    Facts,
    MissionFacts,
    QueuePlace,
    RepeatFacts,
    Restraint,
)
from corporation.missions.known_causes import cause_of
from corporation.missions.routing import Held, Need, obstacles, route
from corporation.missions.wording import OBSTACLES, REASONS

NOW = datetime(2026, 6, 1, 8, 10, tzinfo=UTC)
H_29 = {
    "target_unknown", "target_offline", "target_paused", "no_capable_factory", "no_live_factory", "all_paused",
    "no_free_slot", "backoff", "behind_others", "broker_down",
}  # fmt: skip
CODER = Need(1, "vp_coder", None)


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def mission(state: str = "waiting", need: Need = CODER, **changes: Any) -> MissionFacts:
    """A coding mission that was accepted 45 s ago and may have three attempts."""
    fields: dict[str, Any] = {
        "job_id": "j-1", "kind": "coding_task", "priority": 3, "attempt": 0, "attempts_total": 3,
        "timeout_seconds": 900, "created_at": ago(45),
    }  # fmt: skip
    return MissionFacts(state=state, need=need, **(fields | changes))


def attempt(state: str = "queued", number: int = 1, factory_id: str = "desk-7", **changes: Any) -> AttemptFacts:
    """An attempt that was given to desk-7 40 s ago, with a lease of 180 s."""
    fields: dict[str, Any] = {"created_at": ago(40), "lease_expires_at": ago(-140)}
    if state in ("running", "failed", "timed_out", "lost", "succeeded", "cancelled"):
        fields |= {"claimed_at": ago(36), "started_at": ago(35)}
    if state not in ("queued", "claimed", "running"):
        fields |= {"finished_at": ago(5)}
    return AttemptFacts(number, factory_id, state, **(fields | changes))


def factory(factory_id: str, running: int = 0, silent: float = 12.0, hq: bool = False, **changes: Any) -> FactoryFacts:
    """An online factory with two slots that was heard of 12 s ago."""
    fields: dict[str, Any] = {"held": running} | changes
    if hq:
        fields["status"] = "paused"
    return FactoryFacts(factory_view(factory_id, **fields), silent, hq, running)


def facts(about: MissionFacts, *factories: FactoryFacts, **changes: Any) -> Facts:
    return Facts(NOW, about, factories=factories, **changes)


def no_coder(factory_id: str, **changes: Any) -> FactoryFacts:
    return factory(factory_id, labels=frozenset({"vp_general"}), **changes)


PAUSED = factory("desk-7", hq=True)
FULL = factory("desk-9", running=2, held=6)
OFFLINE = factory("desk-7", status="offline", silent=960)


def silent(factory_id: str, **changes: Any) -> FactoryFacts:
    """One that should be heard of every 15 s, is silent for 71, and is stale after 300."""
    one = factory(factory_id, silent=71, **changes)
    return replace(one, interval_seconds=15.0, stale_at=ago(71 - 300))


SILENT = silent("desk-8", running=1, held=6)


def meant_for(target: str, **changes: Any) -> MissionFacts:
    return mission(need=Need(1, "vp_coder", target), **changes)


EXIT_2 = "exit code 2: tests failed"
BACKOFF: dict[str, Any] = {"next_attempt_at": ago(-24), "attempt": 1}
ORDER: dict[str, Any] = {"kind": "system:pause_factory", "need": Need(1, None, None, routable=False), "broadcast": True}


def backing_off(last: AttemptFacts) -> Facts:
    return facts(mission(**BACKOFF), factory("desk-7"), attempts=[last])


WAITING: list[tuple[str, Facts, str]] = [
    ("target_unknown", facts(meant_for("bench-2"), factory("desk-7")), "No factory named bench-2 has registered."),
    ("target_unknown", facts(meant_for("desk7"), factory("desk-7")),
     "No factory named desk7 has registered; the nearest name is desk-7."),
    ("target_offline", facts(meant_for("desk-7"), OFFLINE, factory("desk-9")),
     "Its target, desk-7, was last heard of 16 min ago."),
    ("target_offline", facts(meant_for("desk-7"), factory("desk-7", status="stale", silent=301)),
     "Its target, desk-7, was last heard of 5 min ago."),
    ("target_offline", facts(meant_for("desk-7"), no_coder("desk-7", status="offline", slots=0), factory("desk-9")),
     "Its target, desk-7, was last heard of 12 s ago."),
    ("target_paused", facts(meant_for("desk-7"), PAUSED, ahead=2),
     "Its target, desk-7, is paused by HQ; 3rd in line."),
    ("target_paused", facts(meant_for("desk-7"), factory("desk-7", status="paused")),
     "Its target, desk-7, says that it is paused."),
    ("all_paused", facts(mission(), PAUSED, factory("desk-9", status="draining")),
     "None of the 2 factories with vp_coder takes it now: desk-7 is paused by HQ, desk-9 is draining."),
    ("no_live_factory", facts(mission()), "No factory has registered yet."),
    ("no_capable_factory", facts(mission(), OFFLINE, no_coder("desk-9")),
     "The only factory with vp_coder, desk-7, was last heard of 16 min ago."),
    ("no_capable_factory",
     facts(mission(kind="bootstrap_repo"), no_coder("hq"), no_coder("desk-7", status="offline", slots=0, silent=2e9)),
     "No live factory has vp_coder; desk-7 has not been heard of yet."),
    ("no_live_factory", facts(mission(), no_coder("desk-9", status="offline", silent=9 * 86_400)),
     "No factory is live: desk-9 was last heard of 9 days ago."),
    ("no_capable_factory", facts(mission(), no_coder("desk-7"), no_coder("desk-9")),
     "None of the 2 known factories has vp_coder; no agent runs coding_task in this version."),
    ("no_capable_factory", facts(mission(kind="render", need=Need(1, "kind:render", None)), factory("desk-7")),
     "The only known factory, desk-7, lacks a handler for render."),
    ("no_capable_factory", facts(meant_for("desk-7"), no_coder("desk-7"), factory("desk-9")),
     "Its target, desk-7, lacks vp_coder; desk-9 has it."),
    ("no_capable_factory",
     facts(mission(kind="system:pause_factory", need=Need(1, None, "desk-7", routable=False)), factory("desk-7")),
     "It is an order to a factory itself (system:pause_factory), which no factory takes from a queue."),
    ("no_free_slot", facts(mission(), PAUSED, FULL, ahead=2),
     "None of the 2 factories with vp_coder takes it now: desk-7 is paused by HQ, desk-9 is full (2 of 2 running, "
     "4 queued); 3rd in line."),
    ("no_free_slot", facts(mission(), factory("desk-7", running=2, held=70, slots=100, held_bytes=17 * 2**20)),
     "The only factory with vp_coder, desk-7, holds 17 MiB of orders, and HQ keeps no more in Redis for one factory."),
    ("no_free_slot", facts(meant_for("desk-9"), FULL, ahead=1000, ahead_or_more=True),
     "Its target, desk-9, is full (2 of 2 running, 4 queued); behind 1000 others or more."),
    ("no_free_slot", facts(mission(), factory("desk-7", slots=0)),
     "The only factory with vp_coder, desk-7, has no mission worker."),
    ("behind_others", facts(mission(created_at=ago(1)), factory("desk-7")),
     "There is room for it at desk-7, and it is sent in a moment."),
    ("behind_others", facts(mission(), factory("desk-7"), factory("desk-9"), ahead=1),
     "1 mission with the same need is before it; there is room at desk-7 and desk-9."),
    ("behind_others", facts(mission(), factory("desk-7")),
     "There is room for it at desk-7, and yet it has not been sent for 45 s: HQ's engine may not be running."),
    ("behind_others", facts(mission(**ORDER, created_at=ago(1)), factory("desk-7")),
     "It is an order to every factory, and HQ has not spread it yet."),
    ("behind_others", facts(mission(**ORDER), factory("desk-7")),
     "It is an order to every factory, and HQ has not spread it yet, for 45 s: HQ's engine may not be running."),
    ("behind_others",
     facts(mission(**ORDER, children=5), open_children_count=2,
           open_children=[Child("j-1.desk-7", "desk-7", "waiting"), Child("j-1.desk-9", "desk-9", "running")]),
     "It is an order to every factory, and 2 of 5 factories have not done it yet: desk-7 and desk-9."),
    ("behind_others", facts(mission(**ORDER, children=5)),
     "It is an order to every factory, and all have answered: it ends in a moment."),
    ("backoff", backing_off(attempt("failed", error="exit code 2: tests failed")),
     "Attempt 1 of 3 failed (exit code 2: tests failed), and the next one is due in 24 s."),
    ("backoff", backing_off(attempt("lost", error="lost: desk-7 was silent")),
     "Attempt 1 of 3 was lost (desk-7 was silent), and the next one is due in 24 s."),
    ("no_free_slot", facts(mission(), factory("desk-7", running=2, held=6), SILENT),
     "None of the 2 factories with vp_coder takes it now: desk-7 is full (2 of 2 running, 4 queued), desk-8 has been "
     "silent for 71 s and should be heard every 15 s."),
    ("backoff", backing_off(attempt("failed", error="the other side is not ready", put_off=True)),
     "Attempt 1 of 3 was put off (the other side is not ready), and the next one is due in 24 s."),
    ("backoff", backing_off(attempt("failed", error="MemoryError: ")),
     "Attempt 1 of 3 failed (MemoryError), and the next one is due in 24 s."),
    ("backoff", backing_off(attempt("timed_out", error="the time limit passed")),
     "Attempt 1 of 3 hit its time limit (the time limit passed), and the next one is due in 24 s."),
    ("backoff",
     facts(mission(next_attempt_at=ago(-24), attempt=2, attempts_total=4, withdrawn=1), factory("desk-7"),
           attempts=[attempt("withdrawn", 1), attempt("failed", 2, error=EXIT_2)]),
     "Attempt 2 (1st of 3 that count) failed (exit code 2: tests failed), and the next one is due in 24 s."),
]  # fmt: skip


@pytest.mark.parametrize(("code", "known", "sentence"), WAITING)
def test_a_waiting_mission_says_why_in_one_sentence(code: str, known: Facts, sentence: str) -> None:
    """H-29: a code for the program, a sentence for people, and something that would help."""
    answer = explain(known)

    assert answer.sentence == sentence
    assert answer.reasons[0].code == code
    assert answer.reasons[0].message
    assert answer.advice
    assert answer.failure_class is None


QUEUED = mission("queued", attempt=1)


def queued(*factories: FactoryFacts, place: int = 1, of: int = 1, unsent: float | None = None, **changes: Any) -> Facts:
    about = changes.pop("about", QUEUED)
    tried = changes.pop("attempts", [attempt()])
    return facts(about, *factories, attempts=tried, queue=QueuePlace(place, of, unsent), **changes)


UNDERWAY: list[tuple[list[str], Facts, str]] = [
    (["no_free_slot", "behind_others"], queued(factory("desk-7", running=2, held=5), place=2, of=3),
     "Its factory, desk-7, is busy (2 of 2 running, 3 queued); it is 2nd of 3 in the queue there."),
    (["no_free_slot"], queued(factory("desk-7", slots=0)),
     "Its factory, desk-7, has no mission worker; it is 1st of 1 in the queue there."),
    (["target_paused"], queued(PAUSED), "Its factory, desk-7, is paused by HQ; it is 1st of 1 in the queue there."),
    (["target_offline"], queued(OFFLINE),
     "Its factory, desk-7, was last heard of 16 min ago; it is 1st of 1 in the queue there."),
    (["target_unknown"], queued(),
     "No factory named desk-7 is registered any more; it is 1st of 1 in the queue there."),
    (["behind_others"], queued(factory("desk-7"), attempts=[attempt(created_at=ago(1))]),
     "It is 1st of 1 in the queue of desk-7, which is about to take it."),
    (["behind_others"], queued(factory("desk-7")),
     "Its factory, desk-7, has not taken it for 40 s, although it has a free slot and was last heard of 12 s ago; it "
     "is 1st of 1 in the queue there, and its lease ends at 08:12:20 UTC."),
    (["behind_others"], queued(silent("desk-7")),
     "Its factory desk-7 has been silent for 71 s and should be heard every 15 s; it becomes stale at 08:13:49 UTC; "
     "the mission is 1st of 1 in the queue there."),
    (["target_paused"], queued(silent("desk-7", status="paused")),
     "Its factory, desk-7, says that it is paused; it is 1st of 1 in the queue there."),
    (["behind_others"], queued(factory("desk-7"), unsent=0.5), "It is on its way from HQ's outbox to desk-7."),
    (["behind_others"], queued(factory("desk-7"), unsent=40.0),
     "It has been in HQ's outbox for desk-7 for 40 s: HQ's engine may not be running."),
    (["broker_down"], queued(factory("desk-7"), unsent=40.0, broker_answers=False),
     "It is in HQ's outbox for desk-7, and Redis, which carries it there, does not answer."),
    (["broker_down"], queued(factory("desk-7"), broker_answers=False),
     "It is queued for desk-7, and Redis, which carries it there, does not answer."),
    (["behind_others"],
     queued(factory("desk-7"), unsent=0.5,
            about=replace(QUEUED, cancel_requested_at=ago(3), cancel_reason="not needed")),
     "It is on its way from HQ's outbox to desk-7; its cancelling was asked for 3 s ago (not needed)."),
    (["behind_others"], facts(mission("claimed"), factory("desk-7"), attempts=[attempt("claimed", claimed_at=ago(9))]),
     "It was claimed by desk-7 9 s ago and is not started; its lease ends at 08:12:20 UTC."),
    (["no_free_slot"],
     facts(mission("claimed"), factory("desk-7", running=3), attempts=[attempt("claimed", claimed_at=ago(9))]),
     "It was claimed by desk-7 9 s ago and is not started; its lease ends at 08:12:20 UTC."),
    (["behind_others"], facts(mission("queued")), "It is queued, and no attempt of it is known."),
    ([], facts(mission("running"), factory("desk-7", running=1), attempts=[attempt("running")]),
     "It has been running on desk-7 for 35 s."),
    ([], facts(mission("running"), silent("desk-7"), attempts=[attempt("running")]),
     "It has been running on desk-7 for 35 s; desk-7 has been silent for 71 s and should be heard every 15 s; it "
     "becomes stale at 08:13:49 UTC."),
    ([], facts(mission("running"), factory("desk-7", status="stale", silent=360), attempts=[attempt("running")]),
     "It has been running on desk-7 for 35 s; desk-7 was last heard of 6 min ago."),
    ([], facts(mission("running"), factory("desk-7"),
               attempts=[attempt("running", progress={"percent": 40, "message": "reading\nall"})]),
     "It has been running on desk-7 for 35 s, at 40 % (reading all)."),
    ([], facts(mission("running"), attempts=[attempt("running", progress={"percent": 1e99, "message": 7})]),
     "It has been running on desk-7 for 35 s."),
    ([], facts(mission("running", cancel_requested_at=ago(3), cancel_reason="stopped by operator"), factory("desk-7"),
               attempts=[attempt("running")]),
     "It has been running on desk-7 for 35 s; its cancelling was asked for 3 s ago (stopped by operator)."),
    ([], facts(mission("running"), factory("desk-7"), attempts=[attempt("running", lease_expires_at=ago(1))]),
     "It has been running on desk-7 for 35 s; its lease ended at 08:09:59 UTC, so HQ is about to give it up."),
]  # fmt: skip


@pytest.mark.parametrize(("codes", "known", "sentence"), UNDERWAY)
def test_a_mission_that_a_factory_was_given_says_how_far_it_is(codes: list[str], known: Facts, sentence: str) -> None:
    """H-29: what does not run has a reason, what runs has none."""
    answer = explain(known)

    assert answer.sentence == sentence
    assert [reason.code for reason in answer.reasons] == codes
    assert answer.evidence or not known.attempts


def test_an_attempt_is_counted_by_what_its_mission_uses_up_and_named_by_its_number() -> None:
    about = mission("running", attempt=3, attempts_total=4, withdrawn=2)
    evidence = explain(facts(about, factory("desk-7"), attempts=[attempt("running", 3)])).evidence

    assert "Attempt 3 (1st of 2 that count) was given to desk-7 40 s ago; its lease ends at 08:12:20 UTC." in evidence


def ended(state: str, error: str | None = None, **changes: Any) -> MissionFacts:
    fields: dict[str, Any] = {"attempt": 1} | changes
    return mission(state, error=error, finished_at=ago(5), **fields)


def failures(*errors: str, state: str = "failed") -> list[AttemptFacts]:
    return [attempt(state, number, error=error) for number, error in enumerate(errors, start=1)]


FAILED_ONCE = facts(ended("failed", EXIT_2, attempts_total=1), attempts=failures(EXIT_2))
QUARANTINE = (
    "quarantined: it took its worker down 3 times, the last time: exit code 9; look at its log before it runs again, "
    "then replay it with a changed order, or discard its dead letter"
)
ENDED: list[tuple[str | None, Facts, str]] = [
    (None, facts(ended("succeeded"), attempts=[attempt("succeeded")]),
     "It succeeded on desk-7 at attempt 1 of 3 after 30 s."),
    (None, facts(ended("succeeded", attempts_total=4, attempt=4, withdrawn=1), attempts=[attempt("succeeded", 4)]),
     "It succeeded on desk-7 at attempt 4 (3rd of 3 that count) after 30 s."),
    (None, facts(ended("succeeded", **ORDER, children=5)), "It succeeded: 5 factories did it."),
    ("timed_out",
     facts(ended("timed_out", "the deadline passed while the mission was waiting (no_capable_factory)", attempt=0,
                 deadline_at=ago(5))),
     "It timed out before any attempt: the deadline passed while the mission was waiting (no live factory can run "
     "it)."),
    ("timed_out",
     facts(ended("timed_out", "the time limit of 900 s passed", attempt=3),
           attempts=[attempt("timed_out", 3, error="the time limit of 900 s passed")]),
     "It timed out: attempt 3 of 3 on desk-7 hit its time limit of 900 s."),
    ("timed_out",
     facts(ended("timed_out", "the deadline passed while the mission was waiting (backoff)", deadline_at=ago(5)),
           attempts=[attempt("timed_out", error="the time limit of 900 s passed", finished_at=ago(9))]),
     "It timed out after 1 attempt: the deadline passed while the mission was waiting (between two attempts)."),
    ("lost",
     facts(ended("failed", "lost: the process that ran the attempt died", attempts_total=1),
           attempts=[attempt("lost", took_worker=True)]),
     "It failed: attempt 1 of 1 on desk-7 was lost with its worker, and no attempt is left: the process that ran the "
     "attempt died."),
    ("lost",
     facts(ended("failed", "lost: desk-7 was silent for longer than its lease", attempts_total=1),
           attempts=[attempt("lost")]),
     "It failed: attempt 1 of 1 on desk-7 was lost, and no attempt is left: desk-7 was silent for longer than its "
     "lease."),
    ("lost",
     facts(ended("failed", "lost: its factory was stopped while it ran", attempts_total=1), attempts=[attempt("lost")]),
     "It failed: attempt 1 of 1 on desk-7 was lost, and no attempt is left: its factory was stopped while it ran."),
    ("lost",
     facts(ended("failed", "lost: it was put into quarantine", attempts_total=3, attempt=3, withdrawn=1),
           attempts=[attempt("withdrawn", 1), attempt("lost", 2), attempt("lost", 3)]),
     "It failed: attempt 3 (2nd of 2 that count) on desk-7 was lost, and no attempt is left: it was put into "
     "quarantine."),
    ("lost", facts(ended("failed", "the end of a long word", attempts_total=1), attempts=[attempt("lost")]),
     "It failed: attempt 1 of 1 on desk-7 was lost, and no attempt is left: the end of a long word."),
    ("lost",
     facts(ended("failed", "lost: desk-7 was silent", attempts_total=3, attempt=3, workers_lost=3),
           attempts=[attempt("lost", 3, took_worker=True, late_result=True)]),
     "It failed: attempt 3 of 3 on desk-7 was lost with its worker, and no attempt is left: desk-7 was silent."),
    ("quarantined",
     facts(ended("failed", "quarantined: it took its worker down 3 times", attempts_total=9, attempt=3, workers_lost=3),
           attempts=[attempt("lost", 3, took_worker=True)]),
     "It was quarantined: it took its worker down 3 times."),
    ("quarantined",
     facts(ended("failed", "quarantined: it took its worker down 3 times", attempts_total=3, attempt=3, workers_lost=3),
           attempts=[attempt("lost", 3, took_worker=True)]),
     "It was quarantined: it took its worker down 3 times."),
    ("quarantined",
     facts(ended("failed", QUARANTINE, attempts_total=3, attempt=3, workers_lost=3),
           attempts=[attempt("lost", 3, took_worker=True, error=QUARANTINE)]),
     "It was quarantined: it took its worker down 3 times, the last time: exit code 9."),
    ("stopped", facts(ended("failed", "lost: the parcel"), attempts=failures("lost: the parcel")),
     "It failed for good at attempt 1 of 3, with 2 attempts left: lost: the parcel."),
    ("failed",
     facts(ended("failed", "quarantined: the file", attempts_total=1), attempts=failures("quarantined: the file")),
     "It failed: its only attempt ended with: quarantined: the file."),
    ("stopped",
     facts(ended("failed", "no such repository", attempts_total=1), attempts=[attempt("failed", permanent=True)]),
     "It failed for good at attempt 1 of 1: no such repository."),
    ("stopped",
     facts(ended("failed", "no such repository", attempts_total=4, attempt=3, withdrawn=1),
           attempts=[attempt("failed", 3, permanent=True)]),
     "It failed for good at attempt 3 (2nd of 3 that count), with 1 attempt left: no such repository."),
    ("stopped", facts(ended("failed", "no such repository."), attempts=failures("no such repository.")),
     "It failed for good at attempt 1 of 3, with 2 attempts left: no such repository."),
    ("stopped", facts(ended("failed", "refused", attempt=0)), "It failed before any attempt: refused."),
    ("failed", facts(ended("failed", EXIT_2, attempt=3), attempts=failures(EXIT_2, EXIT_2, EXIT_2)),
     "It failed: all 3 attempts ended alike: exit code 2: tests failed."),
    ("failed", facts(ended("failed", EXIT_2, attempt=3), attempts=failures("boom", "boom", EXIT_2)),
     "It failed: its 3 attempts ended differently, the last with: exit code 2: tests failed."),
    ("failed", facts(ended("failed", EXIT_2, attempts_total=1), attempts=failures(EXIT_2)),
     "It failed: its only attempt ended with: exit code 2: tests failed."),
    ("failed",
     facts(ended("failed", EXIT_2, attempts_total=2, attempt=2, withdrawn=1),
           attempts=[attempt("withdrawn", 1, error="paused"), attempt("failed", 2, error=EXIT_2)]),
     "It failed: its only attempt ended with: exit code 2: tests failed."),
    ("failed",
     facts(ended("failed", "1 of 5 factories did not do it: desk-7 (failed)", attempt=0, children=5, **ORDER)),
     "It failed: 1 of 5 factories did not do it: desk-7 (failed)."),
    ("failed",
     facts(ended("failed", "not ready", attempt=3), attempts=[attempt("failed", 3, error="not ready", put_off=True)]),
     "It failed: attempt 3 of 3 was put off (not ready), and no attempt is left."),
    ("failed",
     replace(FAILED_ONCE, repeat=RepeatFacts("j-1-r1", "failed")),
     "It failed: its only attempt ended with: exit code 2: tests failed; it was run again as j-1-r1, which has "
     "failed."),
    ("failed",
     replace(FAILED_ONCE, repeat=RepeatFacts("j-1-r1", "queued")),
     "It failed: its only attempt ended with: exit code 2: tests failed; it was run again as j-1-r1, which is queued."),
    ("lost",
     facts(ended("failed", "lost: desk-7 was silent", attempts_total=1), attempts=[attempt("lost")],
           repeat=RepeatFacts("j-1-r1", "succeeded", adopted=True)),
     "It failed: attempt 1 of 1 on desk-7 was lost, and no attempt is left: desk-7 was silent; its late result counts "
     "as j-1-r1."),
    ("cancelled", facts(ended("cancelled", "stopped by operator", attempt=0)),
     "It was cancelled before it ran: stopped by operator."),
    ("cancelled", facts(ended("cancelled", "not needed"), attempts=[attempt("cancelled", started_at=None)]),
     "It was cancelled before it ran: not needed."),
    ("cancelled", facts(ended("cancelled", "not needed"), attempts=[attempt("failed", finished_at=ago(9))]),
     "It was cancelled after 1 attempt, before the next one began: not needed."),
    ("cancelled",
     facts(ended("cancelled", "not needed", attempt=3, withdrawn=1),
           attempts=[attempt("failed", 2), attempt("cancelled", 3, started_at=None)]),
     "It was cancelled after 1 attempt, before the next one began: not needed."),
    ("cancelled",
     facts(ended("cancelled", "cancelled", cancel_reason="not needed", cancel_requested_at=ago(9)),
           attempts=[attempt("cancelled")]),
     "It was cancelled while it ran on desk-7: not needed."),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "known", "sentence"), ENDED)
def test_what_ended_says_how_and_a_failure_of_which_class(kind: str | None, known: Facts, sentence: str) -> None:
    answer = explain(known)

    assert answer.sentence == sentence
    assert answer.failure_class == kind
    assert answer.reasons == ()
    assert answer.candidates == []
    assert answer.since == ago(5)


def test_a_permanent_error_of_the_only_attempt_is_to_be_mended_and_not_only_tried_again() -> None:
    last = attempt("failed", permanent=True, error="no such repository")
    answer = explain(facts(ended("failed", "no such repository", attempts_total=1), attempts=[last]))

    assert answer.advice[0].what == "Mend what the error names: trying again changes nothing by itself"


def test_a_deadline_that_passed_after_a_time_limit_asks_for_a_later_deadline_and_not_for_more_time() -> None:
    last = attempt("timed_out", finished_at=ago(9))
    about = ended("timed_out", "the deadline passed", deadline_at=ago(45 - 7200))
    answer = explain(facts(about, attempts=[last], dead_letter="dl-18"))

    assert (answer.advice[0].what, answer.advice[0].command) == (
        "Run it again with a later deadline, once it can run",
        "corporation dead-letters replay dl-18 --ttl 14400",
    )


def test_every_code_and_every_class_is_in_a_table_above() -> None:
    """H-29: there is no code that nothing leads to."""
    waiting = {code for code, *_ in WAITING}
    underway = {code for codes, *_ in UNDERWAY for code in codes}

    assert waiting | underway == H_29
    assert {kind for kind, *_ in ENDED} == {
        None, "timed_out", "lost", "quarantined", "stopped", "failed", "cancelled",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ("HTTP status 429: slow down", "rate_limit"),
        ("RateLimitError: Too Many Requests", "rate_limit"),
        ("exit code 137", "out_of_memory"),
        ("MemoryError: ", "memory_refused"),
        ("[Errno 12] Cannot allocate memory", "memory_refused"),
        ("the container was OOM killed", "out_of_memory"),
        ("exit code 127: bash: line 1: uv: command not found", "command_not_found"),
        ("FileNotFoundError: [Errno 2] No such file or directory: 'git'", "command_not_found"),
        ("PermissionError: [Errno 13] Permission denied: '/srv/x'", "permission"),
        ("OSError: [Errno 28] No space left on device", "disk_full"),
        ("sqlite3.OperationalError: database or disk is full", "disk_full"),
        ("ConnectionRefusedError: [Errno 111] Connection refused", "not_reached"),
        ("curl: (6) Temporary failure in name resolution", "not_reached"),
        ("the factory does not know this kind of mission (mission.render)", "unknown_kind"),
        ("status code 401 Unauthorized", "not_authorized"),
        ("429 tests passed, 1 failed in the classroom", None),
        ("", None),
        (None, None),
    ],
)
def test_a_known_cause_is_recognised_by_the_words_of_the_error(error: str | None, code: str | None) -> None:
    found = cause_of(error)

    assert (found and found.code) == code


def test_a_known_cause_is_evidence_and_comes_first_of_what_would_help() -> None:
    error = "exit code 1: No space left on device"
    answer = explain(facts(ended("failed", error, attempts_total=1), attempts=failures(error), dead_letter="dl-12"))

    assert answer.evidence[0] == "The error suggests that a disk of the factory is full."
    assert [(one.what, one.command) for one in answer.advice] == [
        ("Free space on the factory's machine", None),
        ("Run it again as it was", "corporation dead-letters replay dl-12"),
        ("Look at its history and its result", "corporation missions show j-1"),
    ]


def test_evidence_and_help_of_a_wait_name_times_and_commands() -> None:
    known = facts(mission(deadline_at=ago(-7 * 86_400)), PAUSED, FULL, ahead=2)
    answer = explain(known)

    assert answer.evidence == [
        "It was accepted 45 s ago, with priority 3.",
        "Its deadline is 2026-06-08 08:10:00 UTC.",
    ]
    assert [(one.what, one.command) for one in answer.advice] == [
        ("Wait: it is sent as soon as desk-9 has room", None),
        (
            "Ask for it again with priority 0, which runs soonest",
            "corporation missions cancel --wait j-1 && corporation missions replay --priority 0 j-1",
        ),
        ("Give desk-9 more slots (UA_FACTORY_SLOTS) and restart its workers", None),
        ("Let another machine join as a factory with vp_coder: paste there what this prints", "corporation join-code"),
    ]
    assert [(one.code, one.message) for one in answer.reasons] == [
        ("no_free_slot",
         "None of the 2 factories with vp_coder takes it now: desk-7 is paused by HQ, desk-9 is full (2 of 2 running, "
         "4 queued)"),
        ("behind_others", "2 missions with the same need are before it"),
    ]  # fmt: skip
    assert answer.ahead == 2


def test_redis_that_is_away_is_said_of_a_wait_too() -> None:
    """What lies in the queues cannot be taken, and so no slot gets free."""
    answer = explain(facts(mission(), FULL, broker_answers=False))

    assert [reason.code for reason in answer.reasons] == ["no_free_slot", "broker_down"]
    assert answer.evidence[-1] == "Redis does not answer, so nothing that is queued reaches a factory."
    assert answer.advice[-1].command == "corporation doctor"


def test_a_backoff_says_what_comes_after_it() -> None:
    answer = explain(facts(mission(**BACKOFF), PAUSED, attempts=[attempt("failed", error="HTTP error 429")]))

    assert [reason.code for reason in answer.reasons] == ["backoff", "all_paused"]
    assert answer.evidence[:2] == [
        "The wait between the two is 29 s; it ends at 08:10:24 UTC.",
        "The error suggests that a service refused because it was asked too often.",
    ]
    assert [one.what for one in answer.advice][-3:] == [
        "Wait until 08:10:24 UTC", "Resume desk-7",
        "Let another machine join as a factory with vp_coder: paste there what this prints",
    ]  # fmt: skip


def test_candidates_are_listed_with_the_nearest_first_and_why_they_are_none() -> None:
    known = facts(
        mission("waiting"),
        factory("b-free", held=1), factory("a-free", held=1), factory("idle"), factory("full", held=6),
        factory("resting", hq=True), factory("leaving", status="draining"), factory("late", status="stale"),
        factory("gone", status="offline"), factory("empty", slots=0), no_coder("other"),
        no_coder("last", status="offline", slots=0),
    )  # fmt: skip

    assert [(one.factory.view.factory_id, one.eligible, list(one.reasons)) for one in explain(known).candidates] == [
        ("idle", True, []),
        ("a-free", True, []),
        ("b-free", True, []),
        ("full", False, ["no_free_slot"]),
        ("resting", False, ["paused"]),
        ("leaving", False, ["draining"]),
        ("late", False, ["stale"]),
        ("gone", False, ["offline"]),
        ("empty", False, ["no_mission_worker"]),
        ("last", False, ["offline", "no_mission_worker"]),
        ("other", False, ["lacks_label"]),
    ]


def test_a_target_is_the_first_candidate_and_everybody_else_is_not_it() -> None:
    """The example of contract http §7: another factory is listed, and why it is none."""
    known = facts(meant_for("desk-9"), factory("desk-7"), factory("desk-9", status="offline", slots=0))
    orders = facts(
        mission(kind="system:pause_factory", need=Need(1, None, "desk-7", routable=False)), factory("desk-7")
    )

    assert [(one.factory.view.factory_id, list(one.reasons)) for one in explain(known).candidates] == [
        ("desk-9", ["offline", "no_mission_worker"]),
        ("desk-7", ["not_the_target"]),
    ]
    assert [list(one.reasons) for one in explain(orders).candidates] == [["takes_no_orders"]]


def test_at_most_a_hundred_candidates_are_listed() -> None:
    many = [factory(f"desk-{number}", status="offline") for number in range(150)]
    known = facts(mission(), *many, factory("the-live-one"))
    names = [one.factory.view.factory_id for one in explain(known).candidates]

    assert len(names) == 100
    assert names[0] == "the-live-one"


def test_a_command_can_be_copied_whatever_a_name_is_made_of() -> None:
    hostile = "x'; rm -rf ~ #"
    answer = explain(facts(meant_for(hostile), factory("desk-7")))

    assert answer.advice[0].command == """corporation join-code --factory-id 'x'"'"'; rm -rf ~ #'"""


@pytest.mark.parametrize(("job_id", "word"), [("j-1", "j-1"), ("a b", "'a b'"), ("-rf", "-- -rf")])
def test_a_mission_of_any_name_can_be_followed_with_the_command(job_id: str, word: str) -> None:
    answer = explain(facts(mission("running", job_id=job_id), factory("desk-7"), attempts=[attempt("running")]))

    assert answer.advice[-1].command == f"corporation missions watch {word}"


WORD = Restraint("ops", datetime(2026, 6, 1, 8, 2, tzinfo=UTC), "moving the desk", datetime(2026, 6, 1, 10, tzinfo=UTC))


def told_of(restraint: Restraint | None, **changes: Any) -> str:
    """What is said of desk-7, for which alone the mission is meant."""
    one = replace(factory("desk-7", **changes), paused_by_hq=True, restraint=restraint)
    return explain(facts(meant_for("desk-7"), one)).sentence.removeprefix("Its target, desk-7, ")


@pytest.mark.parametrize(
    ("restraint", "changes", "said"),
    [
        (WORD, {"status": "paused"}, "is paused by ops since 08:02:00 UTC (moving the desk), until 10:00:00 UTC."),
        (WORD, {"status": "draining"}, "is drained by ops since 08:02:00 UTC (moving the desk), until 10:00:00 UTC."),
        (Restraint("ops", ago(60)), {"status": "paused"}, "is paused by ops since 08:09:00 UTC."),
        (None, {"status": "paused"}, "is paused by HQ."),
        (Restraint("ana", ago(60), "stolen"), {"status": "offline", "quarantined": True},
         "is quarantined by ana since 08:09:00 UTC (stolen)."),
        (None, {"status": "offline", "silent": 1.7e9}, "has not been heard of yet."),
    ],
)  # fmt: skip
def test_who_keeps_missions_from_a_factory_why_and_until_when_is_said(
    restraint: Restraint | None, changes: dict[str, Any], said: str
) -> None:
    assert told_of(restraint, **changes) == said


def test_a_long_note_is_cut_in_the_middle_and_stays_on_one_line() -> None:
    said = told_of(replace(WORD, note="a\n" * 900 + "the end"), status="paused")

    assert "\n" not in said
    assert "the end)" in said
    assert len(said) < 300


def test_who_is_paused_or_barred_by_hq_is_let_in_by_a_command_and_who_rests_by_itself_is_not() -> None:
    barred = factory("desk-7", status="offline", quarantined=True)
    by_itself = factory("desk-7", status="paused")

    assert commands(facts(meant_for("desk-7"), PAUSED))[0] == "corporation factories resume desk-7"
    assert commands(facts(meant_for("desk-7"), barred))[0] == "corporation factories release desk-7"
    assert commands(facts(meant_for("desk-7"), by_itself))[0] is None


def commands(known: Facts) -> list[str | None]:
    return [one.command for one in explain(known).advice]


ASKS = factory("desk-7", takes_messages=False)
PAUSE = mission(kind="system:pause_factory", need=Need(1, None, "desk-7", system=True))


@pytest.mark.parametrize(
    ("known", "code", "said"),
    [
        (facts(mission(), ASKS), "behind_others",
         "It waits to be asked for over HTTPS: desk-7 was last heard of 12 s ago."),
        (facts(mission(), factory("desk-7", running=2, held=6, takes_messages=False)), "no_free_slot",
         "The only factory with vp_coder, desk-7, is full (2 of 2 running, 4 queued)."),
        (facts(PAUSE, PAUSED), "behind_others",
         "It is an order to desk-7 itself, which is told with the answer to its next heartbeat; desk-7 was last heard "
         "of 12 s ago."),
        (facts(PAUSE, ASKS), "behind_others",
         "It is an order to desk-7 itself, which is told with the answer to its next heartbeat; desk-7 was last heard "
         "of 12 s ago."),
        (facts(PAUSE, OFFLINE), "target_offline",
         "Its target, desk-7, was last heard of 16 min ago."),
        (facts(PAUSE, factory("desk-7", control_queue="desk-7.control", status="offline", silent=960)),
         "target_offline", "Its target, desk-7, was last heard of 16 min ago."),
        (facts(mission("queued"), ASKS, attempts=[attempt()], queue=QueuePlace(1, 1)), "behind_others",
         "It is kept for desk-7, which asks HQ for its missions over HTTPS and takes it when a slot is free."),
        (facts(replace(PAUSE, state="queued"), PAUSED, attempts=[attempt()], queue=QueuePlace(1, 1)),
         "behind_others",
         "Its factory, desk-7, has not taken it for 40 s, although it has a control worker and was last heard of 12 s "
         "ago; it is 1st of 1 in the queue there, and its lease ends at 08:12:20 UTC."),
    ],
)  # fmt: skip
def test_orders_and_factories_that_ask_are_explained(known: Facts, code: str, said: str) -> None:
    answer = explain(known)

    assert (answer.reasons[0].code, answer.sentence) == (code, said)


def test_nobody_is_told_to_enable_a_label_that_stands_for_an_agent_that_does_not_exist_yet() -> None:
    answer = explain(facts(mission(), no_coder("desk-7")))
    other = explain(facts(mission(kind="bootstrap_repo", need=Need(1, "vp_x", None)), factory("desk-7")))

    assert [one.what for one in answer.advice] == [
        "Give a factory a module that handles coding_task (UA_HANDLER_MODULES) and restart its workers",
        "Or stop it, if nobody needs it",
    ]
    assert other.advice[0].what.startswith("Enable vp_x on a factory")


def test_a_long_error_of_many_lines_stays_one_sentence() -> None:
    error = "Traceback:\n" + "  File x\n" * 500 + "ValueError: the end\n"
    answer = explain(facts(ended("failed", error, attempts_total=1), attempts=failures(error)))

    assert "\n" not in answer.sentence
    assert answer.sentence.endswith("ValueError: the end.")
    assert len(answer.sentence) < 320


def test_what_an_attempt_died_of_stands_once_in_its_line_without_the_words_around_it() -> None:
    tried = [attempt("lost", 2, error="lost: exit code 9"), attempt("lost", 3, took_worker=True, error=QUARANTINE)]
    about = ended("failed", QUARANTINE, attempts_total=3, attempt=3, workers_lost=3)

    assert explain(facts(about, attempts=tried)).evidence[:2] == [
        "Attempt 2 on desk-7 was lost after 30 s: exit code 9.",
        "Attempt 3 on desk-7 was lost after 30 s: exit code 9.",
    ]


def test_a_quarantined_mission_is_run_again_only_with_a_changed_order() -> None:
    about = ended("failed", QUARANTINE, attempts_total=3, attempt=3, workers_lost=3)
    known = facts(about, attempts=[attempt("lost", 3, took_worker=True)], dead_letter="dl-20")

    assert commands(known) == [
        "corporation dead-letters show dl-20",
        "corporation dead-letters replay dl-20 --context @changed.json",
        "corporation missions show j-1",
    ]


def test_a_mission_that_hit_its_time_limit_is_run_again_with_twice_as_much() -> None:
    last = attempt("timed_out", 3, error="the time limit passed")
    known = facts(ended("timed_out", "…", attempt=3, timeout_seconds=3), attempts=[last], dead_letter="dl-18")

    assert commands(known)[:2] == [
        "corporation dead-letters replay dl-18 --timeout 6",
        "corporation dead-letters replay dl-18",
    ]


def test_a_mission_that_was_run_again_points_to_that_one_and_is_not_offered_again() -> None:
    known = facts(ended("failed", EXIT_2, attempts_total=1), attempts=failures(EXIT_2))
    assert commands(replace(known, repeat=RepeatFacts("j-1-r1", "failed"))) == [
        "corporation why j-1-r1",
        "corporation missions show j-1",
    ]
    assert commands(replace(known, repeat=RepeatFacts("j-1-r1", "succeeded"))) == ["corporation missions show j-1"]


def test_a_mission_that_runs_another_again_says_so() -> None:
    again = ended("succeeded", repeats="j-0")
    adopted = replace(again, adopted=AdoptedFacts("j-0", 1, "desk-7"))

    assert explain(facts(again, attempts=[attempt("succeeded")])).evidence[0] == "It runs the order of j-0 again."
    assert explain(facts(mission(repeats="j-0"), FULL)).evidence[0] == "It runs the order of j-0 again."
    assert explain(facts(adopted)).evidence[0] == "It stands for j-0, which had ended before its result came."


def test_a_cancelled_mission_can_be_run_again() -> None:
    cancelled = facts(ended("cancelled", "not needed", attempt=0))

    assert commands(cancelled)[0] == "corporation missions replay j-1"
    assert commands(replace(cancelled, repeat=RepeatFacts("j-1-r1", "waiting")))[0] == "corporation why j-1-r1"


def test_what_waits_for_one_factory_may_be_sent_to_another_that_could_run_it_now() -> None:
    busy = factory("desk-5", running=2, held=6)
    known = facts(meant_for("desk-7"), OFFLINE, busy, factory("desk-9"), no_coder("desk-6"))
    no_other = facts(meant_for("desk-7"), OFFLINE, no_coder("desk-9"), factory("desk-8", status="paused"))
    order = facts(PAUSE, OFFLINE, factory("desk-9"))

    assert commands(known) == [
        "corporation factory up",
        "corporation missions cancel --wait j-1 && corporation missions replay --target desk-9 j-1",
    ]
    assert commands(no_other) == commands(order) == ["corporation factory up"]


def test_a_mission_in_the_queue_of_its_silent_target_may_be_sent_to_another_too() -> None:
    about = mission("queued", need=Need(1, "vp_coder", "desk-7"), attempt=1, job_id="-rf")

    assert commands(queued(OFFLINE, factory("desk-9"), about=about))[-1] == (
        "corporation missions cancel --wait -- -rf && corporation missions replay --target desk-9 -- -rf"
    )
    assert explain(queued(OFFLINE, about=about)).advice[-1].what == "Wait: HQ takes it back, and sends it there again"


def test_nothing_is_said_of_the_load_of_a_factory_that_has_fallen_silent() -> None:
    answer = explain(queued(silent("desk-7", running=1)))

    assert answer.evidence[-1] == "desk-7 has been silent for 71 s and should be heard every 15 s."
    assert answer.advice[0].command == "corporation factory status"
    assert explain(queued(factory("desk-7", running=3))).evidence[-1] == (
        "desk-7 is online (2 of 2 running, 1 queued) and was last heard of 12 s ago."
    )


def test_nobody_waits_for_room_at_a_factory_that_has_fallen_silent() -> None:
    assert [one.what for one in explain(facts(mission(), SILENT)).advice] == [
        "Look on its own machine whether desk-8 still runs; `corporation factory up` starts it",
        "Let another machine join as a factory with vp_coder: paste there what this prints",
    ]


@pytest.mark.parametrize(
    ("known", "ahead"),
    [
        (facts(mission(), FULL, ahead=2, ahead_or_more=True), (2, True)),
        (facts(mission(), no_coder("desk-7"), ahead=2, ahead_or_more=True), (0, False)),
        (facts(meant_for("bench-2"), FULL, ahead=2), (0, False)),
        (facts(mission(**BACKOFF), FULL, ahead=2), (0, False)),
        (queued(FULL, place=3, of=3), (2, False)),
    ],
)
def test_others_are_ahead_only_where_there_is_a_line(known: Facts, ahead: tuple[int, bool]) -> None:
    answer = explain(known)

    assert (answer.ahead, answer.ahead_or_more) == ahead


def test_every_code_has_words_for_people() -> None:
    assert set(REASONS) == H_29
    statuses = {"paused", "draining", "stale", "offline", "quarantined"}
    assert set(OBSTACLES) | statuses == set(NEAREST_FIRST)


LABELS = ("vp_coder", "vp_general")
fleets = st.lists(
    st.builds(
        factory,
        st.sampled_from(["a", "b", "c", "d"]),
        running=st.integers(0, 3),
        status=st.sampled_from(["online", "online", "paused", "draining", "stale", "offline"]),
        labels=st.frozensets(st.sampled_from(LABELS)),
        slots=st.integers(0, 2),
        held=st.integers(0, 8),
        finished_per_second=st.sampled_from([0.0, 0.0, 5.0]),
        control_queue=st.sampled_from([None, "it.control"]),
        takes_messages=st.sampled_from([True, True, False]),
        quarantined=st.sampled_from([False, False, True]),
    ),
    max_size=4,
    unique_by=lambda one: one.view.factory_id,
)
wanted = st.builds(
    Need,
    st.just(1),
    st.sampled_from([*LABELS, None]),
    st.sampled_from([None, None, "a", "b", "z"]),
    routable=st.sampled_from([True, True, True, False]),
    system=st.sampled_from([False, False, True]),
    avoid=st.frozensets(st.sampled_from(["a", "b"])),
)


@given(wanted, fleets, st.integers(0, 3), st.booleans())
def test_the_dispatcher_and_the_explanation_never_disagree(
    need: Need, fleet: list[FactoryFacts], ahead: int, answers: bool
) -> None:
    """H-29: the first reason is the one that the dispatcher writes on the mission, whatever the fleet is like."""
    known = facts(mission(need=need), *fleet, ahead=ahead, broker_answers=answers)
    answer, routed = explain(known), route(need, known.views)

    assert answer.reasons[0].code == (routed.reason if isinstance(routed, Held) else "behind_others")
    assert {reason.code for reason in answer.reasons} <= H_29
    assert answer.sentence.endswith(".")
    assert answer.advice


@given(wanted, fleets)
def test_a_mission_is_assigned_exactly_when_some_factory_has_no_obstacle(need: Need, fleet: list[FactoryFacts]) -> None:
    views = [one.view for one in fleet]
    free = {view.factory_id for view in views if not obstacles(need, view)}
    answer = route(need, views)

    assert isinstance(answer, Held) == (not free)
    assert isinstance(answer, Held) or answer.factory_id in free


@given(
    st.sampled_from(["waiting", "queued", "claimed", "running"]),
    wanted,
    fleets,
    st.booleans(),
    st.sampled_from([None, 0.5, 40.0]),
    st.booleans(),
)
def test_every_mission_that_neither_runs_nor_ended_has_a_reason(
    state: str, need: Need, fleet: list[FactoryFacts], answers: bool, unsent: float | None, backing_off: bool
) -> None:
    """H-29, whatever the ledger holds."""
    about = mission(state, need=need, next_attempt_at=ago(-9) if backing_off else None)
    tried = [attempt("failed" if state == "waiting" else state, factory_id="a", error="boom")]
    queue = QueuePlace(1, 2, unsent) if state == "queued" else None
    answer = explain(facts(about, *fleet, attempts=tried, queue=queue, broker_answers=answers))

    assert bool(answer.reasons) == (state != "running")
    assert all("corporation publish" not in (one.command or "") for one in answer.advice)
    assert {reason.code for reason in answer.reasons} <= H_29
    assert "\n" not in answer.sentence


LADEN = factory("desk-7", running=2, held=70, slots=100, held_bytes=17 * 2**20)


def test_a_factory_that_holds_enough_bytes_is_not_told_to_have_more_slots() -> None:
    answer = explain(facts(mission(), LADEN))

    assert [one.what for one in answer.advice] == [
        "Wait: it is sent as soon as desk-7 has room",
        "Send desk-7 smaller orders: put what is large elsewhere, and its address into the order",
        "Let another machine join as a factory with vp_coder: paste there what this prints",
    ]


@pytest.mark.parametrize(
    ("known", "what", "command"),
    [
        (facts(mission()), "Let a machine join as a factory: paste there what this prints", "corporation join-code"),
        (facts(mission(need=Need(1, None, None)), OFFLINE),
         "Let another machine join as a factory: paste there what this prints", "corporation join-code"),
        (facts(mission(), factory("desk-7", slots=0)),
         "Look why desk-7 runs no mission worker, on its own machine", "corporation factory status"),
    ],
)  # fmt: skip
def test_who_is_missing_is_had_by_a_command_that_there_is(known: Facts, what: str, command: str) -> None:
    assert (what, command) in [(one.what, one.command) for one in explain(known).advice]
