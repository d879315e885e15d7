"""What a factory is called after a silence (contract fleet §5): the first row that applies."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corporation.factories.staleness import Thresholds, judge_status

LIMITS = Thresholds(stale_seconds=300, offline_seconds=900)
SAYINGS = ("online", "paused", "draining", "stale", "offline")


@pytest.mark.parametrize(
    ("said", "silent", "paused", "status"),
    [
        ("online", 0, False, "online"),
        ("online", 300, False, "online"),
        ("online", 300.1, False, "stale"),
        ("online", 900, False, "stale"),
        ("online", 900.1, False, "offline"),
        ("online", 0, True, "paused"),
        ("draining", 0, True, "paused"),
        ("online", 301, True, "stale"),
        ("draining", 901, True, "offline"),
        ("draining", 299, False, "draining"),
        ("paused", 299, False, "paused"),
        ("offline", 0, False, "offline"),
        ("online", -5, False, "online"),
    ],
)
def test_silence_comes_before_a_pause_and_a_pause_before_what_it_said(
    said: str, silent: float, paused: bool, status: str
) -> None:
    assert judge_status(said, silent, paused, LIMITS) == status


@given(st.sampled_from(SAYINGS), st.floats(901, 1e12), st.booleans())
def test_a_factory_long_silent_is_offline_whatever_it_said(said: str, silent: float, paused: bool) -> None:
    assert judge_status(said, silent, paused, LIMITS) == "offline"


@given(st.sampled_from(SAYINGS), st.floats(-1e6, 1e12))
def test_a_paused_factory_is_never_online(said: str, silent: float) -> None:
    assert judge_status(said, silent, True, LIMITS) != "online"


@pytest.mark.parametrize(
    ("silent", "paused", "draining", "status"),
    [
        (0, False, True, "draining"),
        (0, True, False, "paused"),
        (301, False, True, "stale"),
        (901, True, False, "offline"),
    ],
)
def test_hqs_own_flags_count_once_the_factory_is_heard_of(
    silent: float, paused: bool, draining: bool, status: str
) -> None:
    assert judge_status("online", silent, paused, LIMITS, draining=draining) == status
