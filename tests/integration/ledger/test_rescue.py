"""An attempt nobody speaks of is given up, but never because HQ or the broker was away."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest
from ledger_at_work import AT_ONCE, POLICY, LedgerAtWork

from corporation.db import transaction
from corporation.engine.rescuer import Rescuer
from corporation.missions.outbox import BrokerUnavailableError
from corporation.missions.outcomes import Done, Lost
from corporation.missions.rebuild import rebuild_queues
from corporation.missions.rescue import LookedAfter, rescue_some
from corporation.missions.retry import RetryPolicy
from corporation.missions.store.leases import Sign, renew

LEASE = 180.0


class Hands:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def rescuer(ledger: LedgerAtWork, monotonic: Callable[[], float], batch: int = 200) -> Rescuer:
    return Rescuer(ledger.engine, ledger.broker, POLICY, LEASE, lambda: 0.5, monotonic, batch)


def taken(ledger: LedgerAtWork, *job_ids: str) -> list[str]:
    """Attempts that a factory took from its queue."""
    attempts = ledger.hand_out(*job_ids)
    ledger.broker.take("factory.desk-7")
    return attempts


def test_a_silent_attempt_is_lost_and_followed_by_another(ledger: LedgerAtWork) -> None:
    """S-30."""
    [attempt] = taken(ledger, "j-1")
    ledger.lapse(attempt)

    assert ledger.rescue() == 1
    assert (ledger.state(), ledger.mission().state_reason) == ("waiting", "backoff")
    assert ledger.events() == ["published", "queued", "attempt_lost", "retry_scheduled"]
    assert ledger.detail("attempt_lost")["error"] == "lost: desk-7 was silent for longer than its lease"


def test_a_silent_running_attempt_is_lost_too(ledger: LedgerAtWork) -> None:
    [attempt] = taken(ledger, "j-1")
    ledger.hear(attempt)
    ledger.lapse(attempt)

    assert ledger.rescue() == 1
    assert ledger.events() == ["published", "queued", "started", "attempt_lost", "retry_scheduled"]


def test_a_mission_whose_last_attempt_fell_silent_fails_as_lost(ledger: LedgerAtWork) -> None:
    attempts = ledger.hand_out("j-1", max_retries=1)
    ledger.broker.take("factory.desk-7")
    ledger.lapse(*attempts)

    assert ledger.rescue() == 1
    mission = ledger.mission()
    assert (mission.state, mission.started_at) == ("failed", None)
    assert mission.error == "lost: desk-7 was silent for longer than its lease"
    assert mission.result["terminal_status"] == "failed"
    assert ledger.events() == ["published", "queued", "attempt_lost", "failed"]


def test_a_message_that_is_taken_and_never_spoken_of_again_is_not_tried_for_ever(ledger: LedgerAtWork) -> None:
    ledger.hand_out("j-1", max_retries=4)
    for _ in range(4):
        ledger.broker.take("factory.desk-7")
        ledger.lapse(ledger.attempt_of())
        ledger.rescue(AT_ONCE)
        ledger.dispatch()
        ledger.send()

    assert (ledger.state(), ledger.mission().attempt) == ("failed", 4)
    assert ledger.mission().error.startswith("lost: "), "no worker is known to have died of it"


def test_a_lease_that_is_not_over_is_left_alone(ledger: LedgerAtWork) -> None:
    taken(ledger, "j-1")

    assert ledger.rescue() == 0
    assert ledger.state() == "queued"


def test_an_attempt_still_in_the_outbox_cannot_have_been_lost(ledger: LedgerAtWork) -> None:
    ledger.beat()
    ledger.publish("j-1")
    ledger.dispatch()
    ledger.lapse(ledger.attempt_of())

    assert ledger.rescue() == 0
    assert ledger.state() == "queued"


def test_what_was_given_up_is_not_given_up_again(ledger: LedgerAtWork) -> None:
    [attempt] = taken(ledger, "j-1")
    ledger.lapse(attempt)

    assert [ledger.rescue(), ledger.rescue()] == [1, 0]


def test_only_as_many_are_given_up_at_once_as_asked_for_the_longest_silent_first(ledger: LedgerAtWork) -> None:
    first, second = taken(ledger, "j-1", "j-2")
    ledger.lapse(second)
    ledger.lapse(first)

    assert ledger.rescue(limit=1) == 1
    assert (ledger.state("j-1"), ledger.state("j-2")) == ("queued", "waiting")


def test_a_report_that_arrived_but_was_not_read_yet_is_no_silence(ledger: LedgerAtWork) -> None:
    [attempt] = taken(ledger, "j-1")
    ledger.report(attempt, Done({}))
    ledger.lapse(attempt)

    assert ledger.rescue() == 0
    ledger.collect()
    assert ledger.state() == "succeeded"


@pytest.mark.parametrize("change", ["last_seen_at = now() - interval '3 days'", "slots = 0"])
def test_a_factory_that_will_not_come_for_its_messages_does_not_hold_them(ledger: LedgerAtWork, change: str) -> None:
    ledger.beat()
    ledger.publish("j-1")
    ledger.dispatch()
    ledger.send()
    ledger.sql(f"UPDATE corporation.factories SET {change}")  # noqa: S608
    ledger.lapse(ledger.attempt_of())

    assert ledger.look().lying == 0
    assert ledger.rescue() == 1
    assert ledger.state() == "waiting"
    assert ledger.broker.lying_in("factory.desk-7") == set(), "the returning factory would run it"
    assert ledger.attempts()[0].state == "withdrawn"


def blocked(ledger: LedgerAtWork) -> bool:
    """Whether somebody waits for a lock in this ledger."""
    statement = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    return bool(ledger.sql(statement))


def test_a_renewal_that_came_first_saves_the_attempt_even_when_the_rescue_had_begun(
    ledger: LedgerAtWork, wait_until: Callable[..., object]
) -> None:
    [attempt] = taken(ledger, "j-1")
    ledger.lapse(attempt)
    with ThreadPoolExecutor(1) as pool:
        with transaction(ledger.engine) as connection:
            renew(connection, "desk-7", [Sign(UUID(attempt))], LEASE)
            rescued = pool.submit(ledger.rescue)
            wait_until(lambda: blocked(ledger), 10, "the rescue waits for the beat")
        assert rescued.result(10) == 0

    assert ledger.events() == ["published", "queued", "started"]


def test_a_rescue_that_came_first_makes_a_waiting_report_a_late_one(
    ledger: LedgerAtWork, wait_until: Callable[..., object]
) -> None:
    [attempt] = taken(ledger, "j-1")
    ledger.lapse(attempt)
    with ThreadPoolExecutor(1) as pool:
        with transaction(ledger.engine) as connection:
            assert rescue_some(connection, ledger.broker, POLICY, lambda: 0.5, 200, LEASE) == 1
            ledger.report(attempt)
            collected = pool.submit(ledger.collect)
            wait_until(lambda: blocked(ledger), 10, "the collector waits for the rescue")
        assert collected.result(10) == 1

    assert ledger.events() == ["published", "queued", "attempt_lost", "retry_scheduled", "late_result"]


def test_a_rescue_that_came_first_is_told_to_a_factory_that_renews_too_late(
    ledger: LedgerAtWork, wait_until: Callable[..., object]
) -> None:
    [attempt] = taken(ledger, "j-1")
    ledger.lapse(attempt)
    with ThreadPoolExecutor(1) as pool:
        with transaction(ledger.engine) as connection:
            rescue_some(connection, ledger.broker, POLICY, lambda: 0.5, 200, LEASE)
            renewed = pool.submit(ledger.hear, attempt)
            wait_until(lambda: blocked(ledger), 10, "the beat waits for the rescue")
        assert renewed.result(10) == {}

    assert ledger.state() == "waiting"


def test_a_message_that_still_lies_in_its_queue_is_renewed(ledger: LedgerAtWork) -> None:
    [attempt] = ledger.hand_out("j-1")
    ledger.lapse(attempt)

    assert ledger.look().lying == 1
    assert ledger.attempts()[0].lease_left.total_seconds() > 170
    assert ledger.rescue() == 0


def test_a_message_that_was_taken_is_neither_renewed_nor_sent_again(ledger: LedgerAtWork) -> None:
    [attempt] = taken(ledger, "j-1")
    ledger.lapse(attempt)

    assert ledger.look() == LookedAfter(lying=0, resent=0)
    assert ledger.rescue() == 1


def test_a_lease_with_much_time_left_is_not_asked_about(ledger: LedgerAtWork) -> None:
    ledger.hand_out("j-1")

    assert ledger.look(lease_seconds=180).lying == 0


def test_a_message_lying_in_another_factorys_queue_renews_nothing(ledger: LedgerAtWork) -> None:
    [attempt] = ledger.hand_out("j-1")
    ledger.sql("UPDATE corporation.attempts SET queue = 'elsewhere'")
    ledger.lapse(attempt)

    assert ledger.look().lying == 0
    ledger.sql("UPDATE corporation.attempts SET queue = 'factory.desk-7'")


def test_the_first_sweep_extends_every_lease_since_nobody_could_renew_while_hq_was_away(ledger: LedgerAtWork) -> None:
    [attempt] = taken(ledger, "j-1")
    ledger.lapse(attempt)
    sweeper = rescuer(ledger, Hands())

    assert not sweeper.tick()
    assert ledger.state() == "queued"
    assert ledger.attempts()[0].lease_left.total_seconds() > LEASE - 10
    ledger.lapse(attempt)
    sweeper.tick()
    assert ledger.state() == "waiting"


@pytest.mark.parametrize(
    ("gap_seconds", "state"), [(LEASE, "queued"), (5, "waiting")], ids=["a long gap", "the ordinary rhythm"]
)
def test_leases_are_extended_after_a_long_gap_between_sweeps_and_not_in_their_ordinary_rhythm(
    ledger: LedgerAtWork, gap_seconds: float, state: str
) -> None:
    [attempt] = taken(ledger, "j-1")
    hands = Hands()
    sweeper = rescuer(ledger, hands)
    sweeper.tick()
    ledger.lapse(attempt)
    hands.now += gap_seconds
    sweeper.tick()

    assert ledger.state() == state


def test_a_longer_lease_is_never_cut_short_by_the_extension(ledger: LedgerAtWork) -> None:
    taken(ledger, "j-1")
    ledger.sql("UPDATE corporation.attempts SET lease_expires_at = now() + interval '1 hour'")
    rescuer(ledger, Hands()).tick()

    assert ledger.attempts()[0].lease_left.total_seconds() > 3500


def test_while_no_factory_is_heard_nothing_is_given_up_since_hq_may_be_deaf(ledger: LedgerAtWork) -> None:
    [attempt] = taken(ledger, "j-1")
    sweeper = rescuer(ledger, Hands())
    sweeper.tick()
    ledger.lapse(attempt)
    ledger.sql("UPDATE corporation.factories SET last_seen_at = now() - interval '181 seconds'")
    sweeper.tick()

    assert ledger.state() == "queued"
    ledger.beat("another")
    sweeper.tick()
    assert ledger.state() == "waiting"


def test_while_the_broker_is_away_nothing_is_given_up(ledger: LedgerAtWork) -> None:
    [attempt] = taken(ledger, "j-1")
    sweeper = rescuer(ledger, Hands())
    sweeper.tick()
    ledger.lapse(attempt)
    ledger.broker.away = True
    sweeper.tick()

    assert ledger.state() == "queued"
    ledger.broker.away = False
    sweeper.tick()
    assert ledger.state() == "waiting"


def test_asking_a_broker_that_is_away_says_so(ledger: LedgerAtWork) -> None:
    [attempt] = ledger.hand_out("j-1")
    ledger.lapse(attempt)
    ledger.broker.away = True

    with pytest.raises(BrokerUnavailableError):
        ledger.look()


def test_a_full_batch_asks_for_another_sweep_at_once(ledger: LedgerAtWork) -> None:
    attempts = taken(ledger, "j-1", "j-2", "j-3")
    sweeper = rescuer(ledger, Hands(), batch=2)
    sweeper.tick()
    ledger.lapse(*attempts)

    assert [sweeper.tick(), sweeper.tick()] == [True, False]


def test_what_a_silent_factory_has_in_its_queue_is_not_waited_for_longer_than_what_it_runs(
    ledger: LedgerAtWork,
) -> None:
    """Its lease ends, and the message, which nobody received, goes to another factory and uses up no attempt."""
    [attempt] = ledger.hand_out("j-1", max_retries=1)
    ledger.beat("desk-8", slots=0)
    ledger.sql("UPDATE corporation.factories SET last_seen_at = now() - interval '181 s' WHERE factory_id = 'desk-7'")
    sweeper = rescuer(ledger, Hands())
    sweeper.tick()
    assert ledger.state() == "queued", "silence alone takes nothing away (F-17)"
    ledger.lapse(attempt)
    sweeper.tick()

    assert (ledger.state(), ledger.attempts()[0].state) == ("waiting", "withdrawn")
    ledger.beat("desk-8")
    assert ledger.dispatch() == 1


def test_the_lease_that_ran_out_counts_towards_the_wait_before_the_next_attempt(ledger: LedgerAtWork) -> None:
    """S-29: nobody worked on it for 180 s already, so that a dead factory's mission goes on at once."""
    [attempt] = taken(ledger, "j-1")
    ledger.hear(attempt)
    ledger.lapse(attempt)
    ledger.rescue()
    ledger.beat("desk-8")

    assert ledger.dispatch() == 1
    assert ledger.detail("retry_scheduled")["delay_seconds"] == 0


def test_a_wait_that_is_longer_than_the_lease_is_kept_for_its_rest(ledger: LedgerAtWork) -> None:
    [attempt] = taken(ledger, "j-1")
    ledger.lapse(attempt)
    ledger.rescue(RetryPolicy(base_seconds=300, cap_seconds=900))

    assert ledger.detail("retry_scheduled")["delay_seconds"] == 300 - 180
    ledger.beat("desk-8")
    assert ledger.dispatch() == 0


def test_an_attempt_that_was_claimed_and_never_began_took_no_worker_with_it(ledger: LedgerAtWork) -> None:
    [attempt] = taken(ledger, "j-1")
    ledger.sql("UPDATE corporation.missions SET state = 'claimed'")
    ledger.sql("UPDATE corporation.attempts SET state = 'claimed', claimed_at = now()")
    ledger.lapse(attempt)
    ledger.beat()
    ledger.rescue()

    assert [(one.state, one.took_worker) for one in ledger.attempts()] == [("lost", False)]


def asleep(ledger: LedgerAtWork) -> str:
    """An attempt that is lost because its whole factory fell silent in mid-work, as a laptop that is closed does."""
    [attempt] = taken(ledger, "j-1")
    ledger.hear(attempt)
    ledger.sql("UPDATE corporation.factories SET last_seen_at = now() - interval '1 hour'")
    ledger.lapse(attempt)
    assert ledger.rescue(AT_ONCE) == 1
    return attempt


def test_a_factory_that_is_heard_of_and_does_not_name_an_attempt_lost_its_worker_with_it(ledger: LedgerAtWork) -> None:
    [attempt] = taken(ledger, "j-1")
    ledger.hear(attempt)
    ledger.lapse(attempt)
    ledger.rescue()

    assert [(one.state, one.took_worker) for one in ledger.attempts()] == [("lost", True)]


def test_a_factory_that_sleeps_proves_nothing_about_its_mission(ledger: LedgerAtWork) -> None:
    """Three nights are no three lost workers."""
    asleep(ledger)

    assert [(one.state, one.took_worker) for one in ledger.attempts()] == [("lost", False)]


def test_that_the_worker_died_counts_also_when_it_is_said_late(ledger: LedgerAtWork) -> None:
    attempt = asleep(ledger)
    ledger.report(attempt, Lost("the process that ran the attempt died"))
    ledger.collect()

    assert [(one.state, one.took_worker) for one in ledger.attempts()] == [("lost", True)]
    assert ledger.events()[-1] == "late_result"


def test_that_it_was_handed_back_by_a_stop_blames_nobody_also_when_it_is_said_late(ledger: LedgerAtWork) -> None:
    attempt = asleep(ledger)
    ledger.report(attempt, Lost("its factory was stopped while it ran", took_worker=False))
    ledger.collect()

    assert [(one.state, one.took_worker) for one in ledger.attempts()] == [("lost", False)]


def test_a_late_result_that_is_none_of_a_death_blames_nobody(ledger: LedgerAtWork) -> None:
    attempt = asleep(ledger)
    ledger.report(attempt, Done({}))
    ledger.collect()

    assert [one.took_worker for one in ledger.attempts()] == [False]


def test_what_lies_in_a_queue_that_is_too_full_to_be_read_goes_elsewhere_when_its_lease_ends(
    ledger: LedgerAtWork,
) -> None:
    """Its factory fills it: it loses its missions, and holds up nobody else's."""
    [lost] = ledger.hand_out("j-1")
    ledger.beat("desk-8")
    ledger.publish("j-2", target_factory_id="desk-8")
    ledger.dispatch()
    ledger.send()
    ledger.broker.overfull = {"factory.desk-7"}
    looked = ledger.look(everything=True)

    assert looked == LookedAfter(lying=1, resent=0, unread=("factory.desk-7",))

    ledger.lapse(lost)
    assert ledger.rescue() == 1
    assert (ledger.state(), ledger.state("j-2")) == ("waiting", "queued")


def test_people_are_told_once_of_a_queue_that_is_too_full_to_be_read(ledger: LedgerAtWork) -> None:
    hands = Hands()
    watching = rescuer(ledger, hands)
    ledger.hand_out("j-1")
    ledger.broker.overfull = {"factory.desk-7"}
    watching.tick()
    hands.now += 61
    watching.tick()

    [[kind, title]] = ledger.sql("SELECT kind, title FROM corporation.notifications")
    assert (kind, title) == ("redis_queue_unread", "factory.desk-7 is too full to be read")


def test_queues_are_not_filled_again_where_nobody_could_look(ledger: LedgerAtWork) -> None:
    ledger.hand_out("j-1")
    ledger.broker.lose("factory.desk-7")
    ledger.broker.overfull = {"factory.desk-7"}
    with transaction(ledger.engine) as connection:
        control, own = rebuild_queues(connection, ledger.broker, LEASE, dry_run=False)

    assert (own.queue, own.resent, own.unread) == ("factory.desk-7", 0, True)
    assert (control.queue, control.unread) == ("desk-7.control", False)
