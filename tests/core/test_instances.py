"""Which instance may speak for a factory: never two at once, never none for long, and no word after a later one."""

from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corporation.factories.instances import Holder, judge_instance

SILENCES = st.floats(0, 10_000, allow_nan=False)
INTERVALS = st.none() | st.floats(0.1, 86_400)
NUMBERS = st.none() | st.integers(1, 50)
INSTANCES = st.sampled_from(["a", "b", "c"])


def holder(
    instance: str | None = "a", number: int | None = 7, silent: float = 0, interval: float | None = None
) -> Holder:
    return Holder(instance, number, silent, interval)


@pytest.mark.parametrize(
    ("before", "newcomer", "number", "verdict"),
    [
        (holder(None), "a", 1, "taken"),
        (holder(), "a", 8, "taken"),
        (holder(), "a", 7, "older"),
        (holder(), "a", 6, "older"),
        (holder(), "a", None, "taken"),
        (holder(number=None), "a", 1, "taken"),
        (holder(), None, None, "taken"),
        (holder(), None, 3, "taken"),
        (holder(), "b", 99, "split_brain"),
        (holder(silent=150), "b", 1, "split_brain"),
        (holder(silent=150.1), "b", 1, "taken"),
        (holder(silent=38, interval=15), "b", 1, "taken"),
        (holder(silent=37, interval=15), "b", 1, "split_brain"),
        (holder(silent=1000), "a", 6, "older"),
    ],
)
def test_a_beat_is_taken_unless_a_later_one_or_another_instance_was_heard(
    before: Holder, newcomer: str | None, number: int | None, verdict: str
) -> None:
    assert judge_instance(before, newcomer, number) == verdict


def test_an_instance_that_took_its_leave_is_in_nobodys_way() -> None:
    assert judge_instance(Holder("a", 7, 1.0, 60.0, gone=True), "b", 1) == "taken"


@given(INSTANCES, NUMBERS, SILENCES, INTERVALS, NUMBERS)
def test_who_names_no_instance_never_conflicts(
    instance: str, heard: int | None, silent: float, interval: float | None, number: int | None
) -> None:
    assert judge_instance(holder(instance, heard, silent, interval), None, number) == "taken"


@given(INSTANCES, INSTANCES, NUMBERS, SILENCES, INTERVALS, NUMBERS)
def test_only_another_instance_conflicts_and_only_while_the_holder_is_heard_of(
    instance: str, newcomer: str, heard: int | None, silent: float, interval: float | None, number: int | None
) -> None:
    verdict = judge_instance(holder(instance, heard, silent, interval), newcomer, number)

    assert (verdict == "split_brain") == (newcomer != instance and silent <= 2.5 * (interval or 60.0))
    assert verdict != "older" or newcomer == instance


@dataclass
class Spoken:
    """One beat of a story: when it is heard, and of whom."""

    after: float
    instance: str
    number: int


@given(st.lists(st.builds(Spoken, st.floats(0.1, 400), INSTANCES, st.integers(1, 30)), max_size=40))
def test_whatever_is_said_two_instances_are_never_both_believed_within_one_silence(story: list[Spoken]) -> None:
    now, row = 0.0, Holder(None, None, 0.0, None)
    believed: list[tuple[float, str, int]] = []
    for beat in story:
        now += beat.after
        silent = now - believed[-1][0] if believed else 0.0
        verdict = judge_instance(Holder(row.instance_id, row.beat_number, silent, None), beat.instance, beat.number)
        if verdict == "taken":
            row = Holder(beat.instance, beat.number, 0.0, None)
            believed.append((now, beat.instance, beat.number))

    for (earlier, one, number), (later, other, next_number) in pairwise(believed):
        assert one == other or later - earlier > 150
        assert one != other or next_number > number
