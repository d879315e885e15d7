"""An order to every factory: one child each, and one end when the last of them has ended (S-24, S-25, S-33, S-35)."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from typing import Any

import pytest
from builders import rules, submission
from history import assert_history_is_whole
from ledger_at_work import AT_ONCE, LedgerAtWork
from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError

from corporation import clock
from corporation.db import transaction
from corporation.engine.collector import Collector
from corporation.engine.dispatcher import Dispatcher
from corporation.factories.staleness import Thresholds
from corporation.missions.kinds import KINDS
from corporation.missions.outcomes import Failed, Outcome, Stop
from corporation.missions.routing import Assigned
from corporation.missions.store import broadcasting
from corporation.missions.store.broadcasting import end_broadcasts, spread_one
from corporation.missions.store.dispatching import Assignment, Due, assign, expire, take_dispatch_lock

PAUSE = "system:pause_factory"
Wait = Callable[..., Any]


def order(ledger: LedgerAtWork, *job_ids: str, **changes: Any) -> None:
    """An operator pauses the whole fleet."""
    ledger.submit(*(submission(job_id, "ops", **({"mission_kind": PAUSE} | changes)) for job_id in job_ids))


def spread(ledger: LedgerAtWork) -> bool:
    with transaction(ledger.engine) as connection:
        return spread_one(connection, Thresholds())


def end(ledger: LedgerAtWork) -> int:
    with transaction(ledger.engine) as connection:
        return end_broadcasts(connection)


def spread_to(ledger: LedgerAtWork, *factory_ids: str, **changes: Any) -> None:
    """The order `p` has a child for each of these factories."""
    for factory_id in factory_ids:
        ledger.beat(factory_id)
    order(ledger, "p", **changes)
    assert spread(ledger)


def children(ledger: LedgerAtWork, job_id: str = "p") -> list[str]:
    rows = ledger.sql(
        """SELECT c.job_id FROM corporation.missions c JOIN corporation.missions p ON p.id = c.parent_id
            WHERE p.job_id = :job_id ORDER BY c.job_id""",
        job_id=job_id,
    )
    return [row.job_id for row in rows]


def hand_over(ledger: LedgerAtWork, job_id: str) -> str:
    """Give the child its next attempt by hand: no factory is sent system kinds yet."""
    child = ledger.mission(job_id)
    to = Assigned(child.target_factory_id, f"factory.{child.target_factory_id}")
    due = Due(child.id, child.mission_kind, child.target_factory_id, child.attempt)
    with transaction(ledger.engine) as connection:
        assign(connection, [Assignment(due, clock.new_id(), to)], 180)
    return ledger.attempt_of(job_id)


def carry_out(ledger: LedgerAtWork, job_id: str, outcome: Outcome | None = None) -> None:
    """The child's factory does what it was told, or not."""
    ledger.report(hand_over(ledger, job_id), outcome)
    ledger.collect()


def told(ledger: LedgerAtWork) -> list[str]:
    """The job_ids of the missions that the results stream will hear of."""
    statement = """SELECT m.job_id FROM corporation.stream_outbox o JOIN corporation.missions m ON m.id = o.mission_id
                    ORDER BY m.job_id"""
    return [row.job_id for row in ledger.sql(statement)]


def pass_deadline(ledger: LedgerAtWork, job_id: str) -> None:
    ledger.sql(
        "UPDATE corporation.missions SET deadline_at = now() - interval '1 second' WHERE job_id = :job_id",
        job_id=job_id,
    )


def end_overdue(ledger: LedgerAtWork) -> int:
    with transaction(ledger.engine) as connection:
        return expire(connection)


def test_every_live_factory_gets_one_child_and_headquarters_none(ledger: LedgerAtWork) -> None:
    """S-25: live is online, paused or draining; HQ's own factory only when named."""
    ledger.beat("online")
    ledger.beat("said-paused", registration_status="paused")
    ledger.beat("draining", registration_status="draining")
    ledger.beat("said-stale", registration_status="stale")
    ledger.beat("said-offline", registration_status="offline")
    ledger.beat("hq", factory_role="HEADQUARTERS")
    ledger.beat("node", factory_role="STANDALONE_NODE")
    ledger.beat("without-workers", slots=0, labels=())
    for factory_id, change in [
        ("paused", "paused = true"),
        ("silent", "last_seen_at = now() - interval '301 seconds'"),
        ("gone", "last_seen_at = now() - interval '901 seconds', paused = true"),
    ]:
        ledger.beat(factory_id)
        ledger.sql(f"UPDATE corporation.factories SET {change} WHERE factory_id = :id", id=factory_id)  # noqa: S608 - ours
    order(ledger, "p")

    assert spread(ledger)
    reached = ["draining", "node", "online", "paused", "said-paused", "without-workers"]
    assert children(ledger) == [f"p.{factory_id}" for factory_id in reached]
    assert ledger.mission("p").children == 6


@pytest.mark.parametrize("kind", [name for name, kind in KINDS.items() if kind.system])
def test_a_child_is_its_parents_order_for_one_factory_alone(ledger: LedgerAtWork, kind: str) -> None:
    """S-24, S-25."""
    context = {"source_turn_id": "t-1", "_retry_count": 1}
    spread_to(ledger, "desk-7", mission_kind=kind, context=context, priority=-2, timeout_seconds=70, ttl_seconds=600)
    parent, child = ledger.mission("p"), ledger.mission("p.desk-7")

    assert (child.idempotency_key, child.target_factory_id, child.parent_id) == ("k-p:desk-7", "desk-7", parent.id)
    for same in ("mission_kind", "requested_kind", "source", "priority", "timeout_seconds", "max_retries"):
        assert getattr(child, same) == getattr(parent, same)
    assert (child.attempts_total, child.attempts_before) == (parent.attempts_total, parent.attempts_before) == (2, 1)
    assert abs(child.deadline_at - parent.deadline_at) < timedelta(milliseconds=1)
    assert child.envelope["payload"]["context"] == {**context, "target_factory_id": "desk-7"}
    assert (child.state, ledger.events("p.desk-7")) == ("waiting", ["published"])
    assert ledger.detail("published", "p.desk-7") == {"source": "ops", "parent_job_id": "p"}


def test_a_child_of_a_mission_from_the_stream_is_imported_like_its_parent(ledger: LedgerAtWork) -> None:
    ledger.beat()
    ledger.submit(submission("p", "redis_bridge", mission_kind=PAUSE))
    spread(ledger)

    assert ledger.detail("imported", "p.desk-7") == {"source": "redis_bridge", "parent_job_id": "p"}


def test_a_parent_waits_behind_its_children_and_says_how_many_they_are(ledger: LedgerAtWork) -> None:
    """S-25, H-29."""
    spread_to(ledger, "a", "b")
    ledger.explain()
    ledger.dispatch()

    parent = ledger.mission("p")
    assert (parent.state, parent.state_reason, parent.attempt) == ("waiting", "behind_others", 0)
    assert (ledger.events("p"), ledger.detail("routed", "p")) == (["published", "routed"], {"children": 2})
    assert ledger.mission("p.a").state_reason == "behind_others"


def test_a_broadcast_is_spread_once_and_a_new_factory_gets_no_child(ledger: LedgerAtWork) -> None:
    """S-25: who lives when it is spread."""
    spread_to(ledger, "a")
    ledger.beat("late")
    order(ledger, "p")

    assert not spread(ledger)
    assert children(ledger) == ["p.a"]


def test_other_missions_are_never_spread(ledger: LedgerAtWork) -> None:
    ledger.beat()
    ledger.publish("general")
    order(ledger, "aimed", context={"target_factory_id": "desk-7"})

    assert not spread(ledger)
    assert {row.job_id for row in ledger.sql("SELECT job_id FROM corporation.missions")} == {"general", "aimed"}


def test_the_oldest_broadcast_is_spread_first_and_each_on_its_own(ledger: LedgerAtWork) -> None:
    ledger.beat()
    order(ledger, "z")
    order(ledger, "a")

    assert [spread(ledger), len(children(ledger, "z")), len(children(ledger, "a"))] == [True, 1, 0]
    assert [spread(ledger), len(children(ledger, "a")), spread(ledger)] == [True, 1, False]


def test_the_longest_names_there_are_can_be_spread(ledger: LedgerAtWork) -> None:
    ledger.beat("f" * 200)
    order(ledger, "j" * 128, idempotency_key="k" * 128)

    assert spread(ledger)
    assert children(ledger, "j" * 128) == [f"{'j' * 128}.{'f' * 200}"]


def test_a_broadcast_whose_children_cannot_be_named_fails_and_holds_up_no_other(ledger: LedgerAtWork) -> None:
    """A replay's name may be longer than a publisher's."""
    ledger.beat("d" * 100)
    order(ledger, "p", "q")
    ledger.sql("UPDATE corporation.missions SET job_id = repeat('p', 350) WHERE job_id = 'p'")
    assert [spread(ledger), spread(ledger)] == [True, True]

    assert "too long" in ledger.mission("p" * 350).error
    assert children(ledger, "q") == [f"q.{'d' * 100}"]


def test_a_broadcast_without_a_live_factory_fails_at_once(ledger: LedgerAtWork) -> None:
    """S-25, S-33, S-35: it too has exactly one end, which is told, and is a dead letter."""
    ledger.beat("hq", factory_role="HEADQUARTERS")
    ledger.beat("gone", registration_status="offline")
    order(ledger, "p")

    assert spread(ledger)
    parent = ledger.mission("p")
    assert (parent.state, parent.error.partition(",")[0]) == ("failed", "no factory is live")
    assert parent.result == {"mission_id": "p", "mission_kind": PAUSE, "children": [], "terminal_status": "failed"}
    assert (ledger.events("p"), ledger.detail("failed", "p")) == (["published", "failed"], {"error": parent.error})
    assert told(ledger) == ["p"]
    [letter] = ledger.sql("SELECT job_id, cause FROM corporation.dead_letters")
    assert (letter.job_id, letter.cause) == ("p", "failed")


STRANGERS = [
    ({"job_id": "p.b"}, "p.b"),
    ({"job_id": "x", "idempotency_key": "k-p:b"}, "k-p:b"),
    ({"job_id": "p.b", "context": {"target_factory_id": "b"}, "mission_kind": PAUSE}, "p.b"),
]


@pytest.mark.parametrize(("stranger", "named"), STRANGERS)
def test_a_broadcast_whose_childs_name_is_taken_fails_and_nothing_is_spread(
    ledger: LedgerAtWork, stranger: dict[str, Any], named: str
) -> None:
    """S-24, S-25: a stranger's mission never counts as a child."""
    ledger.beat("a")
    ledger.beat("b")
    ledger.submit(submission(**stranger))
    order(ledger, "p")

    assert spread(ledger)
    parent = ledger.mission("p")
    assert (parent.state, parent.children, children(ledger)) == ("failed", None, [])
    assert f": {named};" in parent.error
    assert ledger.state(stranger["job_id"]) == "waiting"


def test_a_name_that_is_an_alias_is_taken_too(ledger: LedgerAtWork) -> None:
    ledger.beat("b")
    ledger.publish("x")
    ledger.submit(submission("p.b", idempotency_key="k-x"))
    order(ledger, "p")
    spread(ledger)

    assert (ledger.state("p"), children(ledger)) == ("failed", [])


def blocked(ledger: LedgerAtWork) -> bool:
    """Whether somebody waits for somebody else's lock."""
    return bool(ledger.sql("SELECT 1 FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'"))


def spread_beside(ledger: LedgerAtWork, wait_until: Wait, beginning: str, **values: Any) -> None:
    """Spread while another transaction has begun something that only then is committed."""
    with ThreadPoolExecutor(1) as pool:
        with transaction(ledger.engine) as other:
            other.execute(text(beginning), values)
            spreading: Future[bool] = pool.submit(spread, ledger)
            wait_until(lambda: blocked(ledger), 10, "spreading waits for the other")
        assert spreading.result(20)


def test_a_name_that_is_taken_while_the_broadcast_is_spread_is_taken(ledger: LedgerAtWork, wait_until: Wait) -> None:
    ledger.beat("a")
    ledger.beat("b")
    order(ledger, "p")
    ledger.publish("x")
    spread_beside(ledger, wait_until, "UPDATE corporation.missions SET job_id = 'p.b' WHERE job_id = 'x'")

    assert (ledger.state("p"), children(ledger)) == ("failed", [])


def test_a_broadcast_that_ends_while_it_is_spread_has_no_children(ledger: LedgerAtWork, wait_until: Wait) -> None:
    ledger.beat("a")
    order(ledger, "p")
    ending = """
        WITH ended AS (
          UPDATE corporation.missions
             SET state = 'timed_out', error = 'x', finished_at = now(), event_seq = event_seq + 1
          RETURNING id, event_seq
        )
        INSERT INTO corporation.mission_events (mission_id, seq, type) SELECT id, event_seq, 'timed_out' FROM ended
    """
    spread_beside(ledger, wait_until, ending)

    assert (ledger.state("p"), ledger.mission("p").children, children(ledger)) == ("timed_out", None, [])


def test_engines_that_spread_at_the_same_time_make_each_child_once(ledger: LedgerAtWork) -> None:
    for number in range(5):
        ledger.beat(f"f{number}")
    order(ledger, *(f"p{number}" for number in range(10)))
    together = Barrier(6)

    def spread_all(_: int) -> None:
        together.wait(10)
        for _ in range(10):
            spread(ledger)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(spread_all, range(6)))
    while spread(ledger):
        pass

    states = {ledger.state(f"p{number}") for number in range(10)}
    assert (states, len(ledger.sql("SELECT 1 FROM corporation.missions"))) == ({"waiting"}, 60)


def test_while_another_engine_dispatches_nothing_is_spread(ledger: LedgerAtWork) -> None:
    ledger.beat()
    order(ledger, "p")
    with ledger.engine.connect() as other:
        assert take_dispatch_lock(other)
        assert not spread(ledger)
        other.rollback()

    assert spread(ledger)


def test_a_broadcast_succeeds_when_its_last_child_has(ledger: LedgerAtWork) -> None:
    """S-25, S-33, S-35."""
    spread_to(ledger, "b", "a")
    carry_out(ledger, "p.b")
    assert (end(ledger), ledger.state("p")) == (0, "waiting")
    carry_out(ledger, "p.a")

    assert (end(ledger), end(ledger)) == (1, 0)
    parent = ledger.mission("p")
    assert (parent.state, parent.state_reason, parent.error) == ("succeeded", None, None)
    assert parent.result == {
        "mission_id": "p",
        "mission_kind": PAUSE,
        "children": [
            {"job_id": "p.a", "factory_id": "a", "status": "SUCCESS"},
            {"job_id": "p.b", "factory_id": "b", "status": "SUCCESS"},
        ],
        "result_ref": "",
    }
    assert ledger.events("p") == ["published", "routed", "succeeded"]
    assert told(ledger) == ["p", "p.a", "p.b"]


def test_a_broadcast_fails_when_one_child_did_but_only_after_the_last(ledger: LedgerAtWork) -> None:
    """S-25, S-35."""
    spread_to(ledger, "a", "b")
    carry_out(ledger, "p.a", Stop("no"))
    assert end(ledger) == 0
    carry_out(ledger, "p.b")

    assert end(ledger) == 1
    parent = ledger.mission("p")
    assert (parent.state, parent.result["terminal_status"]) == ("failed", "failed")
    assert [one["status"] for one in parent.result["children"]] == ["FAILED", "SUCCESS"]
    assert parent.error == "1 of 2 factories did not do it: a (failed); the missions in `children` say why"
    assert ledger.detail("failed", "p") == {"error": parent.error}


def test_a_child_that_is_tried_again_has_not_ended(ledger: LedgerAtWork) -> None:
    spread_to(ledger, "a")
    carry_out(ledger, "p.a", Failed("x"))
    assert (ledger.state("p.a"), end(ledger)) == ("waiting", 0)
    ledger.end_backoff()
    carry_out(ledger, "p.a")

    assert (end(ledger), ledger.state("p")) == (1, "succeeded")


def test_the_deadline_is_the_childrens_and_a_parent_ends_with_them(ledger: LedgerAtWork) -> None:
    """S-25, S-26: it does not stop a running attempt, so it does not end the broadcast either."""
    spread_to(ledger, "a", "b", ttl_seconds=60)
    running = hand_over(ledger, "p.a")
    for job_id in ("p", "p.a", "p.b"):
        pass_deadline(ledger, job_id)

    assert (end_overdue(ledger), end(ledger)) == (1, 0)
    assert [ledger.state(job_id) for job_id in ("p", "p.a", "p.b")] == ["waiting", "queued", "timed_out"]
    ledger.report(running)
    ledger.collect()
    assert (end(ledger), ledger.state("p")) == (1, "failed")
    assert "b (timed_out)" in ledger.mission("p").error


def test_a_broadcast_past_its_deadline_is_not_spread_but_timed_out(ledger: LedgerAtWork) -> None:
    """S-26."""
    ledger.beat()
    order(ledger, "p", ttl_seconds=60)
    pass_deadline(ledger, "p")

    assert not spread(ledger)
    assert (end_overdue(ledger), ledger.state("p")) == (1, "timed_out")


def test_engines_that_end_at_the_same_time_end_each_broadcast_once(ledger: LedgerAtWork) -> None:
    """S-33."""
    ledger.beat("a")
    ledger.beat("b")
    names = [f"p{number}" for number in range(10)]
    order(ledger, *names)
    while spread(ledger):
        pass
    reports = [hand_over(ledger, f"{name}.{factory}") for name in names for factory in ("a", "b")]
    for attempt in reports:
        ledger.report(attempt)
    together = Barrier(4)

    def collect_and_end(_: int) -> int:
        loop = Collector(ledger.engine, AT_ONCE, lambda: 0.5, batch=3)
        together.wait(10)
        while loop.tick():
            pass
        return end(ledger)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(collect_and_end, range(4)))

    assert {ledger.state(name) for name in names} == {"succeeded"}
    assert len(told(ledger)) == len(set(told(ledger))) == 30


def test_a_parent_that_somebody_holds_is_left_for_the_next_time(ledger: LedgerAtWork) -> None:
    spread_to(ledger, "a")
    carry_out(ledger, "p.a")
    with ledger.engine.connect() as other:
        other.exec_driver_sql("SELECT 1 FROM corporation.missions WHERE job_id = 'p' FOR UPDATE")
        assert end(ledger) == 0
        other.rollback()

    assert end(ledger) == 1


def test_the_dispatcher_spreads_and_the_collector_ends(ledger: LedgerAtWork) -> None:
    """S-25."""
    ledger.beat("a")
    order(ledger, "p", "q")
    loop = Dispatcher(ledger.engine, rules(), clock.new_id, lambda: 0.0)

    assert [loop.tick() for _ in range(3)] == [True, True, False]
    ledger.report(hand_over(ledger, "p.a"))
    Collector(ledger.engine, AT_ONCE, lambda: 0.5).tick()
    assert (ledger.state("p"), ledger.state("q")) == ("succeeded", "waiting")


def test_what_a_dead_collector_left_behind_is_ended_by_the_sweep(ledger: LedgerAtWork) -> None:
    """S-25, S-33."""
    spread_to(ledger, "a")
    carry_out(ledger, "p.a")
    Dispatcher(ledger.engine, rules(), clock.new_id, lambda: 0.0).tick()

    assert ledger.state("p") == "succeeded"


def plan_of(connection: Connection, statement: str, **values: Any) -> str:
    return "\n".join(row[0] for row in connection.execute(text(f"EXPLAIN {statement}"), values))


def test_broadcasts_are_found_without_looking_through_what_else_waits(ledger: LedgerAtWork) -> None:
    order(ledger, "p")
    ledger.publish(*(f"j-{number}" for number in range(200)))
    ledger.sql("ANALYZE corporation.missions")

    with ledger.engine.connect() as connection:
        assert "missions_broadcast" in plan_of(connection, str(broadcasting.FIND_UNSPREAD))
        assert "missions_broadcast" in plan_of(connection, str(broadcasting.TAKE_DONE), limit=100, only=None)


@pytest.mark.parametrize(
    ("breaking", "rule"),
    [
        ("SET state = 'succeeded', finished_at = now() WHERE job_id = 'p.a'", "success_was_earned"),
        ("SET target_factory_id = NULL WHERE job_id = 'p.a'", "a_child_has_a_target"),
        ("SET attempt = 1 WHERE job_id = 'p'", "a_broadcast_is_never_run"),
        ("SET children = 0 WHERE job_id = 'p'", "missions_children_check"),
    ],
)
def test_the_ledger_itself_refuses_what_a_broadcast_must_not_be(ledger: LedgerAtWork, breaking: str, rule: str) -> None:
    spread_to(ledger, "a")

    with pytest.raises(IntegrityError, match=rule):
        ledger.sql(f"UPDATE corporation.missions {breaking}")


@pytest.mark.parametrize(
    ("tampering", "found"),
    [
        ("UPDATE corporation.missions SET parent_id = NULL WHERE job_id = 'p.a'", "lost or found"),
        ("UPDATE corporation.missions SET children = 3 WHERE job_id = 'p'", "spread otherwise"),
        ("UPDATE corporation.missions SET job_id = 'q.a' WHERE job_id = 'p.a'", "a stranger"),
        ("UPDATE corporation.missions SET result = '{\"children\": []}' WHERE job_id = 'p'", "lists other children"),
        (
            """WITH swapped AS (UPDATE corporation.missions SET state = 'succeeded', error = NULL WHERE job_id = 'p')
               UPDATE corporation.mission_events SET type = 'succeeded' WHERE type = 'failed' AND attempt IS NULL""",
            "ended otherwise",
        ),
        (
            """WITH reopened AS (
                 UPDATE corporation.missions
                    SET state = 'waiting', state_reason = 'x', finished_at = NULL, event_seq = 1
                  WHERE job_id = 'p.b' RETURNING id)
               DELETE FROM corporation.mission_events e USING reopened WHERE e.mission_id = reopened.id AND seq > 1""",
            "ended before its children",
        ),
    ],
)
def test_tampering_with_a_broadcast_is_found(ledger: LedgerAtWork, tampering: str, found: str) -> None:
    spread_to(ledger, "a", "b", ttl_seconds=60)
    carry_out(ledger, "p.a", Stop("no"))
    pass_deadline(ledger, "p.b")
    end_overdue(ledger)
    end(ledger)

    with ledger.engine.connect() as connection:
        assert_history_is_whole(connection)
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        connection.execute(text(tampering))
        with pytest.raises(AssertionError, match=found):
            assert_history_is_whole(connection)
