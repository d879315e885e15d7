"""What a handler answers survives the way to HQ, and a hostile report is a failure, never an error of ours."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corporation.missions.outcomes import (
    Cancelled,
    Done,
    Failed,
    Later,
    Lost,
    Outcome,
    Stop,
    TimedOut,
    from_report,
    to_report,
)

json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)
results = st.dictionaries(st.text(max_size=8), json_values, max_size=3)
reasons = st.text(min_size=1, max_size=20)
outcomes: st.SearchStrategy[Outcome] = st.one_of(
    st.builds(Done, results),
    st.builds(Later, st.floats(0, 86_400), reasons),
    st.builds(Stop, reasons, results),
    st.builds(Failed, reasons, results),
    st.builds(TimedOut, reasons, results),
    st.builds(Lost, reasons),
    st.builds(Cancelled, reasons, results),
)


@given(outcomes)
def test_a_report_read_back_is_the_same_outcome(outcome: Outcome) -> None:
    assert from_report(to_report(outcome)) == outcome


@given(outcomes)
def test_a_report_survives_being_json(outcome: Outcome) -> None:
    assert from_report(json.loads(json.dumps(to_report(outcome)))) == outcome


WORDS = st.sampled_from(["done", "later", "stop", "failed", "timed_out", "lost", "cancelled", "DONE", "", None, 7])
hostile = st.one_of(
    json_values,
    st.fixed_dictionaries(
        {"outcome": WORDS},
        optional={
            "error": json_values,
            "result": json_values,
            "after_seconds": st.one_of(json_values, st.floats(), st.integers()),
            "exc_type": json_values,
            "exc_message": json_values,
        },
    ),
)


@given(hostile)
def test_no_report_whatever_it_holds_raises(report: object) -> None:
    outcome = from_report(report)

    assert isinstance(outcome, Outcome)
    assert isinstance(outcome, Done) or outcome.why


@given(st.one_of(st.floats(), st.integers(), st.text(), st.none(), st.lists(st.integers())))
def test_a_factory_can_ask_to_wait_for_a_day_at_most(seconds: object) -> None:
    outcome = from_report({"outcome": "later", "after_seconds": seconds, "error": "busy"})

    assert isinstance(outcome, Later)
    assert 0 <= outcome.after_seconds <= 86_400


@pytest.mark.parametrize(
    "seconds",
    [10**400, -(10**400), float("inf"), float("nan"), float("-inf")],
    ids=["long", "-long", "inf", "nan", "-inf"],
)
def test_a_wait_that_is_no_length_of_time_is_still_read(seconds: float) -> None:
    outcome = from_report({"outcome": "later", "after_seconds": seconds, "error": "busy"})

    assert isinstance(outcome, Later)
    assert 0 <= outcome.after_seconds <= 86_400


def test_an_error_that_is_a_number_of_ten_thousand_digits_is_still_read() -> None:
    assert isinstance(from_report({"outcome": "failed", "error": 10**10_000}), Failed)


@pytest.mark.parametrize("report", [None, 7, "done", [], ["outcome", "done"], True])
def test_a_report_that_is_no_object_is_a_failure_that_says_so(report: object) -> None:
    assert from_report(report) == Failed("the factory's report is not an object")


@pytest.mark.parametrize("word", ["DONE", "succeeded", "", None, 1, ["done"], {"done": 1}])
def test_a_word_that_is_no_outcome_is_a_failure(word: object) -> None:
    assert from_report({"outcome": word}) == Failed("the factory's report has no outcome")


@pytest.mark.parametrize("kind", ["TimeLimitExceeded", "SoftTimeLimitExceeded"])
def test_a_time_limit_that_celery_enforced_is_a_timeout(kind: str) -> None:
    assert from_report({"exc_type": kind, "exc_message": [30]}) == TimedOut("the time limit passed (30)")


@pytest.mark.parametrize("kind", ["WorkerLostError", "Terminated", "WorkerShutdown"])
def test_a_process_that_died_under_celery_is_a_lost_attempt(kind: str) -> None:
    assert from_report({"exc_type": kind, "exc_message": ["signal 9"]}) == Lost("signal 9")
    assert from_report({"exc_type": kind}) == Lost(kind)


def test_a_kind_that_the_factory_does_not_know_is_a_failure_another_factory_may_not_share() -> None:
    outcome = from_report({"exc_type": "NotRegistered", "exc_message": ["mission.dance"]})

    assert isinstance(outcome, Failed)
    assert "mission.dance" in outcome.why


def test_our_own_words_win_over_what_celery_adds_to_them() -> None:
    report = to_report(Stop("no such repository")) | {"exc_type": "MissionFailed", "exc_message": ["x"]}

    assert from_report(report) == Stop("no such repository")
