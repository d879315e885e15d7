"""An order to every factory: who gets a child, what the child is ordered, and how the whole ends (S-24, S-25, S-35)."""

from typing import Any

import pytest
from builders import envelope
from hypothesis import given
from hypothesis import strategies as st

from corporation.envelope import body_digest, parse_wire, wire
from corporation.missions.broadcast import (
    MOST_NAMED,
    Broadcast,
    Child,
    Listener,
    addressees,
    child_of,
    end_of,
    is_broadcast,
    names_taken,
    nobody_lives,
)
from corporation.missions.finish import Finish
from corporation.missions.kinds import KINDS, SYSTEM_PREFIX, resolve
from corporation.missions.retry import attempts_total
from corporation.missions.states import FINAL, State

PAUSE = "system:pause_factory"


def broadcast(job_id: str = "pause-1", **changes: Any) -> Broadcast:
    written = envelope(job_id, mission_kind=PAUSE, **changes)
    return Broadcast(
        mission_id=1,
        job_id=written.job_id,
        idempotency_key=written.idempotency_key,
        mission_kind=PAUSE,
        requested_kind=PAUSE,
        source="ops",
        priority=written.priority,
        timeout_seconds=written.timeout_seconds,
        max_retries=written.max_retries,
        attempts_total=attempts_total(written.max_retries),
        attempts_before=0,
        envelope=wire(written),
        seconds_left=None,
    )


def listener(factory_id: str = "desk-7", role: str = "LOCAL_WORKER", status: str = "online") -> Listener:
    return Listener(factory_id, role, status)


@pytest.mark.parametrize(
    ("status", "reached"),
    [("online", True), ("paused", True), ("draining", True), ("stale", False), ("offline", False), ("?", False)],
)
def test_a_factory_gets_a_child_exactly_when_it_is_live(status: str, reached: bool) -> None:
    """S-25: also a paused one, or it could never be told to resume."""
    assert addressees([listener(status=status)]) == (["desk-7"] if reached else [])


@pytest.mark.parametrize(
    ("role", "reached"), [("LOCAL_WORKER", True), ("STANDALONE_NODE", True), ("HEADQUARTERS", False)]
)
def test_the_factory_of_headquarters_is_left_out(role: str, reached: bool) -> None:
    """S-25: HQ's own factory only when named."""
    assert addressees([listener("hq", role), listener("desk-7")]) == (["desk-7", "hq"] if reached else ["desk-7"])


def test_the_factories_are_named_in_one_order() -> None:
    assert addressees([listener("b"), listener("Z"), listener("a")]) == ["Z", "a", "b"]


@pytest.mark.parametrize("kind", [*KINDS, "noop"])
@pytest.mark.parametrize("target", [None, "desk-7"])
def test_only_a_system_mission_without_a_target_is_a_broadcast(kind: str, target: str | None) -> None:
    """S-25; the ledger's searches know these kinds by their prefix."""
    assert is_broadcast(kind, target) == (target is None and kind.startswith(SYSTEM_PREFIX))


def test_a_child_is_the_order_of_its_parent_under_a_name_of_its_own_for_one_factory_alone() -> None:
    """S-24, S-25."""
    context = {"mission_kind": PAUSE, "source_session_id": "s-1", "target_factory_id": ""}
    parent = broadcast(context=context, priority=-3, timeout_seconds=90, max_retries=2, ttl_seconds=60)
    child = child_of(parent, "desk-7")

    assert wire(child) == {
        **parent.envelope,
        "job_id": "pause-1.desk-7",
        "idempotency_key": "k-pause-1:desk-7",
        "payload": {"task": "Tidy the notes", "context": {**context, "target_factory_id": "desk-7"}},
    }
    assert parent.envelope["payload"]["context"]["target_factory_id"] == ""
    assert resolve(child).kind == PAUSE


def test_whoever_sends_the_order_of_a_child_sends_a_duplicate_of_it() -> None:
    """S-17: the child's body is digested as a publisher's would be."""
    child = child_of(broadcast(), "desk-7")

    assert body_digest(parse_wire(wire(child))) == body_digest(child)


def test_the_longest_names_that_a_publisher_and_a_factory_may_have_make_a_child() -> None:
    child = child_of(broadcast("j" * 128, idempotency_key="k" * 128), "f" * 200)

    assert (len(child.job_id), len(child.idempotency_key)) == (329, 329)


def children(**states: State) -> list[Child]:
    return [Child(f"pause-1.{factory_id}", factory_id, state) for factory_id, state in states.items()]


def test_a_broadcast_succeeds_when_all_its_children_did_and_lists_them_by_factory() -> None:
    """S-25, S-35."""
    assert end_of("pause-1", PAUSE, children(b=State.SUCCEEDED, a=State.SUCCEEDED)) == Finish(
        State.SUCCEEDED,
        {
            "mission_id": "pause-1",
            "mission_kind": PAUSE,
            "children": [
                {"job_id": "pause-1.a", "factory_id": "a", "status": "SUCCESS"},
                {"job_id": "pause-1.b", "factory_id": "b", "status": "SUCCESS"},
            ],
            "result_ref": "",
        },
        None,
    )


@pytest.mark.parametrize("state", sorted(FINAL - {State.SUCCEEDED}))
def test_a_broadcast_fails_when_one_child_did_not_succeed_and_says_which(state: State) -> None:
    """S-25, S-35."""
    end = end_of("pause-1", PAUSE, children(b=state, a=State.SUCCEEDED))

    assert end.state == State.FAILED
    assert end.result["children"][1] == {"job_id": "pause-1.b", "factory_id": "b", "status": "FAILED"}
    assert (end.result["terminal_status"], "result_ref" in end.result) == ("failed", False)
    assert end.error == f"1 of 2 factories did not do it: b ({state}); the missions in `children` say why"


def test_an_error_names_some_and_the_result_all() -> None:
    many = [Child(f"pause-1.{number}", f"{number:03}", State.FAILED) for number in range(MOST_NAMED + 90)]
    end = end_of("pause-1", PAUSE, many)

    assert len(end.result["children"]) == MOST_NAMED + 90
    assert str(end.error).count("(failed)") == MOST_NAMED
    assert "and 90 more" in str(end.error)


@given(st.dictionaries(st.text(min_size=1), st.sampled_from(sorted(FINAL)), min_size=1))
def test_a_broadcast_ends_by_its_children_alone_in_whatever_order_they_are_read(states: dict[str, State]) -> None:
    """S-25."""
    read = [Child(f"j.{factory_id}", factory_id, state) for factory_id, state in states.items()]
    end = end_of("j", PAUSE, read)

    assert end == end_of("j", PAUSE, read[::-1])
    assert end.state == (State.SUCCEEDED if set(states.values()) == {State.SUCCEEDED} else State.FAILED)
    assert (end.error is None) == (end.state == State.SUCCEEDED)
    told = {one["factory_id"]: one["status"] == "SUCCESS" for one in end.result["children"]}
    assert told == {factory_id: state == State.SUCCEEDED for factory_id, state in states.items()}


@pytest.mark.parametrize("end", [nobody_lives("p", PAUSE), names_taken("p", PAUSE, ["p.desk-7"])])
def test_a_broadcast_that_reached_nobody_fails_with_what_happened_and_what_to_do(end: Finish) -> None:
    """S-25: no live factory = FAILED."""
    assert (end.state, end.result["terminal_status"], end.result["children"]) == ("failed", "failed", [])
    assert f"nobody was sent {PAUSE}" in str(end.error)
    assert "publish it again under" in str(end.error)


def test_names_that_others_have_are_named() -> None:
    assert "p.desk-7, k:desk-7;" in str(names_taken("p", PAUSE, ["p.desk-7", "k:desk-7"]).error)
