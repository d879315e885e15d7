"""A mission that takes its workers down is stopped, and what was withdrawn counts for nothing: pure decisions."""

from typing import Any

import pytest
from builders import standing

from corporation.missions.finish import WORKERS_LOST_LIMIT, Again, Finish, judge
from corporation.missions.outcomes import Failed, Lost, from_report, to_report
from corporation.missions.retry import RetryPolicy
from corporation.missions.states import State

POLICY = RetryPolicy()
DIED = Lost("the process that ran it died")


def verdict_on(outcome: Any, **changes: Any) -> Any:
    return judge(standing(**changes), outcome, POLICY, 0.5)


@pytest.mark.parametrize("before", [WORKERS_LOST_LIMIT - 1, WORKERS_LOST_LIMIT, 7])
def test_the_third_lost_worker_ends_the_mission_whatever_attempts_are_left(before: int) -> None:
    verdict = verdict_on(DIED, attempt=before + 1, attempts_total=1000, workers_lost=before)

    assert isinstance(verdict, Finish)
    assert verdict.state is State.FAILED
    assert str(verdict.error).startswith("quarantined: it took its worker down 3 times")
    assert DIED.why in str(verdict.error)
    assert verdict.result["terminal_status"] == "failed"


def test_before_the_third_one_the_mission_is_tried_again() -> None:
    assert isinstance(verdict_on(DIED, attempt=2, workers_lost=1), Again)


@pytest.mark.parametrize("outcome", [Failed("exit code 2"), Lost("it lay in its queue", took_worker=False)])
def test_an_attempt_that_took_no_worker_is_no_third_one(outcome: Failed | Lost) -> None:
    assert isinstance(verdict_on(outcome, attempt=3, attempts_total=9, workers_lost=2), Again)


@pytest.mark.parametrize(("attempt", "total"), [(1, 1), (2, 2)])
def test_a_mission_with_few_attempts_ends_as_lost_as_ever(attempt: int, total: int) -> None:
    """S-27, S-30: `max_retries` 0, 1 and 2."""
    verdict = verdict_on(DIED, attempt=attempt, attempts_total=total, workers_lost=attempt - 1)

    assert verdict.error == f"lost: {DIED.why}"


def test_what_a_factory_and_celery_report_of_a_dead_process_took_its_worker() -> None:
    reports = ({"outcome": "lost", "error": "x"}, {"exc_type": "WorkerLostError", "exc_message": ["signal 9"]})
    assert [one.took_worker for report in reports if isinstance(one := from_report(report), Lost)] == [True, True]


@pytest.mark.parametrize("outcome", [DIED, Lost("its factory was stopped while it ran", took_worker=False)])
def test_a_report_says_whether_the_attempt_took_its_worker(outcome: Lost) -> None:
    """F-23: what was handed back by a stop counts towards no quarantine, and its report says so."""
    assert from_report(to_report(outcome)) == outcome


def test_what_was_withdrawn_uses_up_no_attempt_and_lengthens_no_wait() -> None:
    """S-27, S-29: the total grew with each of them."""
    verdict = verdict_on(Failed("exit code 2"), attempt=4, attempts_total=5, withdrawn=2)

    assert verdict == verdict_on(Failed("exit code 2"), attempt=2, attempts_total=3)
    assert verdict_on(Failed("exit code 2"), attempt=5, attempts_total=5, withdrawn=2).result["attempts"] == 3
