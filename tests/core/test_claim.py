"""Which kinds a factory that asks over HTTPS may have (contract http §8, F-16, F-19, F-21, F-22)."""

from dataclasses import replace

import pytest

from corporation.missions.claim import claimable, kept_away
from corporation.missions.store.claiming import ClaimerRow

ORDERS = ["system:pause_factory", "system:resume_factory"]


def claimer(
    *labels: str, status: str | None = "online", flagged: bool = False, quarantined: bool = False
) -> ClaimerRow:
    return ClaimerRow(status, flagged, quarantined, frozenset(labels))


@pytest.mark.parametrize(
    ("labels", "kinds"),
    [
        ((), ORDERS),
        (("vp_general",), ["general_task", "research_task", *ORDERS]),
        (("vp_coder",), ["coding_task", *ORDERS]),
        (("tutorial_bootstrap_consumer", "transport:http"), ["bootstrap_repo", *ORDERS]),
        (("vp_coder", "kind:dance"), ["coding_task", "dance", *ORDERS]),
    ],
)
def test_without_a_wish_a_factory_may_have_all_that_its_labels_allow(labels: tuple[str, ...], kinds: list[str]) -> None:
    assert claimable(None, claimer(*labels), paused=False) == kinds


def test_a_wish_narrows_what_the_labels_allow_and_never_widens_it() -> None:
    asked = claimer("vp_general", "kind:dance")

    assert claimable({"dance", "coding_task", "no such kind"}, asked, paused=False) == ["dance"]


def test_an_empty_wish_is_a_wish_for_nothing() -> None:
    assert claimable(set(), claimer("vp_general"), paused=False) == []


@pytest.mark.parametrize("label", ["kind:general_task", "kind:coding_task", "kind:system:update_factory"])
def test_a_factory_cannot_take_a_kind_of_ours_by_a_label_it_made_up(label: str) -> None:
    assert claimable(None, claimer(label), paused=False) == ORDERS
    assert claimable({label.removeprefix("kind:")}, claimer(label), paused=False) == []


def test_orders_to_the_factory_itself_are_for_who_wishes_for_all_and_while_paused_for_who_names_them() -> None:
    asked = claimer("vp_general")

    assert set(ORDERS) <= set(claimable(None, asked, paused=False))
    assert claimable(None, asked, paused=True) == []
    assert claimable({"general_task"}, asked, paused=False) == ["general_task"]
    assert claimable({*ORDERS, "general_task"}, asked, paused=False) == ["general_task", *ORDERS]
    assert claimable({*ORDERS, "general_task"}, asked, paused=True) == ORDERS


def test_an_order_that_nobody_carries_out_over_https_is_never_handed_out() -> None:
    """Updates are for the factory's control worker."""
    assert claimable({"system:update_factory"}, claimer("vp_general"), paused=False) == []


def test_who_never_beat_is_handed_no_order() -> None:
    """F-20: HQ's flag of it is set with its first beat."""
    joined = replace(claimer("vp_general", status="offline"), heard_of=False)

    assert claimable(None, joined, paused=False) == ["general_task", "research_task"]
    assert claimable(ORDERS, joined, paused=False) == []
    assert claimable(ORDERS, None, paused=False) == []


def test_who_is_shut_out_is_handed_nothing_not_even_an_order() -> None:
    assert claimable({*ORDERS, "general_task"}, claimer("vp_general", quarantined=True), paused=True) == []


def test_what_one_that_never_registered_names_is_its_word_for_what_it_can_do() -> None:
    """It has shown no labels; without a wish there is nothing to go by."""
    assert claimable(None, None, paused=False) == []
    assert claimable({"general_task", "dance", *ORDERS}, None, paused=False) == ["dance", "general_task"]
    assert claimable({"system:update_factory"}, None, paused=False) == []


@pytest.mark.parametrize(
    ("row", "away"),
    [
        (claimer(), False),
        (claimer(status=None), False),
        (claimer(status="stale"), False),
        (claimer(status="offline"), False),
        (claimer(flagged=True), True),
        (claimer(status="paused"), True),
        (claimer(status="draining"), True),
        (claimer(quarantined=True), True),
    ],
)
def test_what_keeps_missions_away_from_a_factory_that_asks(row: ClaimerRow, away: bool) -> None:
    """Not that it was silent: it speaks now."""
    assert kept_away(row) is away
