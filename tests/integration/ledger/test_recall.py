"""What lies with a factory that does not come for it goes elsewhere and uses up nothing; what a worker has is its."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from ledger_at_work import POLICY, LedgerAtWork

from corporation.db import transaction
from corporation.engine.rescuer import Rescuer
from corporation.factories.control import Word, flag
from corporation.factories.staleness import Thresholds
from corporation.missions.outcomes import Done, Lost
from corporation.missions.recall import recall_some, why_recalled
from corporation.missions.store.withdrawing import Holder

QUEUE = "factory.desk-7"
AWAY = {
    "paused": "UPDATE corporation.factories SET paused = true",
    "draining": "UPDATE corporation.factories SET draining = true",
    "says that it drains": "UPDATE corporation.factories SET registration_status = 'draining'",
    "offline": "UPDATE corporation.factories SET last_seen_at = now() - interval '1 day'",
    "quarantined": "INSERT INTO corporation.factory_access (factory_id, quarantined_at) VALUES ('desk-7', now())",
    "removed": "DELETE FROM corporation.factories",
}


def rescuer(ledger: LedgerAtWork) -> Rescuer:
    return Rescuer(ledger.engine, ledger.broker, POLICY, 180.0, lambda: 0.5, lambda: 1000.0)


@pytest.mark.parametrize("what", AWAY)
def test_what_nobody_received_is_taken_back_and_done_by_another_factory(ledger: LedgerAtWork, what: str) -> None:
    """F-21."""
    ledger.hand_out("j-1", max_retries=1)
    ledger.sql(AWAY[what])

    assert ledger.recall() == 1
    assert ledger.broker.lying_in(QUEUE) == set(), "whoever comes back would run it"
    assert (ledger.state(), [one.state for one in ledger.attempts()]) == ("waiting", ["withdrawn"])
    ledger.beat("desk-8")
    ledger.dispatch()
    ledger.send()
    ledger.report(ledger.attempt_of())
    ledger.collect()
    assert (ledger.state(), ledger.mission().factory_id) == ("succeeded", "desk-8")
    assert ledger.events() == ["published", "queued", "waiting", "queued", "started", "succeeded"]


@pytest.mark.parametrize("what", ["stale", "online"])
def test_who_may_still_come_for_it_keeps_it(ledger: LedgerAtWork, what: str) -> None:
    """F-17: silence alone takes nothing away."""
    ledger.hand_out("j-1")
    if what == "stale":
        ledger.sql("UPDATE corporation.factories SET last_seen_at = now() - interval '10 minutes'")

    assert ledger.recall() == 0
    assert ledger.state() == "queued"


def test_what_is_meant_for_it_alone_waits_for_it(ledger: LedgerAtWork) -> None:
    ledger.hand_out("j-1", context={"target_factory_id": "desk-7"})
    ledger.sql(AWAY["paused"])
    ledger.recall()
    ledger.explain()

    assert (ledger.state(), ledger.mission().state_reason) == ("waiting", "target_paused")
    ledger.beat("desk-8")
    assert ledger.dispatch() == 0
    ledger.sql("UPDATE corporation.factories SET paused = false")
    assert ledger.dispatch() == 1


def test_what_a_worker_has_runs_on(ledger: LedgerAtWork) -> None:
    had, lay = ledger.hand_out("j-1", "j-2")
    [message] = [one for one in ledger.broker.sent if one.attempt_id == had]
    ledger.broker.hand_over(message)
    ledger.sql(AWAY["paused"])

    assert ledger.recall() == 1
    assert (ledger.state("j-1"), ledger.state("j-2")) == ("queued", "waiting")
    ledger.hear(had)
    ledger.report(had, Done({}))
    ledger.collect()
    assert ledger.state("j-1") == "succeeded"
    assert lay not in ledger.broker.lying_in(QUEUE)


def test_what_was_never_sent_goes_elsewhere_even_while_redis_is_away(ledger: LedgerAtWork) -> None:
    ledger.beat(slots=4)
    ledger.publish("sent")
    ledger.dispatch()
    ledger.send()
    ledger.publish("unsent")
    ledger.dispatch()
    ledger.sql(AWAY["paused"])
    ledger.broker.away = True

    assert ledger.recall() == 1
    assert (ledger.state("sent"), ledger.state("unsent")) == ("queued", "waiting")
    ledger.broker.away = False
    assert ledger.recall() == 1
    assert (ledger.state("sent"), ledger.broker.lying_in(QUEUE)) == ("waiting", set())


def test_while_redis_is_away_what_lies_there_hides_nothing_behind_it(ledger: LedgerAtWork) -> None:
    ledger.beat(slots=4)
    ledger.publish("a-sent", "b-sent")
    ledger.dispatch()
    ledger.send()
    ledger.publish("unsent")
    ledger.dispatch()
    ledger.sql(AWAY["paused"])

    assert ledger.recall(1, sent_too=False) == 1
    assert ledger.state("unsent") == "waiting"


def test_a_message_that_a_dead_sender_may_have_sent_is_called_back(ledger: LedgerAtWork) -> None:
    ledger.beat()
    ledger.publish("j-1")
    ledger.dispatch()
    attempt = ledger.attempt_of()
    ledger.send()
    ledger.sql("INSERT INTO corporation.outbox (topic, attempt_id) VALUES ('attempt', CAST(:id AS uuid))", id=attempt)
    ledger.sql(AWAY["paused"])
    ledger.recall()
    assert ledger.state() == "waiting"
    ledger.send()

    assert ledger.broker.lying_in(QUEUE) == set()


def test_a_message_that_a_sender_holds_is_left_to_it_and_taken_from_the_queue_afterwards(ledger: LedgerAtWork) -> None:
    ledger.beat()
    ledger.publish("j-1")
    ledger.dispatch()
    ledger.sql(AWAY["paused"])
    with transaction(ledger.engine) as connection:
        connection.exec_driver_sql("SELECT id FROM corporation.outbox FOR UPDATE")
        assert ledger.recall() == 0
    ledger.send()

    assert ledger.recall() == 1
    assert ledger.broker.lying_in(QUEUE) == set()


def handed_out_twice(ledger: LedgerAtWork, **changes: int) -> str:
    """A worker took the message, did the work and acknowledged it; its report lies on its disk, for HQ is away.

    HQ finds the message nowhere, has heard nothing, and sends it again.
    """
    [attempt] = ledger.hand_out("j-1", **changes)
    ledger.broker.take(QUEUE)
    ledger.broker.acknowledge(attempt)
    assert ledger.look(everything=True).resent == 1
    return attempt


@pytest.mark.parametrize("is_sent", [True, False])
def test_what_was_handed_out_twice_may_have_begun_and_is_tried_again_at_once(
    ledger: LedgerAtWork, is_sent: bool
) -> None:
    """It does not stay where it is either: nobody would come for it."""
    attempt = handed_out_twice(ledger)
    if is_sent:
        ledger.send()
    ledger.sql(AWAY["draining"])

    assert ledger.recall() == 1
    assert (ledger.state(), [one.state for one in ledger.attempts()]) == ("waiting", ["lost"])
    ledger.send()
    assert ledger.broker.lying_in(QUEUE) == set()
    ledger.beat("desk-8")
    assert ledger.dispatch() == 1
    ledger.report(attempt)
    ledger.collect()
    assert (ledger.events()[-1], ledger.state()) == ("late_result", "queued")


@pytest.mark.parametrize("is_sent", [True, False])
def test_what_was_handed_out_twice_and_may_be_tried_once_is_not_done_twice(ledger: LedgerAtWork, is_sent: bool) -> None:
    """S-30: called unreceived it went to desk-8, and was done there as well."""
    handed_out_twice(ledger, max_retries=0)
    if is_sent:
        ledger.send()
    ledger.sql(AWAY["draining"])

    assert ledger.recall() == 1
    assert ledger.mission().error == "lost: desk-7 is being drained, and its message was handed out before"
    ledger.beat("desk-8")
    assert ledger.dispatch() == 0


def test_what_was_handed_out_twice_to_a_factory_that_fell_silent_waits_for_its_lease(ledger: LedgerAtWork) -> None:
    attempt = handed_out_twice(ledger)
    ledger.send()
    ledger.sql(AWAY["offline"])

    assert ledger.recall() == 0
    assert (ledger.state(), ledger.broker.lying_in(QUEUE)) == ("queued", set())
    ledger.lapse(attempt)
    assert ledger.rescue() == 1
    assert [one.state for one in ledger.attempts()] == ["lost"]


@pytest.mark.parametrize("what", ["paused", "draining", "says that it drains"])
def test_what_came_back_from_a_worker_may_have_begun_there_and_is_tried_again_at_once(
    ledger: LedgerAtWork, what: str
) -> None:
    """Its worker began it and died before anybody heard of that: to say that nobody received it would be a lie."""
    [attempt] = ledger.hand_out("j-1")
    ledger.broker.came_back.add(attempt)
    ledger.sql(AWAY[what])

    assert ledger.recall() == 1
    assert (ledger.state(), [(one.state, one.took_worker) for one in ledger.attempts()]) == (
        "waiting",
        [("lost", False)],
    )
    ledger.beat("desk-8")
    assert ledger.dispatch() == 1
    ledger.report(attempt, Lost("the process that ran the attempt died"))
    ledger.collect()
    assert ledger.events()[-1] == "late_result"


def test_what_came_back_from_a_worker_and_may_be_tried_once_is_not_tried_again(ledger: LedgerAtWork) -> None:
    [attempt] = ledger.hand_out("j-1", max_retries=0)
    ledger.broker.came_back.add(attempt)
    ledger.sql(AWAY["paused"])

    assert ledger.recall() == 1
    assert ledger.mission().error == "lost: desk-7 is paused, and a worker had it before"


def test_what_came_back_from_a_worker_of_a_silent_factory_waits_for_its_lease(ledger: LedgerAtWork) -> None:
    [attempt] = ledger.hand_out("j-1")
    ledger.broker.came_back.add(attempt)
    ledger.sql(AWAY["offline"])

    assert ledger.recall() == 0
    assert ledger.state() == "queued"


def test_what_is_reported_already_is_not_taken_back_although_its_message_came_back(ledger: LedgerAtWork) -> None:
    """Its worker died between its report and its acknowledgement."""
    [attempt] = ledger.hand_out("j-1")
    ledger.broker.came_back.add(attempt)
    ledger.report(attempt)
    ledger.sql(AWAY["paused"])

    assert ledger.recall() == 0
    ledger.collect()
    assert ledger.state() == "succeeded"


def test_no_more_than_asked_for_is_taken_back_at_once(ledger: LedgerAtWork) -> None:
    ledger.hand_out("j-1", "j-2", "j-3")
    ledger.sql(AWAY["paused"])

    assert [ledger.recall(2), ledger.recall(2), ledger.recall(2)] == [2, 1, 0]


def test_a_factory_whose_queue_cannot_be_read_hides_nothing_that_lies_with_the_others(ledger: LedgerAtWork) -> None:
    """Its rows come first and stay there: nothing is ever taken back of them."""
    ledger.hand_out("j-1", "j-2", "j-3")
    ledger.beat("desk-8")
    ledger.publish("k-1", "k-2", context={"target_factory_id": "desk-8"})
    ledger.dispatch()
    ledger.send()
    ledger.broker.overfull = {QUEUE}
    ledger.sql(AWAY["draining"])

    assert [ledger.recall(2), ledger.recall(2), ledger.recall(2)] == [1, 1, 0]
    assert {ledger.state(job) for job in ("k-1", "k-2")} == {"waiting"}
    assert {ledger.state(job) for job in ("j-1", "j-2", "j-3")} == {"queued"}


def test_the_oldest_of_each_factory_comes_first(ledger: LedgerAtWork) -> None:
    ledger.hand_out("j-1", "j-2", "j-3")
    ledger.beat("desk-8")
    ledger.publish("k-1", context={"target_factory_id": "desk-8"})
    ledger.dispatch()
    ledger.send()
    ledger.sql(AWAY["draining"])

    assert ledger.recall(3) == 3
    assert [ledger.state(job) for job in ("j-1", "j-2", "j-3", "k-1")] == ["waiting", "waiting", "queued", "waiting"]


def test_a_sweep_takes_back_and_says_whether_there_may_be_more(ledger: LedgerAtWork) -> None:
    ledger.hand_out("j-1", "j-2")
    ledger.sql(AWAY["paused"])
    sweeper = rescuer(ledger)
    sweeper.batch = 1

    assert [sweeper.tick(), sweeper.tick(), sweeper.tick()] == [True, True, False]
    assert ledger.state("j-2") == "waiting"


def test_a_beat_that_came_first_saves_what_runs(ledger: LedgerAtWork, wait_until: Callable[..., object]) -> None:
    [attempt] = ledger.hand_out("j-1")
    [message] = ledger.broker.take(QUEUE)
    ledger.broker.acknowledge(message.attempt_id)  # nothing in Redis speaks for it
    ledger.sql(AWAY["paused"])
    with ThreadPoolExecutor(1) as pool:
        with transaction(ledger.engine) as connection:
            connection.exec_driver_sql("SELECT id FROM corporation.missions FOR UPDATE")
            recalled = pool.submit(ledger.recall)
            wait_until(lambda: _blocked(ledger), 10, "the recall waits for the beat")
        assert recalled.result(10) == 0

    assert ledger.hear(attempt)


def _blocked(ledger: LedgerAtWork) -> bool:
    statement = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    return bool(ledger.sql(statement))


def test_nothing_is_read_of_the_queues_while_everybody_comes(ledger: LedgerAtWork) -> None:
    ledger.hand_out("j-1")
    with transaction(ledger.engine) as connection:
        nobody: Any = None
        assert recall_some(connection, nobody, Thresholds(), POLICY, lambda: 0.5, 200) == 0


HEARD = {"registered": True, "said": "online"}


@pytest.mark.parametrize(
    ("orders", "fields", "why"),
    [
        (False, HEARD, None),
        (False, HEARD | {"paused": True}, "is paused"),
        (False, HEARD | {"draining": True}, "is being drained"),
        (False, HEARD | {"said": "paused"}, "is paused"),
        (False, HEARD | {"said": "draining"}, "is being drained"),
        (False, HEARD | {"silent_seconds": 301.0, "paused": True}, None),
        (False, HEARD | {"silent_seconds": 901.0}, "is offline"),
        (False, HEARD | {"quarantined": True}, "is quarantined"),
        (False, {"registered": False}, "is not registered any more"),
        (True, HEARD | {"paused": True}, None),
        (True, HEARD | {"draining": True}, None),
        (True, HEARD | {"silent_seconds": 901.0}, "is offline"),
        (True, HEARD | {"quarantined": True}, "is quarantined"),
        (True, {"registered": False}, "is not registered any more"),
    ],
)
def test_who_is_not_waited_for(orders: bool, fields: dict[str, Any], why: str | None) -> None:
    """F-22: an order to the factory itself stays where it is while that is heard of."""
    assert why_recalled(Holder("desk-7", orders, **fields), Thresholds()) == why


def test_an_order_to_a_paused_factory_is_not_taken_back(ledger: LedgerAtWork) -> None:
    ledger.beat(queues=["factory.desk-7", "desk-7.control"])
    with transaction(ledger.engine) as connection:
        flag(connection, ["desk-7"], Word("pause", "ana"))
    ledger.publish("o-1", context={"mission_kind": "system:resume_factory", "target_factory_id": "desk-7"})
    ledger.dispatch()
    ledger.send()

    assert ledger.recall() == 0
    assert ledger.broker.lying_in("desk-7.control") == {ledger.attempt_of("o-1")}
    ledger.sql(AWAY["offline"])
    assert ledger.recall() == 1
    assert ledger.broker.lying_in("desk-7.control") == set()
