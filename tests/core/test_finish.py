"""What a report does to its mission: the end, another try, or nothing because it came too late."""

from typing import Any

import pytest
from builders import standing
from hypothesis import given
from hypothesis import strategies as st

from corporation.missions.finish import Again, Finish, TooLate, judge
from corporation.missions.outcomes import Cancelled, Done, Failed, Later, Lost, Outcome, Stop, TimedOut
from corporation.missions.retry import RetryPolicy
from corporation.missions.states import FINAL, LIVE, State, may_follow

POLICY = RetryPolicy()
EVERY_OUTCOME: list[Outcome] = [
    Done({"result_ref": "workspace://desk-7/j-1"}),
    Later(60, "the model is busy"),
    Stop("no such repository"),
    Failed("exit code 2"),
    TimedOut("the time limit passed"),
    Lost("the process died"),
    Cancelled("the operator said so"),
]
outcomes = st.sampled_from(EVERY_OUTCOME)


def verdict_on(outcome: Outcome, **changes: Any) -> Any:
    return judge(standing(**changes), outcome, POLICY, 0.5)


@pytest.mark.parametrize("outcome", EVERY_OUTCOME)
def test_a_report_on_an_attempt_that_is_not_current_changes_nothing(outcome: Outcome) -> None:
    assert isinstance(verdict_on(outcome, current=False), TooLate)


@pytest.mark.parametrize(
    ("outcome", "state", "error"),
    [
        (Done(), State.SUCCEEDED, None),
        (Later(60, "the model is busy"), State.FAILED, "the model is busy"),
        (Stop("no such repository"), State.FAILED, "no such repository"),
        (Failed("exit code 2"), State.FAILED, "exit code 2"),
        (TimedOut("too slow"), State.TIMED_OUT, "too slow"),
        (Lost("it died"), State.FAILED, "lost: it died"),
    ],
)
def test_the_last_attempt_ends_the_mission(outcome: Outcome, state: State, error: str | None) -> None:
    verdict = verdict_on(outcome, attempt=3)

    assert isinstance(verdict, Finish)
    assert (verdict.state, verdict.error) == (state, error)


@pytest.mark.parametrize("outcome", [Failed("x"), TimedOut("x"), Lost("x")])
def test_an_earlier_attempt_is_followed_by_another_after_the_backoff(outcome: Outcome) -> None:
    assert verdict_on(outcome, attempt=2).delay_seconds == pytest.approx(30)


@pytest.mark.parametrize("outcome", [one for one in EVERY_OUTCOME if not isinstance(one, Done)])
def test_what_is_to_be_cancelled_ends_with_its_attempt_however_that_ended(outcome: Outcome) -> None:
    verdict = verdict_on(outcome, attempt=1, attempts_total=100, cancel_requested="not needed any more")

    assert (verdict.state, verdict.error) == (State.CANCELLED, "not needed any more")
    assert verdict.result["terminal_status"] == "cancelled"


def test_what_was_done_before_it_could_be_stopped_has_succeeded() -> None:
    assert verdict_on(Done(), cancel_requested="not needed any more").state is State.SUCCEEDED


def test_an_attempt_that_its_factory_stopped_unasked_is_tried_again() -> None:
    verdict = verdict_on(Cancelled("superseded"), attempt=1)

    assert verdict == Again(verdict.delay_seconds, "its factory stopped it unasked: superseded")


def test_later_waits_as_long_as_the_handler_asked_and_uses_up_an_attempt() -> None:
    assert verdict_on(Later(7.5, "busy"), attempt=2) == Again(7.5, "busy")


def test_stop_ends_the_mission_whatever_attempts_are_left() -> None:
    assert verdict_on(Stop("never"), attempt=1, attempts_total=100).state is State.FAILED


def test_attempts_made_elsewhere_lengthen_the_wait() -> None:
    assert verdict_on(Failed("x"), attempt=1, attempts_before=2).delay_seconds == pytest.approx(60)


def test_a_success_says_what_the_contract_asks_for() -> None:
    assert verdict_on(Done({"commit": "abc", "result_ref": "workspace://x"}), attempt=2).result == {
        "commit": "abc",
        "result_ref": "workspace://x",
        "mission_id": "j-1",
        "mission_kind": "general_task",
        "factory_id": "desk-7",
        "attempts": 2,
    }


def test_a_failure_names_its_terminal_status_and_keeps_the_evidence() -> None:
    result = verdict_on(Stop("bad", {"exit_code": 2})).result

    assert (result["terminal_status"], result["exit_code"]) == ("failed", 2)


@pytest.mark.parametrize("reference", [None, 7, ["x"], {"a": 1}])
def test_a_result_reference_that_is_no_text_becomes_the_empty_one(reference: object) -> None:
    assert verdict_on(Done({"result_ref": reference})).result["result_ref"] == ""


def test_a_handler_cannot_say_that_it_was_another_mission() -> None:
    lies = {"mission_id": "j-9", "factory_id": "other", "attempts": 0, "mission_kind": "x", "terminal_status": "none"}
    result = verdict_on(Stop("bad", lies)).result

    assert (result["mission_id"], result["factory_id"], result["attempts"]) == ("j-1", "desk-7", 1)
    assert (result["mission_kind"], result["terminal_status"]) == ("general_task", "failed")


def test_a_success_has_no_terminal_status_even_when_the_handler_wrote_one() -> None:
    assert "terminal_status" not in verdict_on(Done({"terminal_status": "failed"})).result


@given(outcomes, st.integers(1, 50), st.integers(1, 50), st.integers(0, 50), st.floats(0, 1, exclude_max=True))
def test_a_current_report_leads_to_a_state_that_may_follow_every_live_one(
    outcome: Outcome, attempt: int, total: int, before: int, chance: float
) -> None:
    verdict = judge(standing(attempt=attempt, attempts_total=total, attempts_before=before), outcome, POLICY, chance)
    after = verdict.state if isinstance(verdict, Finish) else State.WAITING

    assert not isinstance(verdict, TooLate)
    assert all(may_follow(live, after) for live in LIVE)


@given(outcomes, st.integers(1, 50), st.integers(1, 50))
def test_every_end_is_final_and_only_a_success_has_no_error(outcome: Outcome, attempt: int, total: int) -> None:
    verdict = verdict_on(outcome, attempt=attempt, attempts_total=total)

    if isinstance(verdict, Finish):
        assert verdict.state in FINAL
        assert (verdict.error is None) == (verdict.state is State.SUCCEEDED)


@given(outcomes, st.integers(1, 50), st.integers(0, 50))
def test_nothing_is_tried_again_once_the_attempts_are_used_up(outcome: Outcome, total: int, beyond: int) -> None:
    assert isinstance(verdict_on(outcome, attempt=total + beyond, attempts_total=total), Finish)


def test_a_failure_without_a_reason_still_has_an_error() -> None:
    assert verdict_on(Stop("")).error == "no reason was given"
