"""A message that is gone is sent again, one that nobody received is taken back, and one that nobody waits for goes."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any
from uuid import uuid4

import pytest
from ledger_at_work import AT_ONCE, POLICY, LedgerAtWork

from corporation.db import transaction
from corporation.engine.rescuer import Rescuer
from corporation.missions.orphans import Swept, sweep_orphans
from corporation.missions.outcomes import Done, Failed, Lost
from corporation.missions.rescue import MOST_SENDS, LookedAfter
from corporation.missions.store.sending import AttemptMessage

QUEUE = "factory.desk-7"
LEASE = 180.0


class Hands:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def rescuer(ledger: LedgerAtWork, hands: Callable[[], float] | None = None) -> Rescuer:
    return Rescuer(ledger.engine, ledger.broker, POLICY, LEASE, lambda: 0.5, hands or Hands())


def outbox(ledger: LedgerAtWork) -> list[str]:
    """The attempts that wait to be sent, the first one first."""
    rows = ledger.sql("SELECT attempt_id FROM corporation.outbox WHERE topic = 'attempt' ORDER BY id")
    return [str(row.attempt_id) for row in rows]


def lost(ledger: LedgerAtWork, *job_ids: str, **changes: Any) -> list[str]:
    """Attempts whose message vanished with the worker that popped it, looked for by now."""
    attempts = ledger.hand_out(*job_ids, **changes)
    ledger.broker.lose(QUEUE)
    ledger.lapse(*attempts)
    return attempts


def go_away(ledger: LedgerAtWork) -> None:
    """The factory falls silent for longer than anybody waits for it."""
    ledger.sql("UPDATE corporation.factories SET last_seen_at = now() - interval '3 days'")


def test_a_message_that_is_gone_is_sent_again_as_the_same_attempt(ledger: LedgerAtWork) -> None:
    [attempt] = lost(ledger, "j-1", max_retries=0)

    assert ledger.look() == LookedAfter(lying=0, resent=1)
    assert ledger.rescue() == 0
    ledger.send()
    assert [one.attempt_id for one in ledger.broker.sent] == [attempt, attempt]
    [row] = ledger.attempts()
    assert (row.state, row.sends) == ("queued", 2)
    assert row.lease_left.total_seconds() > LEASE - 10
    ledger.report(attempt)
    ledger.collect()
    assert ledger.state() == "succeeded"
    assert ledger.mission().result["attempts"] == 1


def test_what_waits_in_the_outbox_is_not_put_there_twice(ledger: LedgerAtWork) -> None:
    [attempt] = lost(ledger, "j-1")
    ledger.look()
    ledger.lapse(attempt)

    assert ledger.look() == LookedAfter(0, 0)
    assert outbox(ledger) == [attempt]


def test_a_message_that_vanishes_three_times_is_lost_with_its_attempt(ledger: LedgerAtWork) -> None:
    [attempt] = lost(ledger, "j-1")
    for sends in range(1, MOST_SENDS):
        assert ledger.look().resent == 1, sends
        ledger.send()
        ledger.broker.lose(QUEUE)
        ledger.lapse(attempt)

    assert ledger.look().resent == 0
    assert ledger.rescue() == 1
    assert (ledger.state(), ledger.attempts()[0].state) == ("waiting", "lost")
    assert ledger.attempts()[0].sends == MOST_SENDS


def is_spoken_of(ledger: LedgerAtWork, attempt: str) -> None:
    ledger.hear(attempt)


def is_reported(ledger: LedgerAtWork, attempt: str) -> None:
    ledger.report(attempt)


def is_cancelled(ledger: LedgerAtWork, attempt: str) -> None:
    del attempt
    ledger.cancel("j-1")
    ledger.send()


@pytest.mark.parametrize("meanwhile", [is_spoken_of, is_reported, is_cancelled])
def test_what_a_factory_spoke_of_or_nobody_wants_any_more_is_not_sent_again(
    ledger: LedgerAtWork, meanwhile: Callable[[LedgerAtWork, str], None]
) -> None:
    [attempt] = lost(ledger, "j-1")
    meanwhile(ledger, attempt)
    ledger.lapse(attempt)

    assert ledger.look().resent == 0
    assert outbox(ledger) == []


def test_a_message_is_not_sent_again_for_a_factory_that_nobody_hears_of(ledger: LedgerAtWork) -> None:
    lost(ledger, "j-1")
    go_away(ledger)

    assert ledger.look() == LookedAfter(0, 0)
    assert ledger.rescue() == 1
    assert ledger.attempts()[0].state == "lost", "nobody knows whether it was received"


def test_two_rescuers_at_once_send_once(ledger: LedgerAtWork) -> None:
    attempts = lost(ledger, *(f"j-{number}" for number in range(20)))
    barrier = Barrier(4)

    def look() -> int:
        barrier.wait(10)
        return ledger.look().resent

    with ThreadPoolExecutor(4) as pool:
        counts = [one.result(20) for one in [pool.submit(look) for _ in range(4)]]

    assert sum(counts) == 20
    assert sorted(outbox(ledger)) == sorted(attempts)


def test_what_is_sent_again_goes_out_in_the_order_of_urgency(ledger: LedgerAtWork) -> None:
    ledger.beat(slots=3)
    for job_id, priority in (("low", 1), ("high", 9), ("middle", 5)):
        ledger.publish(job_id, priority=priority)
    ledger.dispatch()
    before = outbox(ledger)
    ledger.send()
    ledger.broker.lose(QUEUE)
    ledger.lapse(*before)
    ledger.look()

    assert outbox(ledger) == before


def test_an_attempt_that_nobody_received_is_taken_back_and_uses_up_nothing(ledger: LedgerAtWork) -> None:
    """S-27, S-30: a single attempt (`max_retries` 0) survives a factory that went away before it came for it."""
    [attempt] = ledger.hand_out("j-1", max_retries=0)
    go_away(ledger)
    ledger.lapse(attempt)

    assert ledger.rescue() == 1
    mission = ledger.mission()
    assert (mission.state, mission.state_reason, mission.next_attempt_at) == ("waiting", "behind_others", None)
    assert (mission.attempt, mission.attempts_total) == (1, 2)
    [row] = ledger.attempts()
    assert (row.state, row.took_worker) == ("withdrawn", False)
    assert ledger.events() == ["published", "queued", "waiting"]
    assert ledger.detail("waiting")["withdrawn"] is True
    assert "desk-7 did not come for it" in ledger.detail("waiting")["error"]
    ledger.explain()
    assert ledger.mission().state_reason == "no_live_factory"

    ledger.beat("desk-8")
    assert ledger.dispatch() == 1
    ledger.report(ledger.attempt_of())
    ledger.collect()
    assert (ledger.state(), ledger.mission().result["attempts"]) == ("succeeded", 1)


def test_attempts_left_and_backoff_do_not_count_what_was_withdrawn(ledger: LedgerAtWork) -> None:
    """S-27, S-29."""
    [attempt] = ledger.hand_out("j-1", max_retries=2)
    go_away(ledger)
    ledger.lapse(attempt)
    ledger.rescue()
    ledger.beat("desk-8")
    ledger.dispatch()
    ledger.report(ledger.attempt_of(), Failed("exit code 2"))
    ledger.collect()

    assert ledger.state() == "waiting"
    assert ledger.detail("retry_scheduled")["delay_seconds"] == POLICY.delay_seconds(1, 0.5)
    ledger.end_backoff()
    ledger.dispatch()
    ledger.report(ledger.attempt_of(), Failed("exit code 2"))
    ledger.collect()
    assert (ledger.state(), ledger.mission().result["attempts"]) == ("failed", 2)


def test_a_report_on_a_withdrawn_attempt_is_a_late_one(ledger: LedgerAtWork) -> None:
    """S-32: whoever ran it nevertheless changes nothing."""
    [attempt] = ledger.hand_out("j-1")
    go_away(ledger)
    ledger.lapse(attempt)
    ledger.rescue()
    ledger.report(attempt)
    ledger.collect()

    assert ledger.state() == "waiting"
    assert ledger.events()[-1] == "late_result"


def came_back(ledger: LedgerAtWork, message: AttemptMessage) -> None:
    ledger.broker.came_back.add(message.attempt_id)


def has_a_copy(ledger: LedgerAtWork, message: AttemptMessage) -> None:
    ledger.broker.take(message.queue)
    ledger.broker.send([message])


def was_sent_twice(ledger: LedgerAtWork, message: AttemptMessage) -> None:
    ledger.broker.lose(message.queue)
    ledger.lapse(message.attempt_id)
    assert ledger.look().resent == 1
    ledger.send()


@pytest.mark.parametrize("before", [came_back, has_a_copy, was_sent_twice])
def test_a_message_that_somebody_may_have_had_is_lost_when_it_is_taken_back(
    ledger: LedgerAtWork, before: Callable[[LedgerAtWork, AttemptMessage], None]
) -> None:
    """S-30: a single attempt is at most one; in doubt it was run."""
    [attempt] = ledger.hand_out("j-1", max_retries=0)
    before(ledger, ledger.broker.sent[0])
    go_away(ledger)
    ledger.lapse(attempt)

    assert ledger.rescue() == 1
    assert (ledger.state(), ledger.attempts()[0].state) == ("failed", "lost")
    assert ledger.broker.lying_in(QUEUE) == set(), "the returning factory would run it"


def test_a_crash_between_taking_back_and_the_commit_leaves_a_message_that_is_sent_again(ledger: LedgerAtWork) -> None:
    [attempt] = ledger.hand_out("j-1", max_retries=0)
    ledger.broker.withdraw(QUEUE, {attempt})
    ledger.lapse(attempt)

    assert ledger.look().resent == 1
    assert ledger.state() == "queued"


def test_a_mission_that_takes_three_workers_down_is_not_given_a_fourth(ledger: LedgerAtWork) -> None:
    """Whatever attempts are left (architecture §5)."""
    ledger.hand_out("j-1", max_retries=9)
    for number in range(3):
        ledger.broker.take(QUEUE)
        ledger.hear(ledger.attempt_of())
        if number == 1:
            ledger.report(ledger.attempt_of(), Lost("the process that ran it died"))
            ledger.collect(AT_ONCE)
        else:
            ledger.lapse(ledger.attempt_of())
            ledger.rescue(AT_ONCE)
        ledger.dispatch()
        ledger.send()

    mission = ledger.mission()
    assert (mission.state, mission.attempt) == ("failed", 3)
    assert mission.error.startswith("quarantined: it took its worker down 3 times")
    assert all(word in mission.error for word in ("log", "replay", "discard"))
    assert [(one.state, one.took_worker) for one in ledger.attempts()] == [("lost", True)] * 3
    assert ledger.events()[-2:] == ["attempt_lost", "failed"]
    [letter] = ledger.sql("SELECT cause, failure_error FROM corporation.dead_letters")
    assert (letter.cause, letter.failure_error) == ("failed", mission.error)


def test_what_a_factory_says_never_hides_that_a_mission_is_quarantined(ledger: LedgerAtWork) -> None:
    ledger.hand_out("j-1", max_retries=9)
    for _ in range(3):
        ledger.report(ledger.attempt_of(), Lost("x" * 100_000))
        ledger.collect(AT_ONCE)
        ledger.dispatch()

    assert ledger.mission().error.startswith("quarantined: it took its worker down 3 times")


def test_a_revoked_task_took_no_worker(ledger: LedgerAtWork) -> None:
    [attempt] = ledger.hand_out("j-1")
    ledger.fill(attempt, None, "REVOKED")
    ledger.collect()

    assert (ledger.attempts()[0].state, ledger.attempts()[0].took_worker) == ("lost", False)


def sweep(ledger: LedgerAtWork, after: str = "", limit: int = 100) -> Swept:
    with transaction(ledger.engine) as connection:
        return sweep_orphans(connection, ledger.broker, after, limit)


def test_a_message_whose_attempt_is_over_is_removed_and_no_other(ledger: LedgerAtWork) -> None:
    over, live = ledger.hand_out("j-1", "j-2")
    ledger.report(over, Done({}))
    ledger.collect()
    stranger = AttemptMessage(0, str(uuid4()), 1, QUEUE, "desk-7", "s-1", "general_task", 60, {})
    ledger.broker.send([stranger])
    ledger.broker.foreign = 2

    assert sweep(ledger) == Swept(removed=1, foreign=3, last_factory=None)
    assert ledger.broker.lying_in(QUEUE) == {live, stranger.attempt_id}
    assert sweep(ledger).removed == 0


def test_a_sweep_reads_as_many_queues_as_it_may_and_the_next_one_goes_on(ledger: LedgerAtWork) -> None:
    for factory_id in ("desk-1", "desk-2", "desk-3"):
        ledger.beat(factory_id)

    assert sweep(ledger, limit=2).last_factory == "desk-2"
    assert sweep(ledger, "desk-2", limit=2).last_factory is None


def test_orphans_are_looked_for_once_a_minute(ledger: LedgerAtWork) -> None:
    hands = Hands()
    sweeper = rescuer(ledger, hands)
    sweeper.tick()
    [attempt] = ledger.hand_out("j-1")
    ledger.report(attempt)
    ledger.collect()
    hands.now += 59
    sweeper.tick()
    assert ledger.broker.lying_in(QUEUE) == {attempt}
    hands.now += 1
    sweeper.tick()
    assert ledger.broker.lying_in(QUEUE) == set()


def test_a_broker_that_forgot_everything_is_filled_again_at_once(ledger: LedgerAtWork) -> None:
    attempts = ledger.hand_out("j-1", "j-2")
    sweeper = rescuer(ledger)
    sweeper.tick()
    ledger.sql("UPDATE corporation.attempts SET sends = :most", most=MOST_SENDS)
    ledger.broker.forget()
    sweeper.tick()

    assert sorted(outbox(ledger)) == sorted(attempts), "however often they were sent: they did not make it forget"
    ledger.send()
    assert ledger.broker.lying_in(QUEUE) == set(attempts)
    sweeper.tick()
    assert outbox(ledger) == []


def test_the_first_look_of_an_engine_is_for_everything_since_the_broker_may_have_forgotten_meanwhile(
    ledger: LedgerAtWork,
) -> None:
    attempts = ledger.hand_out("j-1", "j-2")
    ledger.broker.forget()
    rescuer(ledger).tick()

    assert sorted(outbox(ledger)) == sorted(attempts)


def test_between_restarts_a_message_that_was_just_sent_is_not_looked_for(ledger: LedgerAtWork) -> None:
    sweeper = rescuer(ledger)
    sweeper.tick()
    ledger.hand_out("j-1")
    ledger.broker.lose(QUEUE)
    sweeper.tick()

    assert outbox(ledger) == []
