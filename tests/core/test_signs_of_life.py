"""The three lights of a factory: what a beat proves and what it does not."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corporation.factories.signs_of_life import NEVER_SECONDS, Signs, WorkerSign, dead_workers, judge_lights, span

TICKING = WorkerSign("desk-7@worker", slots=2, busy=0, loop_age_seconds=1.0, connected=True)
WELL = Signs(status="online", silent_seconds=5, interval_seconds=15, slots=2, workers=[TICKING])


def lights(**changes: Any) -> tuple[str, str, str]:
    judged = judge_lights(replace(WELL, **changes))
    return judged.process.state, judged.consumer.state, judged.work.state


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({}, ("green", "green", "unknown")),
        ({"silent_seconds": 38}, ("red", "unknown", "unknown")),
        ({"silent_seconds": 38, "interval_seconds": None}, ("green", "green", "unknown")),
        ({"silent_seconds": 1e9}, ("unknown", "unknown", "unknown")),
        ({"workers": [replace(TICKING, loop_age_seconds=61.0)]}, ("green", "red", "unknown")),
        ({"workers": [replace(TICKING, loop_age_seconds=61.0), TICKING]}, ("green", "red", "unknown")),
        ({"workers": [replace(TICKING, connected=False)]}, ("green", "red", "unknown")),
        ({"workers": [replace(TICKING, loop_age_seconds=None)]}, ("green", "unknown", "unknown")),
        ({"workers": ()}, ("green", "unknown", "unknown")),
        ({"workers": (), "slots": 0}, ("green", "unknown", "unknown")),
        ({"over_https": True}, ("green", "unknown", "unknown")),
        ({"status": "paused"}, ("green", "unknown", "unknown")),
        ({"status": "draining"}, ("green", "unknown", "unknown")),
        ({"echo_asked_seconds": 20}, ("green", "green", "unknown")),
        ({"echo_asked_seconds": 20, "echo_heard_seconds": 10, "workers": ()}, ("green", "green", "unknown")),
        ({"echo_asked_seconds": 20, "echo_heard_seconds": 310, "workers": ()}, ("green", "green", "unknown")),
        ({"echo_asked_seconds": 200, "echo_heard_seconds": 310}, ("green", "red", "unknown")),
        ({"echo_asked_seconds": 200}, ("green", "red", "unknown")),
        ({"echo_asked_seconds": 200, "busy": 2}, ("green", "unknown", "unknown")),
        ({"running": 1, "unnamed_seconds": 5}, ("green", "green", "green")),
        ({"running": 2, "unnamed_seconds": 40}, ("green", "green", "red")),
        ({"running": 1, "unnamed_seconds": 5, "stalled_seconds": 60}, ("green", "green", "green")),
        ({"running": 1, "unnamed_seconds": 5, "stalled_seconds": 2000}, ("green", "green", "red")),
    ],
)
def test_each_light_shows_what_is_known_and_no_more(changes: dict[str, Any], shown: tuple[str, str, str]) -> None:
    assert lights(**changes) == shown


def test_a_red_light_names_the_worker_and_how_long() -> None:
    frozen = replace(WELL, workers=[replace(TICKING, loop_age_seconds=190.0)])

    assert judge_lights(frozen).consumer.why == "The consumer loop of desk-7@worker has stood still for 3 min."


@pytest.mark.parametrize(
    ("age", "connected", "dead"),
    [(61.0, True, True), (60.0, True, False), (None, True, False), (1e6, False, False)],
)
def test_only_a_loop_that_stands_still_though_redis_answers_is_dead(
    age: float | None, connected: bool, dead: bool
) -> None:
    worker = WorkerSign("w", slots=1, loop_age_seconds=age, connected=connected)

    assert dead_workers([worker]) == (["w"] if dead else [])


@given(
    st.floats(0, 1e9),
    st.integers(0, 3),
    st.integers(0, 3),
    st.none() | st.floats(0, 1e6),
    st.none() | st.floats(0, 1e6),
    st.booleans(),
)
def test_every_light_has_a_sentence_and_a_silent_factory_never_shines_green(
    silent: float, slots: int, busy: int, asked: float | None, heard: float | None, over_https: bool
) -> None:
    signs = Signs("online", silent, 15, over_https, slots, busy, busy, silent, (), asked, heard)
    shown = judge_lights(signs)

    assert all(one.why.endswith(".") for one in (shown.process, shown.consumer, shown.work))
    if silent > 38:
        assert "green" not in (shown.process.state, shown.consumer.state, shown.work.state)


def test_a_worker_is_read_as_it_was_stored() -> None:
    worker = WorkerSign("w", 2, 1, ["q"], 1.5, True)

    assert WorkerSign.from_stored({**worker.stored(), "new": 1}) == worker


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-3, "0 s"),
        (59.6, "60 s"),
        (119, "119 s"),
        (120, "2 min"),
        (7199, "119 min"),
        (7200, "2 h"),
        (172_800, "2 days"),
    ],
)
def test_a_span_is_said_in_its_largest_unit(seconds: float, words: str) -> None:
    assert span(seconds) == words


def test_who_took_its_leave_is_not_there_however_lately_it_was_heard_of() -> None:
    lights = judge_lights(replace(WELL, status="offline", silent_seconds=3, left=True))

    assert (lights.process.state, lights.process.why) == ("red", "It was stopped 3 s ago, and said so.")
    assert (lights.consumer.state, lights.work.state) == ("unknown", "unknown")
    assert judge_lights(replace(WELL, silent_seconds=NEVER_SECONDS + 1, left=True)).process.state == "unknown"
