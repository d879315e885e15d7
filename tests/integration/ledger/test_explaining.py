"""What an explanation reads of a real ledger: every state as the steps leave it, the place in the line, cheaply."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from builders import beat, submission
from ledger_at_work import LedgerAtWork
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from corporation.db import transaction
from corporation.factories.control import Word, flag
from corporation.factories.staleness import Thresholds
from corporation.factories.store import record_beat
from corporation.missions.adopt import Wish, adopt
from corporation.missions.dead_letters import replay_letter
from corporation.missions.explain import explain
from corporation.missions.explanation import Explanation, Facts
from corporation.missions.outcomes import Failed, Later, Lost, Stop, TimedOut
from corporation.missions.store import explaining
from corporation.missions.store.broadcasting import spread_one
from corporation.missions.store.dispatching import expire
from corporation.missions.store.explaining import kinds_with_the_need_of, read_facts


def known(ledger: LedgerAtWork, job_id: str = "j-1", **more: Any) -> Facts:
    with transaction(ledger.engine) as connection:
        facts = read_facts(connection, job_id, Thresholds(), **more)
    assert facts is not None
    return facts


def told(ledger: LedgerAtWork, job_id: str = "j-1", at: datetime | None = None, **more: Any) -> Explanation:
    """The explanation, as it would be at the time `at`, so that a slow machine reads the same sentence."""
    facts = known(ledger, job_id, **more)
    return explain(replace(facts, now=at or facts.now))


def codes(answer: Explanation) -> list[str]:
    return [reason.code for reason in answer.reasons]


def test_an_unknown_mission_has_no_facts(ledger: LedgerAtWork) -> None:
    with transaction(ledger.engine) as connection:
        assert read_facts(connection, "nobody", Thresholds()) is None


@pytest.mark.parametrize(("action", "said"), [("pause", "paused"), ("drain", "drained")])
def test_who_paused_a_factory_why_and_until_when_is_read(ledger: LedgerAtWork, action: Any, said: str) -> None:
    ledger.beat()
    with transaction(ledger.engine) as connection:
        flag(connection, ["desk-7"], Word(action, "ana", "moving the desk", 7200))
    ledger.publish("j-1", context={"target_factory_id": "desk-7"})
    [factory] = known(ledger).factories

    assert factory.restraint is not None
    assert (factory.paused_by_hq, factory.restraint.by, factory.restraint.note) == (True, "ana", "moving the desk")
    assert factory.restraint.until is not None
    assert f"Its target, desk-7, is {said} by ana since " in told(ledger).sentence
    assert "(moving the desk), until " in told(ledger).sentence


def test_who_barred_a_factory_is_read_before_who_paused_it(ledger: LedgerAtWork) -> None:
    ledger.beat()
    ledger.sql("UPDATE corporation.factories SET paused = true, paused_by = 'ana'")
    ledger.sql(
        """INSERT INTO corporation.factory_access (factory_id, quarantined_at, quarantined_by, quarantine_note)
           VALUES ('desk-7', now(), 'bob', 'stolen')"""
    )
    ledger.publish("j-1", context={"target_factory_id": "desk-7"})

    assert "is quarantined by bob since " in told(ledger).sentence
    assert codes(told(ledger)) == ["target_offline"]


def test_an_alias_is_explained_as_the_mission_it_stands_for(ledger: LedgerAtWork) -> None:
    """S-18."""
    ledger.publish("j-1")
    ledger.submit(submission("other", idempotency_key="k-j-1"))

    assert known(ledger, "other").mission.job_id == "j-1"


WAITS: list[tuple[dict[str, Any], list[dict[str, Any]]]] = [
    ({}, []),
    ({}, [{"registration_status": "paused"}]),
    ({}, [{"labels": []}]),
    ({}, [{"slots": 0}]),
    ({"mission_kind": "coding_task"}, [{"labels": ["vp_general"]}]),
    ({"context": {"target_factory_id": "desk-8"}}, [{}]),
    ({"context": {"target_factory_id": "desk-7"}}, [{"registration_status": "draining"}]),
    ({"context": {"target_factory_id": "desk-7"}, "mission_kind": "system:pause_factory"}, [{}]),
    ({"context": {"target_factory_id": "desk-7"}, "mission_kind": "system:update_factory"}, [{}]),
    (
        {"context": {"target_factory_id": "desk-7"}, "mission_kind": "system:pause_factory"},
        [{"queues": ["desk-7.control"], "registration_status": "paused"}],
    ),
    ({}, [{"labels": ["vp_general", "transport:http"]}]),
    ({}, [{"labels": ["vp_general", "transport:http"], "slots": 0}]),
    ({"mission_kind": "system:pause_factory"}, [{}]),
    ({}, [{}]),
]


@pytest.mark.parametrize(("mission", "factories"), WAITS)
def test_the_answer_begins_with_the_reason_that_the_dispatcher_wrote(
    ledger: LedgerAtWork, mission: dict[str, Any], factories: list[dict[str, Any]]
) -> None:
    """H-29: both ask one function, and here both ask it about the same ledger."""
    ledger.submit(submission("j-1", **mission))
    for changes in factories:
        ledger.beat(**changes)
    ledger.explain()

    assert codes(told(ledger))[0] == ledger.mission().state_reason


def test_silence_and_hqs_flag_are_seen_as_routing_sees_them(ledger: LedgerAtWork) -> None:
    ledger.publish("j-1")
    ledger.beat("a-late")
    ledger.beat("b-paused")
    ledger.sql("UPDATE corporation.factories SET paused = true WHERE factory_id = 'b-paused'")
    ledger.sql("UPDATE corporation.factories SET last_seen_at = now() - interval '16 min' WHERE factory_id = 'a-late'")

    answer = told(ledger)
    assert answer.sentence == (
        "None of the 2 factories with vp_general takes it now: a-late was last heard of 16 min ago, b-paused is paused "
        "by HQ."
    )
    assert [(one.factory.view.factory_id, list(one.reasons)) for one in answer.candidates] == [
        ("b-paused", ["paused"]),
        ("a-late", ["offline"]),
    ]


def test_the_line_counts_who_is_due_has_the_same_need_and_goes_first(ledger: LedgerAtWork) -> None:
    ledger.publish("before", "urgent-later", "mine", "after")
    ledger.submit(submission("research", mission_kind="research_task"), submission("code", mission_kind="coding_task"))
    ledger.submit(submission("aimed", context={"target_factory_id": "desk-7"}), submission("backs-off"))
    ledger.sql("UPDATE corporation.missions SET created_at = now() - interval '1 min' WHERE job_id <> 'urgent-later'")
    order = ["before", "research", "code", "aimed", "backs-off", "mine", "after"]
    for place, job_id in enumerate(order):
        ledger.sql("UPDATE corporation.missions SET place = :n WHERE job_id = :job", n=place, job=job_id)
    ledger.sql("UPDATE corporation.missions SET broker_priority = 0 WHERE job_id = 'urgent-later'")
    ledger.sql("UPDATE corporation.missions SET next_attempt_at = now() + interval '1 min' WHERE job_id = 'backs-off'")

    # `research` needs what `mine` needs; `code`, `aimed` and `backs-off` do not compete now.
    assert (known(ledger, "mine").ahead, known(ledger, "mine").ahead_or_more) == (3, False)
    assert known(ledger, "urgent-later").ahead == 0
    assert known(ledger, "aimed").ahead == 0
    assert told(ledger, "after").ahead == 4


def test_the_line_is_counted_no_further_than_its_limits(ledger: LedgerAtWork, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger.publish(*(f"j-{number}" for number in range(7)))
    monkeypatch.setattr(explaining, "MOST_AHEAD", 3)
    counted = known(ledger, "j-6")
    monkeypatch.setattr(explaining, "MOST_LOOKED_AT", 2)
    looked_at = known(ledger, "j-6")

    assert (counted.ahead, counted.ahead_or_more) == (3, True)
    assert (looked_at.ahead, looked_at.ahead_or_more) == (2, True)


def test_the_kinds_with_one_label_stand_in_one_line() -> None:
    assert set(kinds_with_the_need_of("general_task")) == {"general_task", "research_task"}
    assert kinds_with_the_need_of("render") == ["render"]
    assert kinds_with_the_need_of("system:pause_factory") == ["system:pause_factory"]


def test_a_queued_mission_knows_its_place_in_its_factorys_queue(ledger: LedgerAtWork) -> None:
    ledger.beat(slots=1)
    ledger.publish("runs", "first", "second")
    ledger.dispatch()
    ledger.send()
    ledger.hear(ledger.attempt_of("runs"))

    answer = told(ledger, "second")
    assert (
        answer.sentence == "Its factory, desk-7, is busy (1 of 1 running, 2 queued); it is 2nd of 2 in the queue there."
    )
    assert codes(answer) == ["no_free_slot", "behind_others"]
    assert answer.ahead == 1
    assert told(ledger, "first").ahead == 0


def test_a_mission_in_the_outbox_is_not_yet_in_a_queue(ledger: LedgerAtWork) -> None:
    ledger.beat()
    ledger.publish("j-1")
    ledger.dispatch()
    unsent = told(ledger)
    away = told(ledger, broker_answers=False)
    ledger.send()

    assert unsent.sentence == "It is on its way from HQ's outbox to desk-7."
    assert codes(away) == ["broker_down"]
    assert told(ledger).sentence == "It is 1st of 1 in the queue of desk-7, which is about to take it."


def test_a_stop_in_the_outbox_is_not_taken_for_the_attempt_itself(ledger: LedgerAtWork) -> None:
    [attempt] = ledger.hand_out("j-1")
    ledger.sql("INSERT INTO corporation.outbox (topic, attempt_id) VALUES ('stop', CAST(:id AS uuid))", id=attempt)

    queue = known(ledger).queue
    assert queue is not None
    assert queue.unsent_seconds is None


def test_a_running_mission_says_where_and_that_its_end_was_asked_for(ledger: LedgerAtWork) -> None:
    [attempt] = ledger.hand_out("j-1")
    ledger.hear(attempt)
    ledger.sql("UPDATE corporation.attempts SET progress = CAST(:p AS json)", p='{"percent": 40, "message": "reading"}')
    ledger.cancel("j-1", "not needed")

    answer = told(ledger, at=ledger.mission().started_at)
    assert answer.sentence == (
        "It has been running on desk-7 for 0 s, at 40 % (reading); its cancelling was asked for 0 s ago (not needed)."
    )
    assert answer.reasons == ()
    assert answer.since == ledger.mission().started_at


@pytest.mark.parametrize("progress", ["7", '"x"', "[1]", "null", '{"percent": "many", "message": {"a": 1}}'])
def test_progress_of_any_shape_does_no_harm(ledger: LedgerAtWork, progress: str) -> None:
    [attempt] = ledger.hand_out("j-1")
    ledger.hear(attempt)
    ledger.sql("UPDATE corporation.attempts SET progress = CAST(:p AS json)", p=progress)

    assert told(ledger, at=ledger.mission().started_at).sentence == "It has been running on desk-7 for 0 s."


def test_a_backoff_names_the_failure_that_it_comes_from(ledger: LedgerAtWork) -> None:
    [attempt] = ledger.hand_out("j-1")
    ledger.report(attempt, Failed("exit code 2: tests failed"))
    ledger.collect()

    answer = told(ledger, at=ledger.attempts()[0].finished_at)
    assert codes(answer) == ["backoff"]
    assert answer.sentence == "Attempt 1 of 3 failed (exit code 2: tests failed), and the next one is due in 15 s."
    assert answer.since == ledger.attempts()[0].finished_at


def all_attempts(outcome: Any, attempts: int) -> Callable[[LedgerAtWork], None]:
    def end(ledger: LedgerAtWork) -> None:
        ledger.hand_out("j-1", max_retries=attempts)
        for _ in range(attempts):
            ledger.report(ledger.attempt_of(), outcome)
            ledger.collect()
            ledger.end_backoff()
            ledger.dispatch()
            ledger.send()

    return end


def silence(ledger: LedgerAtWork) -> None:
    [attempt] = ledger.hand_out("j-1", max_retries=0)
    ledger.hear(attempt)
    ledger.lapse(attempt)
    ledger.rescue()


def deadline(ledger: LedgerAtWork) -> None:
    ledger.publish("j-1", ttl_seconds=60)
    ledger.explain()
    ledger.sql("UPDATE corporation.missions SET deadline_at = now() - interval '1 second'")
    with transaction(ledger.engine) as connection:
        expire(connection)


def recalled(ledger: LedgerAtWork) -> None:
    """Its factory was drained before it took the message, then another failed it."""
    ledger.hand_out("j-1", max_retries=1)
    ledger.sql("UPDATE corporation.factories SET draining = true")
    ledger.recall()
    ledger.sql("UPDATE corporation.factories SET draining = false")
    ledger.dispatch()
    ledger.send()
    ledger.report(ledger.attempt_of(), Stop("no such repository"))
    ledger.collect()


def limit_then_deadline(ledger: LedgerAtWork) -> None:
    ledger.hand_out("j-1")
    ledger.report(ledger.attempt_of(), TimedOut("the time limit passed"))
    ledger.collect()
    ledger.sql("UPDATE corporation.missions SET deadline_at = now() - interval '1 second'")
    with transaction(ledger.engine) as connection:
        expire(connection)


LOST_HOW = "the process that ran the attempt died"
ENDS = [
    ("failed", all_attempts(Failed("boom"), 2), "It failed: all 2 attempts ended alike: boom."),
    ("failed", all_attempts(Failed("boom"), 1), "It failed: its only attempt ended with: boom."),
    ("stopped", all_attempts(Stop("no such repository"), 3),
     "It failed for good at attempt 1 of 3, with 2 attempts left: no such repository."),
    ("stopped", all_attempts(Stop("no such repository"), 1),
     "It failed for good at attempt 1 of 1: no such repository."),
    ("stopped", recalled, "It failed for good at attempt 2 (1st of 1 that count): no such repository."),
    ("stopped", all_attempts(Stop("lost: the parcel"), 3),
     "It failed for good at attempt 1 of 3, with 2 attempts left: lost: the parcel."),
    ("failed", all_attempts(Failed("quarantined: the file"), 1),
     "It failed: its only attempt ended with: quarantined: the file."),
    ("lost", all_attempts(Lost(LOST_HOW), 1),
     f"It failed: attempt 1 of 1 on desk-7 was lost, and no attempt is left: {LOST_HOW}."),
    ("timed_out", limit_then_deadline,
     "It timed out after 1 attempt: the deadline passed while the mission was waiting (between two attempts)."),
    ("timed_out", all_attempts(TimedOut("the time limit of 3600 s passed"), 1),
     "It timed out: attempt 1 of 1 on desk-7 hit its time limit of 3600 s."),
    ("timed_out", deadline,
     "It timed out before any attempt: the deadline passed while the mission was waiting (no factory is live)."),
    ("failed", all_attempts(Later(0, "the other side is not ready"), 1),
     "It failed: attempt 1 of 1 was put off (the other side is not ready), and no attempt is left."),
    ("lost", silence,
     "It failed: attempt 1 of 1 on desk-7 was lost, and no attempt is left: desk-7 was silent for longer than its "
     "lease."),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "end", "sentence"), ENDS)
def test_a_failure_has_a_class_and_its_dead_letter(
    ledger: LedgerAtWork, kind: str, end: Callable[[LedgerAtWork], None], sentence: str
) -> None:
    end(ledger)
    answer = told(ledger)
    [letter] = ledger.sql("SELECT id FROM corporation.dead_letters")

    assert (answer.failure_class, answer.sentence.replace(" with its worker", "")) == (kind, sentence)
    assert f"dl-{letter.id}" in " ".join(one.command or "" for one in answer.advice)


def test_an_attempt_that_was_put_off_is_told_from_one_that_failed(ledger: LedgerAtWork) -> None:
    ledger.hand_out("j-1")
    for outcome in (Failed("boom"), Later(60, "the other side is not ready")):
        ledger.report(ledger.attempt_of(), outcome)
        ledger.collect()
        answer = told(ledger, at=ledger.attempts()[-1].finished_at)
        ledger.end_backoff()
        ledger.dispatch()
        ledger.send()

    assert answer.sentence == (
        "Attempt 2 of 3 was put off (the other side is not ready), and the next one is due in 60 s."
    )
    assert [one.put_off for one in known(ledger).attempts] == [False, True, False]


def test_a_report_too_large_to_be_a_putting_off_is_read_of_the_newest_attempt_alone(
    ledger: LedgerAtWork, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(explaining, "LARGEST_LETTER", 10)
    all_attempts(Later(0, "not ready"), 2)(ledger)

    assert [one.put_off for one in known(ledger).attempts] == [False, True]


def test_a_mission_that_was_run_again_names_that_one_which_says_whose_order_it_runs(ledger: LedgerAtWork) -> None:
    all_attempts(Failed("boom"), 1)(ledger)
    [letter] = ledger.sql("SELECT id FROM corporation.dead_letters")
    with transaction(ledger.engine) as connection:
        replay_letter(connection, letter.id, None, "made-up", 0)

    assert told(ledger).sentence == (
        "It failed: its only attempt ended with: boom; it was run again as j-1-r1, which is waiting."
    )
    assert [one.command for one in told(ledger).advice] == ["corporation why j-1-r1", "corporation missions show j-1"]
    assert "It runs the order of j-1 again." in told(ledger, "j-1-r1").evidence


def test_a_factory_that_is_silent_for_longer_than_its_beats_allow_is_not_called_online(ledger: LedgerAtWork) -> None:
    ledger.hand_out("j-1")
    ledger.sql(
        """UPDATE corporation.factories
              SET interval_seconds = 15, last_seen_at = date_trunc('second', now()) - interval '71 s'"""
    )
    facts = known(ledger)
    [factory] = facts.factories
    assert factory.stale_at is not None

    assert factory.overdue
    assert factory.stale_at > facts.now
    assert "desk-7 has been silent for 7" in told(ledger).sentence
    assert " and should be heard every 15 s; it becomes stale at " in told(ledger).sentence
    assert told(ledger).evidence[-1].startswith("desk-7 has been silent for 7")


@pytest.mark.parametrize("attempts", [3, 9])
def test_a_mission_that_took_three_workers_down_is_quarantined_whatever_is_left(
    ledger: LedgerAtWork, attempts: int
) -> None:
    all_attempts(Lost(LOST_HOW), attempts)(ledger)

    answer = told(ledger)
    assert answer.failure_class == "quarantined"
    assert answer.sentence.startswith("It was quarantined: it took its worker down 3 times, ")


def test_a_worker_that_is_known_to_have_died_only_later_makes_no_quarantine_of_a_loss(ledger: LedgerAtWork) -> None:
    ledger.hand_out("j-1", max_retries=3)
    for _ in range(2):
        ledger.report(ledger.attempt_of(), Lost(LOST_HOW))
        ledger.collect()
        ledger.end_backoff()
        ledger.dispatch()
        ledger.send()
    last = ledger.attempt_of()
    ledger.hear(last)
    ledger.lapse(last)
    ledger.sql("UPDATE corporation.factories SET last_seen_at = now() - interval '1 day'")
    ledger.rescue()
    ledger.report(last, Lost(LOST_HOW))
    ledger.collect()

    assert [one.took_worker for one in ledger.attempts()] == [True, True, True]
    assert told(ledger).failure_class == "lost"


def test_a_loss_told_at_length_is_a_loss_and_says_so(ledger: LedgerAtWork) -> None:
    """What is cut of an error is its head, and the head of this one is HQ's own word."""
    all_attempts(Lost("x" * 9_000), 1)(ledger)

    assert ledger.mission().error.startswith("lost: xxx")
    assert told(ledger).failure_class == "lost"


def test_a_mission_that_is_cancelled_between_two_attempts_did_not_run_then(ledger: LedgerAtWork) -> None:
    ledger.hand_out("j-1")
    ledger.report(ledger.attempt_of(), Failed("boom"))
    ledger.collect()
    ledger.cancel("j-1", "not needed")

    assert told(ledger).sentence == "It was cancelled after 1 attempt, before the next one began: not needed."


def test_a_letter_that_was_put_away_is_not_offered_again(ledger: LedgerAtWork) -> None:
    all_attempts(Failed("boom"), 1)(ledger)
    ledger.sql("UPDATE corporation.dead_letters SET status = 'discarded', resolved_at = now()")

    assert known(ledger).dead_letter is None


def test_what_came_too_late_is_in_the_evidence(ledger: LedgerAtWork) -> None:
    silence(ledger)
    ledger.report(ledger.attempt_of())
    ledger.collect()

    answer = told(ledger)
    assert "Attempt 1 reported after it had been given up; its report is kept." in answer.evidence
    assert (answer.advice[0].what, answer.advice[0].command) == (
        "Let the late result of attempt 1 count, if its work is good",
        "corporation missions adopt --attempt 1 j-1",
    )


def test_a_late_result_that_is_not_done_is_not_offered(ledger: LedgerAtWork) -> None:
    silence(ledger)
    ledger.report(ledger.attempt_of(), Failed("no"))
    ledger.collect()

    assert "adopt" not in " ".join(one.command or "" for one in told(ledger).advice)


def test_a_result_that_was_adopted_is_said_of_both_missions(ledger: LedgerAtWork) -> None:
    silence(ledger)
    ledger.report(ledger.attempt_of())
    ledger.collect()
    with transaction(ledger.engine) as connection:
        adopt(connection, "j-1", Wish(1, "ops"), 0)

    assert told(ledger, "j-1-r1").sentence == (
        "It succeeded with the late result of attempt 1 of j-1 on desk-7, which an operator adopted."
    )
    assert "adopt" not in " ".join(one.command or "" for one in told(ledger).advice)
    assert told(ledger).sentence.endswith("; its late result counts as j-1-r1.")
    assert told(ledger, "j-1-r1").evidence[0] == "It stands for j-1, which had ended before its result came."


def test_a_worker_that_died_is_named(ledger: LedgerAtWork) -> None:
    all_attempts(Lost("the process that ran the attempt died"), 1)(ledger)

    assert told(ledger).failure_class == "lost"


def test_an_order_to_every_factory_waits_behind_its_children(ledger: LedgerAtWork) -> None:
    """S-25."""
    for factory_id in ("a", "b"):
        ledger.beat(factory_id)
    ledger.submit(submission("all", mission_kind="system:pause_factory"))
    with transaction(ledger.engine) as connection:
        assert spread_one(connection, Thresholds())

    answer = told(ledger, "all")
    assert answer.sentence == "It is an order to every factory, and 2 of 2 factories have not done it yet: a and b."
    assert (codes(answer), answer.candidates, answer.ahead) == (["behind_others"], [], 0)
    assert answer.advice[0].command == "corporation why all.a"


def test_a_factory_that_was_removed_is_still_named(ledger: LedgerAtWork) -> None:
    ledger.hand_out("j-1")
    ledger.sql("DELETE FROM corporation.factories")

    assert codes(told(ledger)) == ["target_unknown"]


def test_all_is_read_at_one_moment(ledger: LedgerAtWork) -> None:
    """Else a mission could wait in one statement and be queued in the next."""
    ledger.publish("j-1")
    with ledger.engine.connect() as connection:
        before = read_facts(connection, "j-1", Thresholds())
        ledger.beat()
        ledger.dispatch()

        assert before is not None
        assert connection.execute(text("SELECT state FROM corporation.missions")).scalar_one() == "waiting"
    assert known(ledger).mission.state == "queued"


def test_reading_can_change_nothing(ledger: LedgerAtWork) -> None:
    with ledger.engine.connect() as connection:
        read_facts(connection, "j-1", Thresholds())
        with pytest.raises(DBAPIError, match="read-only transaction"):
            record_beat(connection, beat("desk-9"))


def test_a_long_history_is_read_from_its_end(ledger: LedgerAtWork) -> None:
    all_attempts(Failed("boom"), 25)(ledger)

    assert [one.number for one in known(ledger).attempts] == list(range(6, 26))
