"""Every (state, next state) pair is either a step we take or one we refuse; this table is the rule."""

import pytest

from corporation.missions.states import FINAL, LIVE, State, may_follow

STEPS = {
    State.WAITING: {State.QUEUED, State.FAILED, State.TIMED_OUT, State.CANCELLED},
    State.QUEUED: {State.CLAIMED, State.RUNNING, State.WAITING, *FINAL},
    State.CLAIMED: {State.RUNNING, State.WAITING, *FINAL},
    State.RUNNING: {State.WAITING, *FINAL},
    State.SUCCEEDED: set[State](),
    State.FAILED: set[State](),
    State.TIMED_OUT: set[State](),
    State.CANCELLED: set[State](),
}


@pytest.mark.parametrize("before", State)
@pytest.mark.parametrize("after", State)
def test_a_step_is_taken_exactly_when_the_table_has_it(before: State, after: State) -> None:
    assert may_follow(before, after) == (after in STEPS[before])


@pytest.mark.parametrize("final", sorted(FINAL))
def test_nothing_follows_a_final_state(final: State) -> None:
    assert not any(may_follow(final, after) for after in State)


@pytest.mark.parametrize("before", State)
@pytest.mark.parametrize("after", State)
def test_a_broadcast_waits_and_then_has_ended_and_no_factory_ever_holds_it(before: State, after: State) -> None:
    """S-25: its children do the work; it alone succeeds out of waiting."""
    assert may_follow(before, after, broadcast=True) == (before == State.WAITING and after in FINAL)


def test_every_state_is_waiting_live_or_final_and_only_one_of_them() -> None:
    assert {State.WAITING} | LIVE | FINAL == set(State)
    assert not LIVE & FINAL


def test_every_state_that_is_not_final_can_still_be_cancelled() -> None:
    assert all(may_follow(state, State.CANCELLED) for state in set(State) - FINAL)


def test_a_mission_succeeds_only_while_a_factory_holds_it() -> None:
    assert {state for state in State if may_follow(state, State.SUCCEEDED)} == LIVE
