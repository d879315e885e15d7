"""What a factory in quarantine holds is given up at once and goes elsewhere; what it says of it ends nothing."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from ledger_at_work import POLICY, LedgerAtWork

from corporation.db import transaction
from corporation.engine.rescuer import Rescuer
from corporation.factories import access
from corporation.missions.collect import collect_some
from corporation.missions.evict import evict_some
from corporation.missions.outbox import BrokerUnavailableError
from corporation.missions.outcomes import Cancelled, Done, Failed, Lost, Outcome, Stop, to_report
from corporation.missions.queues import TakenBack

QUEUE = "factory.desk-7"


def quarantine(ledger: LedgerAtWork) -> None:
    with transaction(ledger.engine) as connection:
        assert access.quarantine(connection, "desk-7", "ana", "stolen")


def release(ledger: LedgerAtWork) -> None:
    with transaction(ledger.engine) as connection:
        assert access.release(connection, "desk-7", "ana")


def running(ledger: LedgerAtWork, *job_ids: str, **changes: int) -> list[str]:
    """Missions that `desk-7` is at work on."""
    attempts = ledger.hand_out(*job_ids, **changes)
    ledger.broker.take(QUEUE)
    ledger.hear(*attempts)
    return attempts


def elsewhere(ledger: LedgerAtWork, job_id: str = "j-1") -> str:
    """The mission's next attempt, at a factory that is trusted, reported as done."""
    ledger.beat("desk-8")
    assert ledger.dispatch() == 1
    ledger.send()
    attempt = ledger.attempt_of(job_id)
    ledger.report(attempt)
    ledger.collect()
    return attempt


def test_what_it_runs_is_lost_and_done_elsewhere_without_a_wait(ledger: LedgerAtWork) -> None:
    running(ledger, "j-1")
    quarantine(ledger)

    assert ledger.evict() == 1
    assert ledger.detail("attempt_lost")["error"] == "lost: desk-7 was put into quarantine"
    assert [(one.state, one.took_worker) for one in ledger.attempts()] == [("lost", False)]
    elsewhere(ledger)
    assert (ledger.state(), ledger.mission().factory_id) == ("succeeded", "desk-8")


def test_what_it_claimed_and_never_began_is_lost_too(ledger: LedgerAtWork) -> None:
    ledger.hand_out("j-1")
    ledger.broker.take(QUEUE)
    ledger.sql("UPDATE corporation.missions SET state = 'claimed'")
    ledger.sql("UPDATE corporation.attempts SET state = 'claimed', claimed_at = now()")
    quarantine(ledger)

    assert ledger.evict() == 1
    assert (ledger.state(), [one.state for one in ledger.attempts()]) == ("waiting", ["lost"])


def test_a_message_that_it_took_without_a_word_is_not_waited_for(ledger: LedgerAtWork) -> None:
    ledger.hand_out("j-1")
    ledger.broker.take(QUEUE)
    quarantine(ledger)

    assert ledger.recall() == 0, "a worker has it"
    assert ledger.evict() == 1
    assert (ledger.state(), [one.state for one in ledger.attempts()]) == ("waiting", ["lost"])


def test_a_message_that_still_lay_in_its_queue_uses_up_nothing(ledger: LedgerAtWork) -> None:
    ledger.hand_out("j-1", max_retries=1)
    quarantine(ledger)

    assert ledger.evict() == 1
    assert ledger.broker.lying_in(QUEUE) == set()
    assert (ledger.state(), [one.state for one in ledger.attempts()]) == ("waiting", ["withdrawn"])


def test_what_waits_in_a_queue_is_left_alone_where_nobody_could_look(ledger: LedgerAtWork) -> None:
    ledger.hand_out("j-1")
    quarantine(ledger)

    assert ledger.evict(queued_too=False) == 0
    assert ledger.state() == "queued"


def test_a_mission_that_may_be_tried_once_fails_as_lost(ledger: LedgerAtWork) -> None:
    """At most once means that it may have been done there."""
    running(ledger, "j-1", max_retries=0)
    quarantine(ledger)

    assert ledger.evict() == 1
    assert (ledger.state(), ledger.mission().error) == ("failed", "lost: desk-7 was put into quarantine")


def test_a_mission_that_is_to_be_cancelled_is_cancelled(ledger: LedgerAtWork) -> None:
    running(ledger, "j-1")
    ledger.cancel("j-1", "not needed")
    quarantine(ledger)

    assert ledger.evict() == 1
    assert (ledger.state(), ledger.mission().error) == ("cancelled", "not needed")


def test_a_report_that_already_lay_in_the_mailbox_is_evidence_and_no_end(ledger: LedgerAtWork) -> None:
    [attempt] = running(ledger, "j-1")
    ledger.report(attempt, Done({"summary": "mine"}))
    quarantine(ledger)
    assert ledger.evict() == 1
    ledger.collect()

    assert ledger.state() == "waiting"
    assert "late_result" in ledger.events()
    assert elsewhere(ledger) != attempt
    assert ledger.events().count("succeeded") == 1


def test_three_quarantines_are_no_three_lost_workers(ledger: LedgerAtWork) -> None:
    ledger.publish("j-1", max_retries=5)
    for _ in range(3):
        ledger.beat()
        assert ledger.dispatch() == 1
        ledger.send()
        ledger.broker.take(QUEUE)
        ledger.hear(ledger.attempt_of())
        quarantine(ledger)
        assert ledger.evict() == 1
        release(ledger)

    assert ledger.state() == "waiting"


def test_who_is_let_back_in_hears_that_nobody_counts_on_what_it_ran(ledger: LedgerAtWork) -> None:
    [attempt] = running(ledger, "j-1")
    quarantine(ledger)
    ledger.evict()
    release(ledger)

    assert ledger.hear(attempt) == {}, "it is to stop"
    assert ledger.state() == "waiting"


OUTCOMES = [Done({"summary": "mine"}), Failed("boom"), Stop("no"), Lost("died"), Cancelled("stopped")]


@pytest.mark.parametrize("outcome", OUTCOMES, ids=lambda one: type(one).__name__)
@pytest.mark.parametrize("meanwhile", ["it waits", "another runs it", "another has done it"])
def test_what_the_processes_of_a_released_factory_still_bring_home_is_kept_and_changes_nothing(
    ledger: LedgerAtWork, outcome: Outcome, meanwhile: str
) -> None:
    """They ran on behind the closed door, and report once it is open."""
    [attempt] = running(ledger, "j-1")
    quarantine(ledger)
    ledger.evict()
    if meanwhile != "it waits":
        ledger.beat("desk-8")
        ledger.dispatch()
        ledger.send()
        ledger.hear(ledger.attempt_of(), factory_id="desk-8")
    if meanwhile == "another has done it":
        ledger.report(ledger.attempt_of(), Done({"summary": "theirs"}))
        ledger.collect()
    release(ledger)
    before = ledger.mission()
    ledger.report(attempt, outcome)
    ledger.collect()
    after = ledger.mission()

    told = [
        (row.state, row.attempt, row.factory_id, row.result, row.error, row.next_attempt_at) for row in (before, after)
    ]
    assert told[0] == told[1]
    first = ledger.attempts()[0]
    assert (first.state, first.adopted, first.outcome["outcome"]) == ("lost", False, to_report(outcome)["outcome"])
    assert ledger.events().count("late_result") == 1
    assert [one.state for one in ledger.attempts()].count("lost") == 1


def test_a_released_factory_may_run_its_own_mission_again_and_only_the_new_attempt_counts(
    ledger: LedgerAtWork,
) -> None:
    """Nobody else was there: the old process and the new one work side by side, and one of them is heard."""
    [old] = running(ledger, "j-1")
    quarantine(ledger)
    ledger.evict()
    release(ledger)
    ledger.beat()
    assert ledger.dispatch() == 1
    ledger.send()
    new = ledger.attempt_of()
    ledger.broker.take(QUEUE)

    assert ledger.hear(old, new).keys() == {new}
    ledger.report(old, Done({"summary": "old"}))
    ledger.collect()
    assert ledger.state() == "running"
    ledger.report(new, Done({"summary": "new"}))
    ledger.collect()
    assert (ledger.state(), ledger.mission().result["summary"]) == ("succeeded", "new")


def test_a_queue_that_could_not_be_asked_takes_nothing_away_from_what_may_lie_there(
    ledger: LedgerAtWork, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One slow queue may end the asking of all."""
    ledger.hand_out("j-1")

    def too_slow(_queue: str, _attempts: object) -> TakenBack:
        raise BrokerUnavailableError("it did not answer in time")

    quarantine(ledger)
    with monkeypatch.context() as patch:
        patch.setattr(ledger.broker, "withdraw", too_slow)
        assert ledger.evict() == 0
        assert ledger.state() == "queued"
    assert ledger.evict() == 1
    assert [one.state for one in ledger.attempts()] == ["withdrawn"]


def test_a_factory_that_is_trusted_keeps_what_it_runs(ledger: LedgerAtWork) -> None:
    running(ledger, "j-1")
    with transaction(ledger.engine) as connection:
        access.quarantine(connection, "desk-8", "ana", None)

    assert ledger.evict() == 0
    assert ledger.state() == "running"


def test_two_engines_give_up_what_one_factory_holds_once(ledger: LedgerAtWork) -> None:
    running(ledger, "j-1", "j-2")
    quarantine(ledger)

    def one(_: int) -> int:
        with transaction(ledger.engine) as connection:
            return evict_some(connection, ledger.broker, POLICY, lambda: 0.5, 200)

    with ThreadPoolExecutor(2) as pool:
        assert sum(pool.map(one, range(2))) == 2
    for job in ("j-1", "j-2"):
        assert ledger.events(job).count("attempt_lost") == 1


def test_a_report_that_was_being_read_when_the_quarantine_came_ends_its_mission_and_is_not_given_up(
    ledger: LedgerAtWork, wait_until: Callable[..., object]
) -> None:
    [attempt] = running(ledger, "j-1")
    ledger.report(attempt)
    with ThreadPoolExecutor(1) as pool:
        with transaction(ledger.engine) as connection:
            collect_some(connection, POLICY, lambda: 0.5, 10)
            quarantine(ledger)
            evicted = pool.submit(ledger.evict)
            waits = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            wait_until(lambda: ledger.sql(waits), 10, "the eviction waits for the mission")
        assert evicted.result(10) == 0
    assert (ledger.state(), ledger.events().count("attempt_lost")) == ("succeeded", 0)


@pytest.mark.parametrize("batch", [1, 200])
def test_the_rescuer_does_it_when_it_is_woken(ledger: LedgerAtWork, batch: int) -> None:
    running(ledger, "j-1", "j-2")
    quarantine(ledger)
    rescuer = Rescuer(ledger.engine, ledger.broker, POLICY, 180.0, lambda: 0.5, lambda: 1000.0, batch)

    assert rescuer.tick() is (batch == 1), "a full batch asks for another sweep at once"
    while rescuer.tick():
        pass
    assert {ledger.state(job) for job in ("j-1", "j-2")} == {"waiting"}
