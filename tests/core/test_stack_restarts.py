"""When a process of the stack is started again, and when the stack gives up."""

import pytest

from corporation.embedded.stack_restarts import (
    READY_WITHIN_SECONDS,
    Again,
    GiveUp,
    judge_end,
    judge_wait,
    pause_before,
)


def test_the_pause_doubles_up_to_half_a_minute() -> None:
    assert [pause_before(failure) for failure in (1, 2, 3, 5, 6, 1000)] == [1, 2, 4, 16, 30, 30]


def test_a_wrong_configuration_is_never_tried_again() -> None:
    assert isinstance(judge_end(78, 1, was_ready=True), GiveUp)


def test_a_process_that_was_ready_is_started_for_ever() -> None:
    assert judge_end(1, 500, was_ready=True) == Again(30, "it ended with status 1")


def test_a_process_that_was_never_ready_is_given_up_after_five_tries() -> None:
    assert isinstance(judge_end(1, 4, was_ready=False), Again)
    assert isinstance(judge_end(1, 5, was_ready=False), GiveUp)


def test_a_signal_is_named() -> None:
    verdict = judge_end(-9, 1, was_ready=True)

    assert verdict.why == "it was ended by signal 9"


@pytest.mark.parametrize(("seconds", "patient"), [(READY_WITHIN_SECONDS - 1, True), (READY_WITHIN_SECONDS, False)])
def test_a_slow_start_is_normal_for_a_while(seconds: float, patient: bool) -> None:
    verdict = judge_wait(seconds, 1, was_ready=False)

    assert (verdict is None) is patient


def test_a_process_that_never_gets_ready_ends_the_stack_the_second_time() -> None:
    assert isinstance(judge_wait(READY_WITHIN_SECONDS, 2, was_ready=False), GiveUp)
    assert isinstance(judge_wait(READY_WITHIN_SECONDS, 2, was_ready=True), Again)
