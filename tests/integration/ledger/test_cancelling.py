"""A mission that somebody wants stopped: at once while nobody works on it, else when its factory has stopped it."""

from concurrent.futures import ThreadPoolExecutor
from unittest.mock import Mock

import pytest
from builders import submission
from ledger_at_work import AT_ONCE, LedgerAtWork

from corporation.db import transaction
from corporation.factories.staleness import Thresholds
from corporation.missions.cancel import Cancelling, CancelRefused
from corporation.missions.outbox import BrokerUnavailableError
from corporation.missions.outcomes import Cancelled, Done, Failed, Later, Lost, Outcome, Stop, TimedOut
from corporation.missions.store import cancelling
from corporation.missions.store.broadcasting import end_broadcasts, spread_one

QUEUE = "factory.desk-7"


def listen(ledger: LedgerAtWork) -> None:
    """The factory has a worker on its control queue."""
    ledger.beat(queues=[QUEUE, "desk-7.control"], slots=4)


def running(ledger: LedgerAtWork, job_id: str = "j-1", **changes: object) -> str:
    """An attempt that its factory, which listens on its control queue, works on."""
    [attempt] = ledger.hand_out(job_id, **changes)
    listen(ledger)
    ledger.broker.take(QUEUE)
    ledger.hear(attempt)
    return attempt


def outbox(ledger: LedgerAtWork) -> list[str]:
    return [row.topic for row in ledger.sql("SELECT topic FROM corporation.outbox ORDER BY id")]


def test_a_waiting_mission_is_cancelled_at_once(ledger: LedgerAtWork) -> None:
    ledger.publish("j-1")

    assert ledger.cancel("j-1", "not needed") == Cancelling("j-1", "cancelled")
    mission = ledger.mission()
    assert (mission.state, mission.error, mission.cancel_reason) == ("cancelled", "not needed", "not needed")
    assert mission.result == {
        "mission_id": "j-1", "mission_kind": "general_task", "attempts": 0, "terminal_status": "cancelled"
    }  # fmt: skip
    assert ledger.events() == ["published", "cancelled"]
    assert ledger.detail("cancelled") == {"error": "not needed"}


def test_what_is_cancelled_is_told_on_the_results_stream_and_is_no_dead_letter(ledger: LedgerAtWork) -> None:
    """Contract streams, section 6."""
    ledger.publish("j-1")
    ledger.cancel("j-1")

    assert ledger.sql("SELECT mission_id, dead_letter_id FROM corporation.stream_outbox") == [
        (ledger.mission().id, None)
    ]
    assert not ledger.sql("SELECT 1 FROM corporation.dead_letters")


def test_a_mission_between_two_attempts_is_cancelled_at_once(ledger: LedgerAtWork) -> None:
    ledger.report(running(ledger), Failed("no"))
    ledger.collect()

    assert ledger.cancel("j-1") == Cancelling("j-1", "cancelled")
    ledger.end_backoff()
    assert ledger.dispatch() == 0


def test_a_queued_mission_is_not_sent_any_more(ledger: LedgerAtWork) -> None:
    listen(ledger)
    ledger.publish("j-1")
    ledger.dispatch()

    assert ledger.cancel("j-1") == Cancelling("j-1", "cancelled")
    assert outbox(ledger) == ["stop"]
    ledger.send()
    assert ledger.broker.sent == []
    assert [one.state for one in ledger.attempts()] == ["cancelled"]


def test_a_message_that_lies_in_its_queue_is_taken_back_and_its_factory_not_bothered(ledger: LedgerAtWork) -> None:
    ledger.hand_out("j-1", "j-2")
    listen(ledger)

    ledger.cancel("j-1")
    ledger.send()
    assert ledger.broker.lying_in(QUEUE) == {ledger.attempt_of("j-2")}
    assert (ledger.broker.stopped, outbox(ledger)) == ([], [])


def test_a_factory_that_took_a_queued_message_is_told(ledger: LedgerAtWork) -> None:
    [attempt] = ledger.hand_out("j-1")
    listen(ledger)
    ledger.broker.take(QUEUE)

    ledger.cancel("j-1", "not needed")
    ledger.send()
    [order] = ledger.broker.stopped
    assert (order.attempt_id, order.control_queue, order.reason) == (attempt, "desk-7.control", "not needed")


def test_what_it_did_all_the_same_comes_too_late(ledger: LedgerAtWork) -> None:
    """S-32."""
    [attempt] = ledger.hand_out("j-1")
    ledger.broker.take(QUEUE)
    ledger.cancel("j-1")

    assert ledger.hear(attempt) == {}
    ledger.report(attempt, Done({}))
    ledger.collect()
    assert ledger.events() == ["published", "queued", "cancelled", "late_result"]


def test_a_running_mission_is_asked_to_stop_and_ends_when_its_factory_has(ledger: LedgerAtWork) -> None:
    attempt = running(ledger)

    assert ledger.cancel("j-1", "wrong repository") == Cancelling("j-1", "running")
    ledger.send()
    assert [order.attempt_id for order in ledger.broker.stopped] == [attempt]
    assert ledger.hear(attempt)[attempt].cancel_reason == "wrong repository"

    ledger.report(attempt, Cancelled("wrong repository", {"output": "half of it"}))
    ledger.collect()
    mission = ledger.mission()
    assert (mission.state, mission.error) == ("cancelled", "wrong repository")
    assert (mission.result["output"], mission.result["terminal_status"]) == ("half of it", "cancelled")
    assert ledger.events() == ["published", "queued", "started", "cancel_requested", "cancelled"]
    assert [one.state for one in ledger.attempts()] == ["cancelled"]


def test_a_factory_that_does_not_listen_is_sent_nothing_and_hears_of_it_with_its_next_word(
    ledger: LedgerAtWork,
) -> None:
    attempt = running(ledger)
    ledger.beat(queues=[QUEUE])

    ledger.cancel("j-1")
    ledger.send()
    assert (ledger.broker.stopped, outbox(ledger)) == ([], [])
    assert ledger.hear(attempt)[attempt].cancel_reason == "stopped by operator"


@pytest.mark.parametrize(
    "outcome", [Failed("no"), Later(5, "busy"), Stop("never"), TimedOut("too slow"), Lost("it died")]
)
def test_however_its_attempt_ends_it_is_not_tried_again(ledger: LedgerAtWork, outcome: Outcome) -> None:
    """S-30."""
    attempt = running(ledger, max_retries=10)
    ledger.cancel("j-1")
    ledger.report(attempt, outcome)
    ledger.collect(AT_ONCE)

    assert ledger.state() == "cancelled"
    assert ledger.mission().error == "stopped by operator"


def test_work_that_was_done_before_it_could_be_stopped_counts(ledger: LedgerAtWork) -> None:
    attempt = running(ledger)
    ledger.cancel("j-1")
    ledger.report(attempt, Done({"output": "all of it"}))
    ledger.collect()

    assert ledger.state() == "succeeded"
    with pytest.raises(CancelRefused, match="succeeded already"):
        ledger.cancel("j-1")


def test_a_factory_that_never_answers_does_not_hold_it_longer_than_its_lease(ledger: LedgerAtWork) -> None:
    attempt = running(ledger)
    ledger.cancel("j-1")
    ledger.lapse(attempt)
    ledger.rescue()

    assert ledger.state() == "cancelled"
    assert ledger.events()[-3:] == ["cancel_requested", "attempt_lost", "cancelled"]
    assert [one.state for one in ledger.attempts()] == ["lost"]


def test_cancelling_twice_changes_nothing_and_the_first_reason_stays(ledger: LedgerAtWork) -> None:
    running(ledger, "j-1")
    ledger.publish("j-2")
    for job_id in ("j-1", "j-2"):
        first = ledger.cancel(job_id, "first")
        before = ledger.mission(job_id)
        assert ledger.cancel(job_id, "second") == first
        assert ledger.mission(job_id) == before


def test_an_order_that_cannot_be_sent_holds_up_no_attempt(
    ledger: LedgerAtWork, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits; the attempts are sent once and not with every try."""
    running(ledger, "j-1")
    ledger.cancel("j-1")
    ledger.publish("j-2")
    ledger.dispatch()
    monkeypatch.setattr(ledger.broker, "stop", Mock(side_effect=BrokerUnavailableError("no")))

    ledger.send()
    assert (len(ledger.broker.sent), outbox(ledger)) == (2, ["stop"])
    with pytest.raises(BrokerUnavailableError):
        ledger.send()
    assert len(ledger.broker.sent) == 2


def test_a_factory_that_was_told_is_told_once_more_when_somebody_asks_again(ledger: LedgerAtWork) -> None:
    running(ledger)
    for _ in range(2):
        ledger.cancel("j-1")
        ledger.send()

    assert len(ledger.broker.stopped) == 2


def test_what_has_ended_otherwise_cannot_be_cancelled(ledger: LedgerAtWork) -> None:
    ledger.report(running(ledger), Stop("no such repository"))
    ledger.collect()

    with pytest.raises(CancelRefused, match="the mission is failed already"):
        ledger.cancel("j-1")


def test_nobody_is_cancelled_whom_nobody_knows(ledger: LedgerAtWork) -> None:
    assert ledger.cancel("j-404") is None


def test_a_mission_is_cancelled_by_any_of_its_names(ledger: LedgerAtWork) -> None:
    ledger.submit(submission("j-1", source="redis_bridge", idempotency_key="one-key"))
    ledger.submit(submission("j-2", source="redis_bridge", idempotency_key="one-key"))

    assert ledger.cancel("j-2") == Cancelling("j-1", "cancelled")


def test_ten_who_cancel_at_once_cancel_once(ledger: LedgerAtWork) -> None:
    running(ledger, "j-1")
    ledger.publish("j-2")
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(ledger.cancel, ["j-1", "j-2"] * 5))

    assert set(answers) == {Cancelling("j-1", "running"), Cancelling("j-2", "cancelled")}
    assert ledger.events("j-1").count("cancel_requested") == ledger.events("j-2").count("cancelled") == 1


def test_a_beat_is_answered_with_what_is_to_stop_and_why(ledger: LedgerAtWork) -> None:
    """Contract fleet, section 3."""
    attempt = running(ledger)
    ledger.cancel("j-1", "wrong repository")

    with transaction(ledger.engine) as connection:
        assert cancelling.to_stop(connection, "desk-7", 10) == [
            cancelling.ToStop(attempt, "j-1", "wrong repository")
        ]  # fmt: skip
        assert cancelling.to_stop(connection, "desk-9", 10) == []
        assert cancelling.reasons(connection, "desk-7", [attempt]) == {attempt: "wrong repository"}
        assert cancelling.reasons(connection, "desk-9", [attempt]) == {}


def broadcast(ledger: LedgerAtWork) -> list[str]:
    """An order to two factories, of which none has begun; the children's names."""
    ledger.beat("desk-7")
    ledger.beat("desk-9")
    ledger.submit(submission("p", "ops", mission_kind="system:pause_factory"))
    with transaction(ledger.engine) as connection:
        assert spread_one(connection, Thresholds())
    return ["p.desk-7", "p.desk-9"]


def begun(ledger: LedgerAtWork, job_id: str, factory_id: str) -> str:
    """By hand: no factory is sent system kinds yet."""
    [row] = ledger.sql(
        """WITH m AS (UPDATE corporation.missions SET state = 'running', state_reason = NULL, attempt = 1,
                             attempt_id = gen_random_uuid(), factory_id = :factory_id, started_at = now(),
                             event_seq = event_seq + 2
                       WHERE job_id = :job_id RETURNING id, attempt_id, event_seq),
                a AS (INSERT INTO corporation.attempts
                             (id, mission_id, number, factory_id, queue, state, started_at, lease_expires_at)
                      SELECT attempt_id, id, 1, :factory_id, 'factory.' || :factory_id, 'running', now(),
                             now() + interval '1 minute' FROM m),
                b AS (INSERT INTO mailbox.celery_taskmeta (task_id, name, queue, factory)
                      SELECT attempt_id, 'mission.x', 'factory.' || :factory_id, :factory_id FROM m)
           INSERT INTO corporation.mission_events (mission_id, seq, type, attempt, factory_id)
           SELECT id, event_seq - 2 + n, CASE n WHEN 1 THEN 'queued' ELSE 'started' END, 1, :factory_id
             FROM m, generate_series(1, 2) AS n
           RETURNING (SELECT attempt_id FROM m)""",
        job_id=job_id,
        factory_id=factory_id,
    )[:1]
    return str(row.attempt_id)


def test_an_order_to_all_is_cancelled_with_its_children(ledger: LedgerAtWork) -> None:
    names = broadcast(ledger)

    assert ledger.cancel("p", "changed my mind") == Cancelling("p", "cancelled")
    assert [ledger.state(name) for name in names] == ["cancelled", "cancelled"]
    assert ledger.mission("p").error == "changed my mind"


def test_an_order_that_was_not_spread_yet_reaches_nobody(ledger: LedgerAtWork) -> None:
    ledger.beat()
    ledger.submit(submission("p", "ops", mission_kind="system:pause_factory"))

    assert ledger.cancel("p") == Cancelling("p", "cancelled")
    with transaction(ledger.engine) as connection:
        assert not spread_one(connection, Thresholds())


def test_an_order_to_all_waits_for_the_child_that_runs(ledger: LedgerAtWork) -> None:
    broadcast(ledger)
    attempt = begun(ledger, "p.desk-7", "desk-7")

    assert ledger.cancel("p") == Cancelling("p", "waiting")
    assert (ledger.state("p.desk-7"), ledger.state("p.desk-9")) == ("running", "cancelled")
    ledger.report(attempt, Cancelled("stopped by operator"))
    ledger.collect()
    with transaction(ledger.engine) as connection:
        assert end_broadcasts(connection) == 1
    assert ledger.state("p") == "cancelled"


def test_one_child_can_be_cancelled_alone(ledger: LedgerAtWork) -> None:
    broadcast(ledger)

    assert ledger.cancel("p.desk-7") == Cancelling("p.desk-7", "cancelled")
    assert (ledger.state("p"), ledger.state("p.desk-9")) == ("waiting", "waiting")
