"""A queue that costs HQ time is looked into less and less often, and never so seldom that a lease ends by it."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corporation.engine.patience import (
    FIRST_REST_SECONDS,
    FORGET_SECONDS,
    SLOW_ONES_SECONDS,
    SLOW_SECONDS,
    Pace,
    paced,
    remembered,
    resting,
)

LONGEST = 45.0


@pytest.mark.parametrize("seconds", [0.0, 0.01, SLOW_SECONDS])
@pytest.mark.parametrize("before", [None, Pace(3.0, 4, 90.0)])
def test_a_queue_that_costs_little_has_no_pace_whatever_it_had(seconds: float, before: Pace | None) -> None:
    assert paced(before, seconds, 100.0, LONGEST) is None


@pytest.mark.parametrize(
    ("times_before", "rest"), [(0, 4.0), (1, 8.0), (2, 16.0), (3, 32.0), (4, 45.0), (5, 45.0), (10_000, 45.0)]
)
def test_a_slow_queue_rests_twice_as_long_each_time_up_to_the_longest(times_before: int, rest: float) -> None:
    before = Pace(1.0, times_before, 90.0) if times_before else None

    assert paced(before, 3.0, 100.0, LONGEST) == Pace(3.0, times_before + 1, 100.0 + rest)


def test_a_short_lease_has_short_rests() -> None:
    assert paced(None, 3.0, 100.0, 1.5) == Pace(3.0, 1, 101.5)


A, B, C = Pace(3.0, 1, 100.0), Pace(3.0, 1, 101.0), Pace(3.0, 1, 102.0)


@pytest.mark.parametrize(
    ("paces", "wanted", "now", "passed_by"),
    [
        ({}, {"a"}, 100.0, set()),
        ({"a": A}, {"a"}, 99.9, {"a"}),
        ({"a": A}, {"a"}, 100.0, set()),
        ({"a": A}, set(), 100.0, {"a"}),
        ({"a": A}, {"b"}, 100.0, {"a"}),
        ({"a": A, "b": B, "c": C}, {"a", "b", "c"}, 200.0, {"c"}),
        ({"a": C, "b": B, "c": A}, {"a", "b", "c"}, 200.0, {"a"}),
        ({"a": A, "b": B, "c": C}, {"b", "c"}, 200.0, {"a"}),
        ({"a": A, "b": B, "c": C}, {"a", "b", "c"}, 101.5, {"c"}),
        ({"a": Pace(60.0, 1, 100.0), "b": B}, {"a", "b"}, 200.0, {"b"}),
    ],
)
def test_who_has_been_due_for_longest_comes_first_and_the_others_when_there_is_time(
    paces: Mapping[str, Pace], wanted: set[str], now: float, passed_by: set[str]
) -> None:
    assert resting(paces, wanted, now) == passed_by


@given(st.dictionaries(st.sampled_from("abcdefgh"), st.floats(SLOW_SECONDS, 10), min_size=1), st.integers(1, 50))
def test_however_many_are_slow_each_has_its_turn_and_no_sweep_takes_longer_than_two_of_them(
    costs: dict[str, float], sweeps: int
) -> None:
    now, paces = 0.0, {name: Pace(cost, 1, 0.0) for name, cost in costs.items()}
    waited = dict.fromkeys(costs, 0)
    for _ in range(sweeps):
        now += LONGEST
        looked = costs.keys() - resting(paces, costs, now)
        assert looked, "somebody always has a turn"
        assert sum(costs[name] for name in looked) <= SLOW_ONES_SECONDS + max(costs.values())
        for name in looked:
            paces[name] = paced(paces[name], costs[name] + 1.0, now, LONGEST) or paces[name]
        waited = {name: 0 if name in looked else waited[name] + 1 for name in costs}

    assert max(waited.values()) < len(costs)


def test_what_was_not_asked_for_is_forgotten() -> None:
    now = 1000.0 + FORGET_SECONDS

    assert remembered({"gone": Pace(3.0, 1, 1000.0), "there": Pace(3.0, 1, 1000.1)}, now).keys() == {"there"}


def test_the_first_rest_is_longer_than_what_the_slowest_look_takes() -> None:
    """Else HQ would do nothing else."""
    assert FIRST_REST_SECONDS > 3.0
