"""Orders to factories go to their control queues; missions that failed go elsewhere; who is barred gets nothing."""

from typing import Any

import pytest
from builders import submission
from ledger_at_work import AT_ONCE, LedgerAtWork

from corporation.db import transaction
from corporation.factories.control import Word
from corporation.factories.staleness import Thresholds
from corporation.missions.control import control
from corporation.missions.outcomes import Done, Failed
from corporation.missions.store.broadcasting import end_broadcasts, spread_one
from corporation.missions.store.sending import EchoMessage

CONTROL: dict[str, Any] = {"queues": ["factory.desk-7", "desk-7.control"]}
PAUSE: dict[str, Any] = {"context": {"mission_kind": "system:pause_factory", "target_factory_id": "desk-7"}}
RESUME: dict[str, Any] = {"context": {"mission_kind": "system:resume_factory", "target_factory_id": "desk-7"}}
BARRED = "INSERT INTO corporation.factory_access (factory_id, quarantined_at) VALUES ('desk-7', now())"


@pytest.mark.parametrize("changes", [{}, {"registration_status": "paused"}, {"slots": 0}, {"labels": []}])
def test_an_order_goes_to_the_control_queue_of_its_factory(ledger: LedgerAtWork, changes: dict[str, Any]) -> None:
    """F-22, and it waits for no slot."""
    ledger.beat(**CONTROL, **changes)
    ledger.publish("o-1", **PAUSE)

    assert ledger.dispatch() == 1
    [attempt] = ledger.attempts("o-1")
    assert (attempt.queue, attempt.factory_id) == ("desk-7.control", "desk-7")
    ledger.send()
    assert [(one.queue, one.kind) for one in ledger.broker.sent] == [("desk-7.control", "system:pause_factory")]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"queues": ["factory.desk-7"]}, "behind_others"),
        (CONTROL | {"labels": ["transport:http"]}, "behind_others"),
    ],
)
def test_an_order_that_nobody_can_be_sent_waits_and_says_why(
    ledger: LedgerAtWork, changes: dict[str, Any], reason: str
) -> None:
    ledger.beat(**changes)
    ledger.publish("o-1", **PAUSE)
    ledger.explain()

    assert ledger.dispatch() == 0
    assert ledger.mission("o-1").state_reason == reason


def test_an_update_is_not_sent_by_this_version(ledger: LedgerAtWork) -> None:
    ledger.beat(**CONTROL)
    ledger.publish("o-1", context={"mission_kind": "system:update_factory", "target_factory_id": "desk-7"})

    assert ledger.dispatch() == 0


def test_a_crowd_of_missions_does_not_hide_an_order_and_an_order_takes_no_room(ledger: LedgerAtWork) -> None:
    ledger.beat(slots=1, **CONTROL)
    ledger.publish(*(f"j-{number}" for number in range(20)), priority=0)
    ledger.publish("o-1", **RESUME)

    assert ledger.dispatch() == 4, "three for one slot, and the order"
    assert ledger.state("o-1") == "queued"
    ledger.report(ledger.attempt_of("j-0"))
    ledger.collect()
    assert ledger.dispatch() >= 1, "the order that is still held takes no room"


def test_an_order_that_lies_with_a_factory_without_slots_is_looked_after(ledger: LedgerAtWork) -> None:
    ledger.beat(slots=0, **CONTROL)
    ledger.publish("o-1", **PAUSE)
    ledger.dispatch()
    ledger.send()
    ledger.lapse(ledger.attempt_of("o-1"))

    assert ledger.look().lying == 1
    assert ledger.rescue() == 0


def ordered(ledger: LedgerAtWork, target: str | None, action: Any = "pause", **changes: Any) -> str:
    """The job_id of the order."""
    with transaction(ledger.engine) as connection:
        word = Word(action, "ana", **changes)
        return control(connection, target, word, "0a1b2c3d4e5f", Thresholds(), 0).job_id


def test_a_broadcast_is_sent_to_each_factory_and_ends_with_the_last(ledger: LedgerAtWork) -> None:
    """S-25."""
    for name in ("desk-7", "desk-8"):
        ledger.beat(name, queues=[f"{name}.control"])
    parent = ordered(ledger, None)
    with transaction(ledger.engine) as connection:
        spread_one(connection, Thresholds())
    ledger.dispatch()
    ledger.send()
    for message in ledger.broker.sent:
        ledger.report(message.attempt_id, Done({"action": "pause", "note": ""}))
    ledger.collect()
    with transaction(ledger.engine) as connection:
        end_broadcasts(connection)

    assert [one.queue for one in ledger.broker.sent] == ["desk-7.control", "desk-8.control"]
    assert ledger.state(parent) == "succeeded"
    assert ledger.mission(f"{parent}.desk-7").result["action"] == "pause"


def test_a_broadcast_that_was_not_spread_is_never_sent_itself(ledger: LedgerAtWork) -> None:
    ledger.beat(**CONTROL)
    ordered(ledger, None)

    assert ledger.dispatch() == 0


def test_who_is_drained_or_barred_is_spread_to_or_not(ledger: LedgerAtWork) -> None:
    for name in ("desk-7", "desk-8"):
        ledger.beat(name, queues=[f"{name}.control"])
    ledger.sql(BARRED)
    ledger.sql("UPDATE corporation.factories SET draining = true WHERE factory_id = 'desk-8'")
    parent = ordered(ledger, None, "resume")
    with transaction(ledger.engine) as connection:
        spread_one(connection, Thresholds())

    assert [
        row.job_id for row in ledger.sql("SELECT job_id FROM corporation.missions WHERE parent_id IS NOT NULL")
    ] == [f"{parent}.desk-8"]


def test_a_factory_that_is_drained_or_barred_is_sent_no_mission(ledger: LedgerAtWork) -> None:
    ledger.beat()
    ledger.publish("j-1")
    ledger.sql("UPDATE corporation.factories SET draining = true")
    assert ledger.dispatch() == 0
    ledger.sql("UPDATE corporation.factories SET draining = false")
    ledger.sql(BARRED)
    ledger.explain()

    assert ledger.dispatch() == 0
    assert ledger.mission().state_reason == "no_live_factory"


def test_a_factory_that_asks_for_its_missions_is_sent_none(ledger: LedgerAtWork) -> None:
    ledger.beat(labels=["vp_general", "transport:http"])
    ledger.publish("j-1")
    ledger.explain()

    assert ledger.dispatch() == 0
    assert ledger.mission().state_reason == "behind_others"
    ledger.beat("desk-8")
    assert ledger.dispatch() == 1
    assert ledger.attempts()[0].factory_id == "desk-8"


def test_the_next_attempt_of_what_failed_is_made_elsewhere_if_there_is_room(ledger: LedgerAtWork) -> None:
    for name in ("desk-1", "desk-2", "desk-3"):
        ledger.beat(name)
    ledger.publish("j-1", max_retries=4)
    for _ in range(4):
        ledger.dispatch()
        ledger.send()
        ledger.report(ledger.attempt_of(), Failed("no"))
        ledger.collect(AT_ONCE)

    tried = [one.factory_id for one in ledger.attempts()]
    assert len(set(tried[:3])) == 3
    assert len(tried) == 4, "when it has failed everywhere, it is tried again all the same"


def test_what_was_only_taken_back_may_go_to_the_same_factory_again(ledger: LedgerAtWork) -> None:
    ledger.hand_out("j-1")
    ledger.sql("UPDATE corporation.factories SET paused = true")
    ledger.recall()
    ledger.sql("UPDATE corporation.factories SET paused = false")

    assert ledger.dispatch() == 1


def test_an_echo_is_sent_once_to_the_private_queue_and_is_no_attempt(ledger: LedgerAtWork) -> None:
    ledger.beat()
    echo_id = "5f2b6c1e-0d1f-4f0e-9a36-3f1f6f0c9d11"
    ledger.sql(
        "INSERT INTO corporation.factory_echoes (factory_id, echo_id) VALUES ('desk-7', CAST(:id AS uuid))", id=echo_id
    )
    ledger.sql("INSERT INTO corporation.outbox (topic, factory_id) VALUES ('echo', 'desk-7'), ('echo', 'forgotten')")
    ledger.submit(submission("j-1"))
    ledger.dispatch()

    assert ledger.send() == 3
    assert [(one.echo_id, one.queue) for one in ledger.broker.echoes] == [(echo_id, "factory.desk-7")]
    assert isinstance(ledger.broker.echoes[0], EchoMessage)
    assert ledger.broker.lying_in("factory.desk-7") == {ledger.attempt_of()}
    assert ledger.send() == 0
