"""What a claim does to the ledger, and what a result does, also while everybody else is at work (contract http §8)."""

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from history import assert_history_is_whole
from ledger_at_work import AT_ONCE
from ledger_over_https import LABELS, LedgerOverHttps
from sqlalchemy import Engine

from corporation.db import transaction
from corporation.missions.adopt import Wish, adopt
from corporation.missions.outcomes import Cancelled, Done, Failed, Lost, Stop
from corporation.missions.results import Foreign, Late, Taken, Unknown

NOBODY = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def ledger(ledger_engine: Engine) -> Iterator[LedgerOverHttps]:
    """An empty ledger at work, whose history is whole when the test is over."""
    yield LedgerOverHttps(ledger_engine)
    with ledger_engine.connect() as connection:
        assert_history_is_whole(connection)


def at_once(*steps: Callable[[], Any]) -> list[Any]:
    """Their answers; they begin together."""
    ready = Barrier(len(steps))

    def run(step: Callable[[], Any]) -> Any:
        ready.wait(10)
        return step()

    with ThreadPoolExecutor(len(steps)) as pool:
        return list(pool.map(run, steps))


def test_what_is_claimed_has_its_attempt_its_lease_and_its_row_in_the_mailbox_and_no_message(
    ledger: LedgerOverHttps,
) -> None:
    [attempt_id] = ledger.claimed("j-1")

    [attempt] = ledger.attempts()
    assert (str(attempt.id), attempt.number, attempt.state, attempt.over_https) == (attempt_id, 1, "claimed", True)
    assert 170 < attempt.lease_left.total_seconds() <= 180
    assert ledger.sql("SELECT status FROM mailbox.celery_taskmeta WHERE task_id = :id", id=attempt_id)[0].status
    assert ledger.sql("SELECT 1 FROM corporation.outbox") == []
    assert ledger.events() == ["published", "queued", "claimed"]


def test_two_hundred_missions_are_each_handed_out_once_by_claims_and_the_dispatcher_together(
    ledger: LedgerOverHttps,
) -> None:
    ledger.beat("desk-7", slots=8)
    ledger.beat("bench-2", labels=LABELS, slots=0)
    ledger.publish(*(f"j-{number}" for number in range(200)))

    def all_i_get(factory_id: str) -> list[str]:
        mine: list[str] = []
        while got := ledger.claim(factory_id, 3):
            mine += [one.attempt_id for one in got]
        return mine

    def dispatch() -> list[str]:
        for _ in range(20):
            ledger.dispatch()
        return []

    claimers = [lambda name=name: all_i_get(name) for name in ("desk-7", "bench-2") * 4]
    got = Counter(one for mine in at_once(*claimers, dispatch, dispatch) for one in mine)
    # What the dispatcher gave to desk-7 after its last claim lies there.
    got.update(one.attempt_id for one in ledger.claim("desk-7", 200))

    assert (len(got), set(got.values())) == (200, {1})
    [[attempts]] = ledger.sql("SELECT count(*) FROM corporation.attempts")
    assert attempts == 200


def test_missions_of_one_batch_are_handed_out_in_the_order_in_which_they_were_given(ledger: LedgerOverHttps) -> None:
    """S-11: of one moment the one that was given first is the oldest, whatever the names say."""
    names = ["z", "m", "a", "q"]
    ledger.beat(labels=LABELS, slots=0)
    ledger.publish(*names)

    assert [one.job_id for one in ledger.claim(most=2)] == names[:2]
    assert [one.job_id for one in ledger.claim(holding=frozenset())] == names


def test_what_the_dispatcher_queued_is_handed_out_in_that_order_too(ledger: LedgerOverHttps) -> None:
    ledger.hand_out("z", "m", "a")

    assert [one.job_id for one in ledger.claim()] == ["z", "m", "a"]


def test_a_message_for_what_was_claimed_changes_nothing(ledger: LedgerOverHttps) -> None:
    """Whoever claims first in the ledger wins; what the receiver says of its copy is a sign of life and no more."""
    [attempt_id] = ledger.hand_out("j-1")
    assert [one.attempt_id for one in ledger.claim()] == [attempt_id]
    ledger.hear(attempt_id)
    ledger.hear(attempt_id)
    ledger.report(attempt_id)
    ledger.collect()

    assert ledger.events() == ["published", "queued", "claimed", "started", "succeeded"]
    assert ledger.claim(holding=frozenset()) == []


def test_what_lies_with_another_factory_is_not_handed_out(ledger: LedgerOverHttps) -> None:
    ledger.hand_out("j-1")
    ledger.beat("bench-2", labels=LABELS, slots=0)

    assert ledger.claim("bench-2") == []
    assert ledger.claim("bench-2", holding=frozenset()) == []


@pytest.mark.parametrize("status", ["stale", "offline"])
def test_a_factory_that_was_silent_may_claim_and_is_not_heard_of_by_that(ledger: LedgerOverHttps, status: str) -> None:
    """F-14: only a beat moves when it was last heard of."""
    ledger.beat(labels=LABELS)
    ago = {"stale": "6 minutes", "offline": "1 day"}[status]
    ledger.sql("UPDATE corporation.factories SET last_seen_at = now() - CAST(:ago AS interval)", ago=ago)
    [before] = ledger.sql("SELECT last_seen_at FROM corporation.factories")
    ledger.publish("j-1")

    assert len(ledger.claim()) == 1
    assert ledger.sql("SELECT last_seen_at FROM corporation.factories") == [before]


def test_a_factory_that_never_registered_may_have_what_it_names(ledger: LedgerOverHttps) -> None:
    ledger.publish("j-1")

    assert ledger.claim("nobody") == []
    assert [one.job_id for one in ledger.claim("nobody", kinds=frozenset({"general_task"}))] == ["j-1"]
    assert ledger.sql("SELECT 1 FROM corporation.factories") == []


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE corporation.missions SET next_attempt_at = now() + interval '1 hour'",
        "UPDATE corporation.missions SET deadline_at = now() - interval '1 second'",
        "UPDATE corporation.missions SET target_factory_id = 'bench-2'",
        "UPDATE corporation.missions SET mission_kind = 'coding_task'",
    ],
)
def test_what_is_not_due_or_not_for_this_factory_is_left(ledger: LedgerOverHttps, change: str) -> None:
    ledger.beat(labels=("vp_general",), slots=0)
    ledger.publish("j-1")
    ledger.sql(change)

    assert ledger.claim() == []


def test_an_order_for_every_factory_is_nobodys_to_claim(ledger: LedgerOverHttps) -> None:
    ledger.beat(labels=LABELS)
    ledger.publish("p-1", context={"mission_kind": "system:pause_factory"})

    assert ledger.claim(kinds=frozenset({"system:pause_factory"})) == []


def test_a_factory_that_claimed_and_died_loses_its_mission_with_its_lease(ledger: LedgerOverHttps) -> None:
    [attempt_id] = ledger.claimed("j-1", max_retries=3)
    ledger.lapse(attempt_id)
    ledger.rescue(AT_ONCE)
    ledger.end_backoff()
    [again] = ledger.claim()

    assert (again.attempt, again.job_id) == (2, "j-1")
    assert isinstance(ledger.bring(attempt_id), Late)
    assert isinstance(ledger.bring(again.attempt_id), Taken)
    assert ledger.state() == "succeeded"


def test_a_late_result_over_https_can_be_adopted(ledger: LedgerOverHttps) -> None:
    [attempt_id] = ledger.claimed("j-1", max_retries=0)
    ledger.lapse(attempt_id)
    ledger.rescue(AT_ONCE)
    assert ledger.state() == "failed"
    assert isinstance(ledger.bring(attempt_id, Done({"output": "3 risks"})), Late)

    with transaction(ledger.engine) as connection:
        adopted = adopt(connection, "j-1", Wish(1, "ops"), 0)
    assert adopted is not None
    assert ledger.mission(adopted.job_id).state == "succeeded"
    assert ledger.mission(adopted.job_id).result["output"] == "3 risks"


def test_what_a_worker_wrote_into_the_mailbox_first_is_what_counts(ledger: LedgerOverHttps) -> None:
    """Both ways lead to one letter; whoever fills it first is heard, and the answer over HTTPS says what it said."""
    [attempt_id] = ledger.claimed("j-1")
    ledger.report(attempt_id, Stop("never"))

    answer = ledger.bring(attempt_id)
    assert answer == Taken("j-1", "failed")
    assert ledger.collect() == 0
    assert ledger.events()[-1] == "failed"


def test_a_result_and_the_collector_end_each_mission_once_when_they_come_together(ledger: LedgerOverHttps) -> None:
    names = [f"j-{number}" for number in range(40)]
    ids = ledger.claimed(*names)

    def bring_all() -> list[str]:
        return [type(ledger.bring(one)).__name__ for one in ids]

    def report_all() -> list[str]:
        for one in reversed(ids):
            ledger.report(one)
            ledger.collect()
        return []

    brought, _, _ = at_once(bring_all, report_all, ledger.collect)
    ledger.collect()

    assert set(brought) <= {"Taken", "Late"}
    assert {ledger.state(name) for name in names} == {"succeeded"}
    assert all(ledger.events(name).count("succeeded") == 1 for name in names)


def test_the_same_result_twice_at_once_is_taken_once_and_answered_twice(ledger: LedgerOverHttps) -> None:
    names = [f"j-{number}" for number in range(10)]
    for name, attempt_id in zip(names, ledger.claimed(*names, max_retries=3), strict=True):
        answers = at_once(*[lambda one=attempt_id: ledger.bring(one, Failed("no luck"))] * 4)

        assert answers == [Taken(name, "waiting")] * 4
        assert ledger.events(name).count("retry_scheduled") == 1


def test_a_mission_is_cancelled_once_when_its_result_and_the_cancel_come_together(ledger: LedgerOverHttps) -> None:
    """Whichever is first: what was asked to stop is cancelled by its report, what waits again is cancelled at once."""
    names = [f"j-{number}" for number in range(20)]
    for name, attempt_id in zip(names, ledger.claimed(*names, max_retries=3), strict=True):
        ledger.hear(attempt_id)
        at_once(lambda one=attempt_id: ledger.bring(one, Failed("no")), lambda job=name: ledger.cancel(job))

    assert {ledger.state(name) for name in names} == {"cancelled"}


@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        (Done({}), "succeeded"),
        (Failed("no"), "cancelled"),
        (Stop("never"), "cancelled"),
        (Lost("its process died"), "cancelled"),
        (Cancelled("told to"), "cancelled"),
    ],
)
def test_a_mission_that_is_to_be_cancelled_is_never_tried_again(
    ledger: LedgerOverHttps, outcome: Any, state: str
) -> None:
    """S-30."""
    [attempt_id] = ledger.claimed("j-1", max_retries=3)
    ledger.hear(attempt_id)
    ledger.cancel("j-1")

    assert ledger.bring(attempt_id, outcome) == Taken("j-1", state)


def test_only_its_own_factory_may_bring_a_result(ledger: LedgerOverHttps) -> None:
    [attempt_id] = ledger.claimed("j-1")

    assert ledger.bring(attempt_id, speaker="bench-2") == Foreign()
    assert ledger.bring(NOBODY, speaker="bench-2") == Unknown()
    assert ledger.events()[-1] == "claimed"
    assert ledger.bring(attempt_id, speaker="desk-7") == Taken("j-1", "succeeded")


def test_the_row_in_the_mailbox_is_what_celery_would_show(ledger: LedgerOverHttps) -> None:
    done, failed = ledger.claimed("j-1", "j-2")
    ledger.bring(done, Done({"output": "3 risks"}), speaker="desk-7")
    ledger.bring(failed, Stop("never"), speaker="desk-7")

    rows = {row.task_id: row for row in ledger.sql("SELECT * FROM mailbox.celery_taskmeta")}
    assert (rows[done].status, rows[done].worker) == ("SUCCESS", "desk-7")
    assert rows[failed].status == "FAILURE"
    assert b'"exc_type": "MissionFailed"' in bytes(rows[failed].result)
    assert all(row.date_done is not None and row.collected_at is not None for row in rows.values())
