"""How many attempts a mission gets, and how long it waits between them (contract streams S-27 to S-29)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corporation.envelope import LARGEST_INTEGER
from corporation.missions.retry import RetryPolicy, attempts_total, read_retry_count

chances = st.floats(0, 1, exclude_max=True)
policies = st.builds(
    RetryPolicy,
    base_seconds=st.floats(0, 1e6),
    cap_seconds=st.floats(0, 1e9),
    jitter=st.floats(0, 1),
)
counts = st.integers(1, LARGEST_INTEGER)


@pytest.mark.parametrize(("used", "seconds"), [(1, 15), (2, 30), (3, 60), (4, 120), (6, 480), (7, 900), (50, 900)])
def test_the_wait_doubles_from_15_seconds_up_to_15_minutes(used: int, seconds: float) -> None:
    assert RetryPolicy().delay_seconds(used, 0.5) == pytest.approx(seconds)


@pytest.mark.parametrize(("chance", "seconds"), [(0.0, 12.0), (0.25, 13.5), (0.5, 15.0), (0.75, 16.5)])
def test_the_jitter_moves_the_wait_by_a_fifth_either_way(chance: float, seconds: float) -> None:
    assert RetryPolicy().delay_seconds(1, chance) == pytest.approx(seconds)


@given(policies, counts, chances)
def test_a_wait_is_never_negative_and_never_over_the_cap(policy: RetryPolicy, used: int, chance: float) -> None:
    assert 0 <= policy.delay_seconds(used, chance) <= policy.cap_seconds


@given(policies, counts, counts, chances)
def test_more_attempts_never_shorten_the_wait(policy: RetryPolicy, one: int, other: int, chance: float) -> None:
    fewer, more = sorted((one, other))

    assert policy.delay_seconds(fewer, chance) <= policy.delay_seconds(more, chance)


@given(st.integers(1, 6), chances)
def test_below_the_cap_the_wait_stays_within_the_jitter(used: int, chance: float) -> None:
    middle = 15.0 * 2 ** (used - 1)

    assert middle * 0.8 * 0.999 <= RetryPolicy().delay_seconds(used, chance) <= middle * 1.2


@pytest.mark.parametrize(("max_retries", "total"), [(0, 1), (1, 1), (2, 2), (3, 3), (100, 100)])
def test_max_retries_counts_the_first_attempt_too(max_retries: int, total: int) -> None:
    assert attempts_total(max_retries) == total


@pytest.mark.parametrize(("max_retries", "used", "left"), [(3, 0, 3), (3, 1, 2), (3, 3, 1), (3, 9, 1), (0, 5, 1)])
def test_attempts_made_elsewhere_count_but_one_is_always_left(max_retries: int, used: int, left: int) -> None:
    assert attempts_total(max_retries, used) == left


@given(st.integers(0, LARGEST_INTEGER), st.integers())
def test_there_is_always_at_least_one_attempt_and_never_more_than_asked_for(max_retries: int, used: int) -> None:
    assert 1 <= attempts_total(max_retries, used) <= max(1, max_retries)


@pytest.mark.parametrize(
    ("written", "count"),
    [(0, 0), (2, 2), ("2", 2), (" 3 ", 3), ("-1", 0), (-7, 0), ("+4", 4), ("007", 7), ("0" * 40 + "5", 5)],
)
def test_a_retry_count_is_a_number_or_a_numeric_text(written: object, count: int) -> None:
    assert read_retry_count(written) == count


@pytest.mark.parametrize("written", [None, "", "many", "1.5", "0x10", "1_000", "٣", 1.0, 2.5, True, False, [], {}, [1]])
def test_anything_else_is_no_retry_count(written: object) -> None:
    assert read_retry_count(written) is None


@pytest.mark.parametrize("written", [10**30, "9" * 25, "9" * 5000], ids=["number", "text", "long text"])
def test_a_retry_count_beyond_every_number_still_fits_the_ledger(written: object) -> None:
    assert read_retry_count(written) == LARGEST_INTEGER


@given(st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.lists(st.integers())))
def test_reading_a_retry_count_never_raises(written: object) -> None:
    count = read_retry_count(written)

    assert count is None or 0 <= count <= LARGEST_INTEGER


@pytest.mark.parametrize("text", ["0" * 200_000 + "x", " " * 200_000 + "x", "0" * 200_000, "+", "", " "])
def test_a_hostile_retry_count_is_read_at_once(text: str) -> None:
    """One that went back over its zeros took minutes, and everything else stood still."""
    assert read_retry_count(text) == (0 if text == "0" * 200_000 else None)
