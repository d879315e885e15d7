"""Which factory gets a mission, or the one reason why none does."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from builders import factory_view, need
from hypothesis import given
from hypothesis import strategies as st

from corporation.missions.routing import (
    LARGEST_ORDER_BYTES,
    MOST_HELD_BYTES,
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


def test_the_same_question_has_the_same_answer_in_whatever_order_the_factories_come() -> None:
    views = [factory_view(name) for name in ("a", "b", "c", "d")]

    assert route(need(7), views) == route(need(7), list(reversed(views)))


FOUR = ("desk-1", "desk-2", "desk-3", "desk-4")


@pytest.mark.parametrize("slots", [1, 8])
def test_a_thousand_equal_missions_that_come_one_by_one_are_shared_by_four_equal_factories(slots: int) -> None:
    views = [factory_view(name, slots=slots) for name in FOUR]
    answers = [answer for number in range(1, 1001) for _, answer in plan([need(number)], views)]
    shares = Counter(answer.factory_id for answer in answers if isinstance(answer, Assigned))

    assert all(200 <= shares[name] <= 300 for name in FOUR), shares


def test_a_thousand_equal_missions_that_come_at_once_are_shared_by_four_equal_factories() -> None:
    views = [factory_view(name, slots=200) for name in FOUR]
    shares = Counter(answer.factory_id for _, answer in assigned(plan([need(n) for n in range(1, 1001)], views)))

    assert shares == dict.fromkeys(FOUR, 250)


def test_who_leaves_takes_only_its_own_share_of_the_missions_elsewhere() -> None:
    """Rendezvous hashing: what the others had stays where it was."""
    views = [factory_view(name) for name in FOUR]
    before = {number: route(need(number), views) for number in range(1, 301)}
    after = {number: route(need(number), views[1:]) for number in before}

    moved = [number for number in before if before[number] != after[number]]
    assert all(before[number] == Assigned("desk-1", "factory.desk-1") for number in moved)


AVOIDED = frozenset({"a"})


@pytest.mark.parametrize(
    ("others", "chosen"),
    [
        ([], "a"),
        ([factory_view("b", held=2)], "b"),
        ([factory_view("b", slots=1, held=3)], "a"),
        ([factory_view("b", status="paused")], "a"),
        ([factory_view("b", status="offline")], "a"),
        ([factory_view("b", quarantined=True)], "a"),
        ([factory_view("b", takes_messages=False)], "a"),
        ([factory_view("b", labels=frozenset({"vp_coder"}))], "a"),
        ([factory_view("b", held=3), factory_view("c", held=1)], "c"),
    ],
)
def test_a_mission_that_failed_somewhere_is_tried_elsewhere_if_there_is_room(
    others: list[FactoryView], chosen: str
) -> None:
    assert route(need(avoid=AVOIDED), [factory_view("a"), *others]) == Assigned(chosen, f"factory.{chosen}")


def test_a_targeted_mission_goes_to_its_target_though_it_failed_there() -> None:
    wanted = need(target="a", avoid=AVOIDED)

    assert route(wanted, [factory_view("a"), factory_view("b")]) == Assigned("a", "factory.a")


ORDER = need(label=None, target="a", system=True)


@pytest.mark.parametrize(
    ("changes", "answer"),
    [
        ({}, Assigned("a", "a.control")),
        ({"status": "paused"}, Assigned("a", "a.control")),
        ({"status": "draining"}, Assigned("a", "a.control")),
        ({"slots": 0}, Assigned("a", "a.control")),
        (FULL, Assigned("a", "a.control")),
        ({"status": "stale"}, Held("target_offline")),
        ({"status": "offline"}, Held("target_offline")),
        ({"quarantined": True, "status": "offline"}, Held("target_offline")),
        ({"control_queue": None}, Held("behind_others")),
        ({"control_queue": None, "status": "paused"}, Held("behind_others")),
        ({"control_queue": None, "status": "stale"}, Held("target_offline")),
        ({"takes_messages": False}, Held("behind_others")),
        ({"takes_messages": False, "control_queue": None}, Held("behind_others")),
    ],
)
def test_an_order_to_the_factory_itself_reaches_it_while_it_is_heard_of(changes: Any, answer: Any) -> None:
    """F-22: it needs neither a slot nor a factory that takes missions, and goes to the control worker; where there is
    none it waits for the next beat."""
    fields: dict[str, Any] = {"control_queue": "a.control"} | changes

    assert route(ORDER, [factory_view("a", **fields), factory_view("b")]) == answer


def test_orders_take_no_room_from_missions() -> None:
    one = factory_view("a", slots=1, held=2, control_queue="a.control")
    [_, (_, answer)] = plan([ORDER, need(2)], [one])

    assert answer == Assigned("a", "factory.a")


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
        (need(), [factory_view(held_bytes=MOST_HELD_BYTES)], "no_free_slot"),
        (need(target="a"), [factory_view("a", held_bytes=MOST_HELD_BYTES), factory_view("b")], "no_free_slot"),
        (need(target="b"), [], "target_unknown"),
        (need(target="b"), [factory_view("a")], "target_unknown"),
        (need(target="a"), [factory_view("a", status="offline"), factory_view("b")], "target_offline"),
        (need(target="a"), [factory_view("a", status="stale")], "target_offline"),
        (need(target="a"), [factory_view("a", status="paused"), factory_view("b")], "target_paused"),
        (need(target="a"), [factory_view("a", status="draining")], "target_paused"),
        (need(target="a"), [factory_view("a", **FULL), factory_view("b")], "no_free_slot"),
        (need(target="a"), [factory_view("a", labels=frozenset()), factory_view("b")], "no_capable_factory"),
        (need(target="a"), [factory_view("a", labels=frozenset(), status="offline", slots=0), factory_view("b")],
         "target_offline"),
        (need(label="vp_coder"), [factory_view("a", labels=frozenset()),
                                  factory_view("b", labels=frozenset(), status="stale", slots=0)],
         "no_capable_factory"),
        (need(label="vp_coder"), [factory_view("a", labels=frozenset()),
                                  factory_view("b", labels=frozenset(), status="stale")], "no_capable_factory"),
        (need(routable=False), [factory_view()], "no_capable_factory"),
        (need(label="vp_coder"), [factory_view("a", status="offline"), factory_view("b", labels=frozenset())],
         "no_capable_factory"),
        (need(), [factory_view("a", status="offline", quarantined=True)], "no_live_factory"),
        (need(label="vp_coder"), [factory_view(labels=frozenset(), quarantined=True)], "no_live_factory"),
        (need(target="a"), [factory_view("a", quarantined=True, status="offline"), factory_view("b")],
         "target_offline"),
        (need(), [factory_view("a", takes_messages=False)], "behind_others"),
        (need(), [factory_view("a", takes_messages=False, **FULL)], "no_free_slot"),
        (need(), [factory_view("a", **FULL), factory_view("b", takes_messages=False)], "behind_others"),
        (need(target="a"), [factory_view("a", takes_messages=False), factory_view("b")], "behind_others"),
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


@pytest.mark.parametrize(
    ("held_bytes", "room"),
    [(0, 300), (MOST_HELD_BYTES - 1, 300), (MOST_HELD_BYTES, 0), (MOST_HELD_BYTES + LARGEST_ORDER_BYTES, 0)],
)
def test_who_holds_as_many_bytes_as_hq_keeps_for_one_factory_has_no_room_however_many_slots_it_has(
    held_bytes: int, room: int
) -> None:
    assert factory_view(slots=100, held_bytes=held_bytes).room == room


@pytest.mark.parametrize(
    ("held_bytes", "size", "sent"),
    [
        (0, 0, 300),
        (0, 100, 300),
        (0, LARGEST_ORDER_BYTES, 64),
        (MOST_HELD_BYTES - 1, LARGEST_ORDER_BYTES, 1),
        (MOST_HELD_BYTES - 10, 3, 4),
        (0, 10 * MOST_HELD_BYTES, 1),
    ],
)
def test_a_plan_stops_at_the_order_that_fills_a_factory_and_one_always_fits(
    held_bytes: int, size: int, sent: int
) -> None:
    answers = plan(
        [need(number, size=size) for number in range(1, 401)], [factory_view("a", slots=100, held_bytes=held_bytes)]
    )

    assert len(assigned(answers)) == sent


def test_what_fills_one_factory_goes_to_another() -> None:
    views = [factory_view("a", held_bytes=MOST_HELD_BYTES), factory_view("b", held=2)]

    assert route(need(avoid=frozenset({"b"})), views) == Assigned("b", "factory.b")


def test_an_order_to_the_factory_itself_reaches_one_that_is_laden_and_adds_nothing() -> None:
    laden = factory_view("a", held_bytes=MOST_HELD_BYTES, control_queue="a.control")

    assert route(ORDER, [laden]) == Assigned("a", "a.control")


factories = st.lists(
    st.builds(
        factory_view,
        st.sampled_from(["a", "b", "c", "d"]),
        status=st.sampled_from(["online", "online", "paused", "draining", "stale", "offline"]),
        labels=st.frozensets(st.sampled_from(LABELS)),
        slots=st.integers(0, 2),
        held=st.integers(0, 4),
        held_bytes=st.sampled_from([0, MOST_HELD_BYTES - 2, MOST_HELD_BYTES]),
        control_queue=st.sampled_from([None, "it.control"]),
        takes_messages=st.sampled_from([True, True, False]),
        quarantined=st.sampled_from([False, False, True]),
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
        system=st.sampled_from([False, False, True]),
        avoid=st.frozensets(st.sampled_from(["a", "b", "c"])),
        size=st.integers(0, 2),
    ),
    max_size=12,
    unique_by=lambda one: one.mission_id,
)


def missions_given(answers: Any) -> Counter[str]:
    """How many missions each factory got, orders to itself not counted."""
    return Counter(answer.factory_id for wanted, answer in assigned(answers) if not wanted.system)


def bytes_given(answers: Any) -> Counter[str]:
    """How many bytes of orders each factory got with them."""
    given_to: Counter[str] = Counter()
    for wanted, answer in assigned(answers):
        given_to[answer.factory_id] += 0 if wanted.system else wanted.size
    return given_to


def assigned(answers: Any) -> list[tuple[Need, Assigned]]:
    return [(wanted, answer) for wanted, answer in answers if isinstance(answer, Assigned)]


@given(needs, factories)
def test_every_mission_is_answered_once_and_in_order(wanted: list[Need], views: list[FactoryView]) -> None:
    assert [one for one, _ in plan(wanted, views)] == wanted


@given(needs, factories)
def test_a_plan_never_gives_a_factory_more_than_it_has_room_for(wanted: list[Need], views: list[FactoryView]) -> None:
    given_to = missions_given(plan(wanted, views))

    assert all(given_to[view.factory_id] <= view.room for view in views)


@given(needs, factories)
def test_a_plan_goes_beyond_the_most_bytes_of_a_factory_by_one_order_at_most(
    wanted: list[Need], views: list[FactoryView]
) -> None:
    sizes = bytes_given(plan(wanted, views))

    assert all(view.is_laden or view.held_bytes + sizes[view.factory_id] < MOST_HELD_BYTES + 2 for view in views)


@given(needs, factories)
def test_a_plan_sends_only_what_the_factory_can_run_now(wanted: list[Need], views: list[FactoryView]) -> None:
    by_id = {view.factory_id: view for view in views}

    for one, answer in assigned(plan(wanted, views)):
        factory = by_id[answer.factory_id]
        assert factory.status in (("online", "paused", "draining") if one.system else ("online",))
        assert factory.takes_messages
        assert not factory.quarantined
        assert one.routable
        assert one.system or one.label is None or one.label in factory.labels
        assert answer.queue == (factory.control_queue if one.system else factory.queue)
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
    taken, sizes = missions_given(answers), bytes_given(answers)
    left = [
        replace(view, held=view.held + taken[view.factory_id], held_bytes=view.held_bytes + sizes[view.factory_id])
        for view in views
    ]

    assert all(isinstance(route(one, left), Held) for one, answer in answers if isinstance(answer, Held))


@given(needs, factories)
def test_the_same_question_has_the_same_answer(wanted: list[Need], views: list[FactoryView]) -> None:
    assert plan(wanted, views) == plan(wanted, list(reversed(views)))
