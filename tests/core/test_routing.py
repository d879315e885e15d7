"""Which factory gets a mission, or the one reason why none does."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from builders import factory_view, need
from hypothesis import given
from hypothesis import strategies as st

from corporation.missions.routing import (
    QUEUE_LIMIT,
    Assigned,
    FactoryView,
    Held,
    Need,
    plan,
    queue_target,
    route,
)

LABELS = ("vp_coder", "vp_general")
FULL: dict[str, Any] = {"slots": 1, "held": 3}


def test_the_least_loaded_factory_gets_the_mission() -> None:
    factories = [factory_view("a", held=2), factory_view("b", held=1), factory_view("c", held=2)]

    assert route(need(), factories) == Assigned("b", "factory.b")


def test_load_is_measured_against_the_slots() -> None:
    factories = [factory_view("small", slots=1, held=1), factory_view("large", slots=8, held=4)]

    assert route(need(), factories) == Assigned("large", "factory.large")


def test_equals_are_taken_in_the_order_of_their_names_so_that_routing_can_be_repeated() -> None:
    assert route(need(), [factory_view("b"), factory_view("a")]) == Assigned("a", "factory.a")


def test_a_targeted_mission_goes_to_its_target_however_busy_it_is() -> None:
    factories = [factory_view("a"), factory_view("b", held=1)]

    assert route(need(target="b"), factories) == Assigned("b", "factory.b")


@pytest.mark.parametrize(
    ("wanted", "factories", "reason"),
    [
        (need(), [], "no_live_factory"),
        (need(), [factory_view(status="offline")], "no_live_factory"),
        (need(), [factory_view(status="stale")], "no_live_factory"),
        (need(label="vp_coder"), [factory_view(labels=frozenset({"vp_general"}))], "no_capable_factory"),
        (need(), [factory_view(status="paused")], "all_paused"),
        (need(), [factory_view(status="draining")], "all_paused"),
        (need(), [factory_view("a", status="paused"), factory_view("b", status="offline")], "all_paused"),
        (need(), [factory_view(**FULL)], "no_free_slot"),
        (need(), [factory_view("a", **FULL), factory_view("b", status="paused")], "no_free_slot"),
        (need(target="b"), [], "target_unknown"),
        (need(target="b"), [factory_view("a")], "target_unknown"),
        (need(target="a"), [factory_view("a", status="offline"), factory_view("b")], "target_offline"),
        (need(target="a"), [factory_view("a", status="stale")], "target_offline"),
        (need(target="a"), [factory_view("a", status="paused"), factory_view("b")], "target_paused"),
        (need(target="a"), [factory_view("a", status="draining")], "target_paused"),
        (need(target="a"), [factory_view("a", **FULL), factory_view("b")], "no_free_slot"),
        (need(target="a"), [factory_view("a", labels=frozenset()), factory_view("b")], "no_capable_factory"),
        (need(routable=False), [factory_view()], "no_capable_factory"),
        (need(label="vp_coder"), [factory_view("a", status="offline"), factory_view("b", labels=frozenset())],
         "no_live_factory"),
    ],
)  # fmt: skip
def test_a_mission_that_cannot_be_sent_says_the_one_reason(
    wanted: Need, factories: list[FactoryView], reason: str
) -> None:
    assert route(wanted, factories) == Held(reason)


@pytest.mark.parametrize(
    ("slots", "per_second", "messages"),
    [(0, 0.0, 0), (1, 0.0, 2), (4, 0.0, 8), (1, 0.4, 2), (1, 50.0, 100), (8, 5.0, 16), (1, 1e9, QUEUE_LIMIT)],
)
def test_a_queue_holds_two_messages_a_slot_or_two_seconds_of_work(slots: int, per_second: float, messages: int) -> None:
    assert queue_target(slots, per_second) == messages


@given(st.integers(0, 10_000), st.floats(0, 1e12), st.integers(0, 100_000))
def test_room_is_never_negative_and_a_queue_never_over_its_limit(slots: int, speed: float, held: int) -> None:
    view = factory_view(slots=slots, held=held, finished_per_second=speed)

    assert 0 <= view.room <= slots + QUEUE_LIMIT


factories = st.lists(
    st.builds(
        factory_view,
        st.sampled_from(["a", "b", "c", "d"]),
        status=st.sampled_from(["online", "online", "paused", "draining", "stale", "offline"]),
        labels=st.frozensets(st.sampled_from(LABELS)),
        slots=st.integers(0, 2),
        held=st.integers(0, 4),
    ),
    max_size=4,
    unique_by=lambda view: view.factory_id,
)
needs = st.lists(
    st.builds(
        need,
        st.integers(1, 10**6),
        st.sampled_from([*LABELS, None]),
        st.sampled_from([None, None, "a", "b", "z"]),
        routable=st.sampled_from([True, True, True, False]),
    ),
    max_size=12,
    unique_by=lambda one: one.mission_id,
)


def assigned(answers: Any) -> list[tuple[Need, Assigned]]:
    return [(wanted, answer) for wanted, answer in answers if isinstance(answer, Assigned)]


@given(needs, factories)
def test_every_mission_is_answered_once_and_in_order(wanted: list[Need], views: list[FactoryView]) -> None:
    assert [one for one, _ in plan(wanted, views)] == wanted


@given(needs, factories)
def test_a_plan_never_gives_a_factory_more_than_it_has_room_for(wanted: list[Need], views: list[FactoryView]) -> None:
    given_to = Counter(answer.factory_id for _, answer in assigned(plan(wanted, views)))

    assert all(given_to[view.factory_id] <= view.room for view in views)


@given(needs, factories)
def test_a_plan_sends_only_what_the_factory_can_run_now(wanted: list[Need], views: list[FactoryView]) -> None:
    by_id = {view.factory_id: view for view in views}

    for one, answer in assigned(plan(wanted, views)):
        factory = by_id[answer.factory_id]
        assert factory.status == "online"
        assert one.routable
        assert one.label is None or one.label in factory.labels
        assert one.target in (None, factory.factory_id)


@given(needs, factories)
def test_a_queue_in_a_plan_reaches_only_the_factory_that_was_meant(
    wanted: list[Need], views: list[FactoryView]
) -> None:
    for _, answer in assigned(plan(wanted, views)):
        others = [view for view in views if view.factory_id != answer.factory_id]

        assert all(answer.queue != view.queue for view in others)


@given(needs, factories)
def test_nobody_waits_while_a_factory_that_could_take_it_has_room(wanted: list[Need], views: list[FactoryView]) -> None:
    answers = plan(wanted, views)
    taken = Counter(answer.factory_id for _, answer in assigned(answers))
    left = [replace(view, held=view.held + taken[view.factory_id]) for view in views]

    assert all(isinstance(route(one, left), Held) for one, answer in answers if isinstance(answer, Held))


@given(needs, factories)
def test_the_same_question_has_the_same_answer(wanted: list[Need], views: list[FactoryView]) -> None:
    assert plan(wanted, views) == plan(wanted, list(reversed(views)))
