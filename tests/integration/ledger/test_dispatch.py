"""Waiting missions go to factories: the most urgent first, once each, never more than there is room for."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from builders import rules, submission
from ledger_at_work import LedgerAtWork
from sqlalchemy import event

from corporation.db import transaction
from corporation.missions.dispatch import explain_waiting
from corporation.missions.outbox import BrokerUnavailableError
from corporation.missions.outcomes import Failed
from corporation.missions.store.dispatching import expire, take_dispatch_lock


def queued(ledger: LedgerAtWork) -> list[str]:
    """The job_ids in the order in which their attempts were put into the outbox."""
    rows = ledger.sql(
        """SELECT m.job_id FROM corporation.outbox o JOIN corporation.attempts a ON a.id = o.attempt_id
             JOIN corporation.missions m ON m.id = a.mission_id ORDER BY o.id"""
    )
    return [row.job_id for row in rows]


def held(ledger: LedgerAtWork) -> dict[str, int]:
    """How many live attempts each factory has."""
    rows = ledger.sql(
        """SELECT factory_id, count(*) AS n FROM corporation.attempts
            WHERE state IN ('queued', 'claimed', 'running') GROUP BY factory_id"""
    )
    return {row.factory_id: row.n for row in rows}


def test_a_dispatched_mission_has_an_attempt_a_lease_a_mailbox_row_and_an_outbox_row(ledger: LedgerAtWork) -> None:
    ledger.beat()
    ledger.publish("j-1")

    assert ledger.dispatch(rules(lease_seconds=60)) == 1
    mission, [attempt] = ledger.mission(), ledger.attempts()
    assert (mission.state, mission.attempt, mission.attempt_id) == ("queued", 1, attempt.id)
    assert (attempt.factory_id, attempt.queue, attempt.state) == ("desk-7", "factory.desk-7", "queued")
    assert 50 < attempt.lease_left.total_seconds() <= 60
    assert ledger.events() == ["published", "queued"]
    assert queued(ledger) == ["j-1"]
    [letter] = ledger.sql("SELECT * FROM mailbox.celery_taskmeta")
    assert (letter.task_id, letter.status, letter.name) == (str(attempt.id), "PENDING", "mission.general_task")


def test_nothing_is_dispatched_without_a_factory(ledger: LedgerAtWork) -> None:
    ledger.publish("j-1")

    assert ledger.dispatch() == 0
    assert ledger.state() == "waiting"


@pytest.mark.parametrize("changes", [{"slots": 0}, {"registration_status": "draining"}, {"labels": ()}])
def test_nothing_is_dispatched_to_a_factory_that_cannot_take_it(ledger: LedgerAtWork, changes: dict[str, Any]) -> None:
    ledger.beat(**changes)
    ledger.publish("j-1")

    assert ledger.dispatch() == 0


def test_nothing_is_dispatched_to_a_factory_that_fell_silent(ledger: LedgerAtWork) -> None:
    ledger.beat()
    ledger.sql("UPDATE corporation.factories SET last_seen_at = now() - interval '301 seconds'")
    ledger.publish("j-1")

    assert ledger.dispatch() == 0


def test_nothing_is_dispatched_to_a_paused_factory(ledger: LedgerAtWork) -> None:
    ledger.beat()
    ledger.sql("UPDATE corporation.factories SET paused = true")
    ledger.publish("j-1")

    assert ledger.dispatch() == 0


def test_the_more_urgent_goes_first_and_among_equals_the_older(ledger: LedgerAtWork) -> None:
    for job_id, priority in [("late", 5), ("old", 1), ("new", 1), ("urgent", -3), ("last", 99)]:
        ledger.publish(job_id, priority=priority)
    ledger.beat(slots=10)
    ledger.dispatch()

    assert queued(ledger) == ["urgent", "old", "new", "late", "last"]


def test_only_the_most_urgent_go_when_there_is_room_for_some(ledger: LedgerAtWork) -> None:
    ledger.publish("a", "b", "c", "d", priority=9)
    ledger.publish("urgent", priority=0)
    ledger.beat(slots=1)

    assert ledger.dispatch() == 3  # one to run, and two messages a slot waiting in its queue
    assert queued(ledger)[0] == "urgent"
    assert ledger.dispatch() == 0


LARGE = "x" * 250_000


def test_no_more_bytes_are_sent_to_a_factory_than_hq_reads_of_its_keys_however_many_slots_it_has(
    ledger: LedgerAtWork,
) -> None:
    ledger.beat(slots=200)
    ledger.publish(*(f"j-{number}" for number in range(80)), task=LARGE)
    taken = ledger.dispatch()
    ledger.send()

    assert (taken, ledger.dispatch()) == (68, 0), "16 MiB of orders, the last one beyond it"
    ledger.explain()
    assert ledger.mission("j-79").state_reason == "no_free_slot"
    ledger.report(ledger.attempt_of("j-0"))
    ledger.collect()
    assert ledger.dispatch() == 1


def test_what_it_runs_counts_as_what_lies_in_its_queue_and_other_factories_take_the_rest(ledger: LedgerAtWork) -> None:
    """Its worker acknowledges a message when the mission has ended: until then it holds it in Redis."""
    ledger.beat(slots=200)
    ledger.publish(*(f"j-{number}" for number in range(70)), task=LARGE)
    ledger.dispatch()
    ledger.send()
    ledger.hear(*(ledger.attempt_of(f"j-{number}") for number in range(40)))
    assert ledger.dispatch() == 0
    ledger.beat("desk-8")

    assert ledger.dispatch() == 2
    assert held(ledger) == {"desk-7": 68, "desk-8": 2}


def test_many_small_orders_are_held_up_by_nothing(ledger: LedgerAtWork) -> None:
    ledger.beat(slots=50)
    ledger.publish(*(f"j-{number}" for number in range(150)))

    assert ledger.dispatch() == 150


def test_an_end_makes_room_for_the_next(ledger: LedgerAtWork) -> None:
    ledger.publish("a", "b", "c", "d")
    ledger.beat(slots=1)
    ledger.dispatch()
    ledger.report(ledger.attempt_of("a"))
    ledger.collect()

    assert ledger.dispatch() == 1
    assert ledger.state("d") == "queued"


def test_missions_spread_over_the_factories(ledger: LedgerAtWork) -> None:
    ledger.publish(*(f"j-{number}" for number in range(6)))
    ledger.beat("a")
    ledger.beat("b")
    ledger.dispatch()

    assert held(ledger) == {"a": 3, "b": 3}


def test_a_mission_for_one_factory_never_goes_to_another(ledger: LedgerAtWork) -> None:
    ledger.publish("j-1", context={"target_factory_id": "b"})
    ledger.beat("a")

    assert ledger.dispatch() == 0
    ledger.beat("b")
    assert ledger.dispatch() == 1
    assert (ledger.attempts()[0].factory_id, ledger.attempts()[0].queue) == ("b", "factory.b")


def test_a_kind_goes_only_where_its_label_is(ledger: LedgerAtWork) -> None:
    ledger.publish("code", mission_kind="coding_task")
    ledger.publish("talk")
    ledger.beat("general", labels=["vp_general"])
    ledger.beat("coder", labels=["vp_coder"])
    ledger.dispatch()

    assert ledger.mission("code").factory_id == "coder"
    assert ledger.mission("talk").factory_id == "general"


def test_a_kind_that_a_factory_advertises_goes_to_it(ledger: LedgerAtWork) -> None:
    ledger.submit(submission(mission_kind="noop", source="rest"))
    ledger.sql("UPDATE corporation.missions SET mission_kind = 'noop'")
    ledger.beat(labels=["kind:noop"])

    assert ledger.dispatch() == 1


def test_a_crowd_that_nobody_can_run_does_not_hide_a_mission_that_somebody_can(ledger: LedgerAtWork) -> None:
    ledger.publish(*(f"code-{number}" for number in range(20)), mission_kind="coding_task", priority=0)
    ledger.publish("talk", priority=9)
    ledger.beat(labels=["vp_general"], slots=1)

    assert ledger.dispatch() == 1
    assert ledger.state("talk") == "queued"


def test_a_crowd_for_a_factory_that_cannot_run_it_does_not_hide_the_others(ledger: LedgerAtWork) -> None:
    ledger.publish(*(f"j-{number}" for number in range(20)), priority=0, context={"target_factory_id": "coder"})
    ledger.publish("talk", priority=9)
    ledger.beat("coder", labels=["vp_coder"], slots=1)
    ledger.beat("general", labels=["vp_general"], slots=1)

    assert ledger.dispatch() == 1
    assert ledger.state("talk") == "queued"


@pytest.mark.parametrize("kind", ["coding_task", "system:pause_factory", "tutorial_bootstrap_repo"])
def test_a_factory_that_claims_one_of_our_kinds_as_its_own_gets_none_of_it(ledger: LedgerAtWork, kind: str) -> None:
    ledger.publish(*(f"j-{number}" for number in range(20)), mission_kind="coding_task", priority=0)
    ledger.sql("UPDATE corporation.missions SET mission_kind = :kind", kind=kind)
    ledger.publish("talk", priority=9)
    ledger.beat(labels=[f"kind:{kind}", "vp_general"], slots=1)

    assert ledger.dispatch() == 1
    assert ledger.state("talk") == "queued"


@pytest.mark.parametrize("kind", ["system:update_factory", "system:pause_factory", "system:resume_factory"])
def test_an_order_to_a_factory_is_never_put_on_a_mission_queue(ledger: LedgerAtWork, kind: str) -> None:
    ledger.publish("j-1", mission_kind=kind, context={"target_factory_id": "desk-7"})
    ledger.beat()

    assert ledger.dispatch() == 0


def test_a_backoff_is_waited_for(ledger: LedgerAtWork) -> None:
    ledger.beat()
    ledger.publish("j-1")
    ledger.sql("UPDATE corporation.missions SET next_attempt_at = now() + interval '1 hour'")

    assert ledger.dispatch() == 0
    ledger.end_backoff()
    assert ledger.dispatch() == 1
    assert ledger.mission().next_attempt_at is None


def test_a_batch_is_never_larger_than_asked_for(ledger: LedgerAtWork) -> None:
    ledger.beat(slots=50)
    ledger.publish(*(f"j-{number}" for number in range(10)))

    assert [ledger.dispatch(rules(batch=4)) for _ in range(4)] == [4, 4, 2, 0]


def test_dispatchers_at_the_same_time_send_nothing_twice_and_never_overfill(ledger: LedgerAtWork) -> None:
    ledger.publish(*(f"j-{number}" for number in range(200)))
    ledger.beat("a", slots=10)
    ledger.beat("b", slots=5)
    together = Barrier(8)

    def dispatch(_: int) -> int:
        together.wait(10)
        return sum(ledger.dispatch(rules(batch=7)) for _ in range(10))

    with ThreadPoolExecutor(8) as pool:
        sent = sum(pool.map(dispatch, range(8)))

    ledger.dispatch()
    assert held(ledger) == {"a": 30, "b": 15}
    assert sent <= 45 == len(set(queued(ledger)))


def test_while_one_dispatcher_is_at_it_another_does_nothing(ledger: LedgerAtWork) -> None:
    ledger.beat()
    ledger.publish("j-1")
    with ledger.engine.connect() as other:
        assert take_dispatch_lock(other)
        assert ledger.dispatch() == 0
        other.rollback()

    assert ledger.dispatch() == 1


def test_a_mission_that_somebody_holds_is_passed_over_and_not_waited_for(ledger: LedgerAtWork) -> None:
    ledger.beat()
    ledger.publish("held", "free")
    with ledger.engine.connect() as other:
        other.exec_driver_sql("SELECT 1 FROM corporation.missions WHERE job_id = 'held' FOR UPDATE")
        ledger.dispatch()
        other.rollback()

    assert (ledger.state("held"), ledger.state("free")) == ("waiting", "queued")


REASONS: list[tuple[dict[str, Any], list[dict[str, Any]], str]] = [
    ({}, [], "no_live_factory"),
    ({}, [{"slots": 0}], "no_free_slot"),
    ({}, [{"registration_status": "draining"}], "all_paused"),
    ({"mission_kind": "coding_task"}, [{"labels": ["vp_general"]}], "no_capable_factory"),
    ({"context": {"target_factory_id": "b"}}, [{}], "target_unknown"),
    ({"context": {"target_factory_id": "b"}}, [{"factory_id": "b", "registration_status": "paused"}], "target_paused"),
    ({"mission_kind": "system:pause_factory", "context": {"target_factory_id": "desk-7"}}, [{}], "behind_others"),
    ({"mission_kind": "system:pause_factory"}, [{}], "behind_others"),
    ({}, [{}], "behind_others"),
]  # fmt: skip


@pytest.mark.parametrize(("mission", "factories", "reason"), REASONS)
def test_a_waiting_mission_says_why_it_waits(
    ledger: LedgerAtWork, mission: dict[str, Any], factories: list[dict[str, Any]], reason: str
) -> None:
    ledger.publish("j-1", **mission)
    for factory in factories:
        ledger.beat(**factory)
    ledger.explain()

    assert ledger.mission().state_reason == reason


def test_a_reason_goes_when_the_mission_does_not_wait_any_more(ledger: LedgerAtWork) -> None:
    ledger.publish("j-1")
    ledger.explain()
    ledger.beat()
    ledger.dispatch()

    assert ledger.mission().state_reason is None


def test_a_backoff_keeps_its_own_reason(ledger: LedgerAtWork) -> None:
    [attempt] = ledger.hand_out("j-1")
    ledger.report(attempt, Failed("x"))
    ledger.collect()
    ledger.explain()

    assert ledger.mission().state_reason == "backoff"


def test_explaining_never_waits_for_a_mission_that_somebody_holds(ledger: LedgerAtWork) -> None:
    ledger.publish("held", "free")
    with ledger.engine.connect() as other:
        other.exec_driver_sql("SELECT 1 FROM corporation.missions WHERE job_id = 'held' FOR UPDATE")
        with transaction(ledger.engine) as connection:
            connection.exec_driver_sql("SET LOCAL lock_timeout = '1s'")
            explain_waiting(connection, rules())
        other.rollback()

    assert ledger.mission("held").state_reason == "behind_others"
    assert ledger.mission("free").state_reason == "no_live_factory"


def end_overdue(ledger: LedgerAtWork) -> int:
    with transaction(ledger.engine) as connection:
        return expire(connection)


def pass_deadline(ledger: LedgerAtWork) -> None:
    ledger.sql("UPDATE corporation.missions SET deadline_at = now() - interval '1 second'")


def test_a_mission_still_waiting_at_its_deadline_is_timed_out(ledger: LedgerAtWork) -> None:
    ledger.publish("j-1", ttl_seconds=60)
    ledger.explain()
    pass_deadline(ledger)

    assert end_overdue(ledger) == 1
    mission = ledger.mission()
    assert (mission.state, mission.state_reason) == ("timed_out", None)
    assert mission.error == "the deadline passed while the mission was waiting (no_live_factory)"
    assert ledger.detail("timed_out") == {"error": mission.error}
    assert end_overdue(ledger) == 0


def test_a_deadline_bounds_the_backoff_too(ledger: LedgerAtWork) -> None:
    [attempt] = ledger.hand_out("j-1", ttl_seconds=60)
    ledger.report(attempt, Failed("x"))
    ledger.collect()
    pass_deadline(ledger)

    assert end_overdue(ledger) == 1
    assert ledger.events() == ["published", "queued", "started", "retry_scheduled", "timed_out"]


def test_a_deadline_does_not_stop_an_attempt_that_was_handed_out(ledger: LedgerAtWork) -> None:
    ledger.hand_out("j-1", ttl_seconds=60)
    pass_deadline(ledger)

    assert end_overdue(ledger) == 0
    assert ledger.state() == "queued"


def test_a_mission_past_its_deadline_is_not_dispatched(ledger: LedgerAtWork) -> None:
    ledger.publish("j-1", ttl_seconds=60)
    pass_deadline(ledger)
    ledger.beat()

    assert ledger.dispatch() == 0


def test_a_mission_without_a_deadline_waits_for_ever(ledger: LedgerAtWork) -> None:
    ledger.publish("j-1")

    assert ledger.mission().deadline_at is None
    assert end_overdue(ledger) == 0


def test_what_is_handed_to_the_broker_is_what_was_committed(ledger: LedgerAtWork) -> None:
    [attempt] = ledger.hand_out("j-1", timeout_seconds=7)
    [message] = ledger.broker.sent

    assert (message.attempt_id, message.attempt, message.queue) == (attempt, 1, "factory.desk-7")
    assert (message.job_id, message.kind, message.timeout_seconds) == ("j-1", "general_task", 7)
    assert message.envelope["payload"] == {"task": "Tidy the notes", "context": {}}
    assert queued(ledger) == []


def test_while_the_broker_is_away_the_outbox_keeps_what_it_has(ledger: LedgerAtWork) -> None:
    ledger.beat()
    ledger.publish("j-1")
    ledger.dispatch()
    ledger.broker.away = True
    with pytest.raises(BrokerUnavailableError):
        ledger.send()

    assert queued(ledger) == ["j-1"]
    ledger.broker.away = False
    assert ledger.send() == 1
    assert ledger.send() == 0


def test_senders_at_the_same_time_send_each_message_once(ledger: LedgerAtWork) -> None:
    ledger.beat(slots=100)
    ledger.publish(*(f"j-{number}" for number in range(100)))
    ledger.dispatch()
    together = Barrier(4)

    def send(_: int) -> int:
        together.wait(10)
        return ledger.send()

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(send, range(4))) == 100

    assert len({message.attempt_id for message in ledger.broker.sent}) == len(ledger.broker.sent) == 100


def test_invented_targets_are_explained_together(ledger: LedgerAtWork) -> None:
    """Anybody may invent them; a statement for each would hold up all routing."""
    ledger.beat("desk-7", slots=1)
    ledger.submit(*(submission(f"j-{n}", context={"target_factory_id": f"nobody-{n}"}) for n in range(300)))
    ledger.publish("known", context={"target_factory_id": "desk-7"})
    statements: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    event.listen(ledger.engine, "before_cursor_execute", note)
    try:
        ledger.explain()
    finally:
        event.remove(ledger.engine, "before_cursor_execute", note)

    assert len(statements) < 10
    assert {ledger.mission(f"j-{n}").state_reason for n in (0, 299)} == {"target_unknown"}
    assert ledger.mission("known").state_reason == "behind_others"


def test_names_as_long_as_they_may_be_stop_no_dispatching(ledger: LedgerAtWork) -> None:
    """A factory chooses its own name: one that fits nowhere must not stop the others' missions."""
    ledger.beat("f" * 200)
    ledger.publish("j-1")

    assert ledger.dispatch() == 1
    assert ledger.sql("SELECT length(queue) AS n FROM mailbox.celery_taskmeta")[0].n == len("factory.") + 200
