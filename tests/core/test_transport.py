"""Redis or HTTPS: the way changes only when Redis has been away, or back, for long enough."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corporation.federation.notes import HTTPS, REDIS
from corporation.federation.transport import AWAY_SECONDS, BACK_SECONDS, Way, first_way, next_way

LOOKS = st.lists(st.tuples(st.integers(1, 8), st.booleans()), min_size=1, max_size=60)
"""Seconds since the look before, and whether Redis answered."""


def ways(start: bool, *looks: tuple[float, bool], wanted: bool = True) -> list[str]:
    """The way after the first look at 0 s, and after each further one at its moment."""
    way = first_way(start, 0.0, wanted=wanted)
    seen = [way.transport]
    for now, answers in looks:
        way = next_way(way, answers, now, wanted=wanted)
        seen.append(way.transport)
    return seen


@pytest.mark.parametrize(
    ("start", "looks", "expected"),
    [
        (True, [], [REDIS]),
        (False, [], [HTTPS]),
        (True, [(2, False), (11, False), (12, False)], [REDIS, REDIS, REDIS, HTTPS]),
        (True, [(2, False), (11.9, False), (11.99, True), (21, False)], [REDIS] * 5),
        (False, [(2, True), (6, True), (7, True)], [HTTPS, HTTPS, HTTPS, REDIS]),
        (False, [(2, True), (6.9, False), (8, True), (12, True), (13, True)], [HTTPS] * 5 + [REDIS]),
        (True, [(2, False), (12, False), (14, True), (16, False), (60, False)], [REDIS, REDIS] + [HTTPS] * 4),
    ],
    ids=["there", "not there", "gone", "a restart", "back", "flapping back", "back for a moment"],
)
def test_a_short_absence_and_a_short_return_change_nothing(
    start: bool, looks: list[tuple[float, bool]], expected: list[str]
) -> None:
    assert ways(start, *looks) == expected


@pytest.mark.parametrize("answers", [False, True])
def test_where_redis_is_not_wanted_the_way_is_https_whatever_it_does(answers: bool) -> None:
    assert set(ways(answers, (20, answers), (40, True), (60, False), wanted=False)) == {HTTPS}


def test_the_same_look_twice_is_one_look() -> None:
    way = next_way(Way(REDIS, answers=True, since=0.0), answers=False, now=20.0, wanted=True)

    assert next_way(way, answers=False, now=20.0, wanted=True) == way


@given(LOOKS)
def test_the_way_changes_only_after_a_whole_span_of_equal_looks(looks: list[tuple[int, bool]]) -> None:
    moments, now = [(0.0, True)], 0.0
    for seconds, answers in looks:
        now += seconds
        moments.append((now, answers))
    seen = ways(True, *moments[1:])

    for index, (before, after) in enumerate(pairwise(seen), start=1):
        if before == after:
            continue
        wanted, span = (False, AWAY_SECONDS) if after == HTTPS else (True, BACK_SECONDS)
        since = moments[index][0]
        for moment, answers in reversed(moments[: index + 1]):
            if answers != wanted:
                break
            since = moment
        assert moments[index][0] - since >= span


@given(LOOKS)
def test_it_always_follows_what_stays_long_enough(looks: list[tuple[int, bool]]) -> None:
    """No past leaves it stuck."""
    way, now = first_way(True, 0.0, wanted=True), 0.0
    for seconds, answers in looks:
        now += seconds
        way = next_way(way, answers, now, wanted=True)
    for answers, transport, span in ((False, HTTPS, AWAY_SECONDS), (True, REDIS, BACK_SECONDS)):
        for moment in (now + 1, now + 1 + span):
            way = next_way(way, answers, moment, wanted=True)
        now += 1 + span

        assert way.transport == transport
