"""A mission enters the ledger once, whoever asks for it how often (contract streams §5, http §7)."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier
from typing import Any

import pytest
from builders import submission
from ledger_at_work import LedgerAtWork
from sqlalchemy import text

from corporation.db import transaction
from corporation.missions.submit import Origin, Receipt, Submission, submit


def named(job_id: str, key: str, **changes: Any) -> Submission:
    return submission(job_id, idempotency_key=key, **changes)


def answers(receipts: list[Receipt]) -> list[tuple[str, str]]:
    return [(receipt.outcome, receipt.job_id) for receipt in receipts]


def test_a_new_mission_waits_in_the_ledger_with_its_first_event(ledger: LedgerAtWork) -> None:
    [receipt] = ledger.submit(submission())

    assert receipt == Receipt("stored", "j-1", "waiting")
    assert ledger.state() == "waiting"
    assert ledger.events() == ["published"]


def test_a_mission_from_the_stream_was_imported(ledger: LedgerAtWork) -> None:
    ledger.submit(submission(source="redis_bridge"))

    assert ledger.events() == ["imported"]
    assert ledger.detail("imported") == {"source": "redis_bridge"}


def test_the_envelope_is_kept_as_it_was_written(ledger: LedgerAtWork) -> None:
    ledger.submit(submission(context={"big": 2**53 - 1, "text": "ü\n"}, priority=-5, timeout_seconds=7, max_retries=0))
    mission = ledger.mission()

    assert mission.envelope["payload"] == {"task": "Tidy the notes", "context": {"big": 2**53 - 1, "text": "ü\n"}}
    assert (mission.priority, mission.broker_priority, mission.timeout_seconds) == (-5, 0, 7)
    assert (mission.max_retries, mission.attempts_total) == (0, 1)


@pytest.mark.parametrize(("priority", "place"), [(-(2**53 - 1), 0), (0, 0), (4, 4), (9, 9), (2**53 - 1, 9)])
def test_a_priority_of_any_size_has_a_place_between_0_and_9(ledger: LedgerAtWork, priority: int, place: int) -> None:
    ledger.submit(submission(priority=priority))

    assert (ledger.mission().priority, ledger.mission().broker_priority) == (priority, place)


def test_nothing_is_stored_before_the_caller_commits(ledger: LedgerAtWork) -> None:
    with ledger.engine.connect() as connection:
        submit(connection, [submission()], 0)
        connection.rollback()

    assert ledger.sql("SELECT 1 FROM corporation.missions") == []


def test_the_same_mission_again_has_merely_existed(ledger: LedgerAtWork) -> None:
    ledger.submit(submission())

    assert ledger.submit(submission()) == [Receipt("existed", "j-1", "waiting")]
    assert ledger.events() == ["published", "duplicate"]
    assert ledger.detail("duplicate") == {"source": "rest"}


def test_what_existed_is_answered_with_its_state_now(ledger: LedgerAtWork) -> None:
    [attempt] = ledger.hand_out("j-1")
    ledger.report(attempt)
    ledger.collect()

    assert ledger.submit(submission()) == [Receipt("existed", "j-1", "succeeded")]


@pytest.mark.parametrize(
    "changed",
    [
        {"task": "Something else"},
        {"context": {"a": 1}},
        {"priority": 2},
        {"timeout_seconds": 1},
        {"max_retries": 1},
        {"ttl_seconds": 60},
        {"mission_kind": "research_task"},
        {"idempotency_key": "another"},
    ],
)
def test_a_known_job_id_with_another_body_is_a_conflict_and_changes_nothing(
    ledger: LedgerAtWork, changed: dict[str, Any]
) -> None:
    ledger.submit(submission())
    before = ledger.mission()

    assert answers(ledger.submit(submission(**changed))) == [("conflict", "j-1")]
    assert ledger.mission()._asdict() == before._asdict() | {"event_seq": 2}
    assert ledger.events() == ["published", "conflict"]


def test_another_retry_count_is_still_the_same_body(ledger: LedgerAtWork) -> None:
    ledger.submit(submission())

    assert answers(ledger.submit(submission(context={"_retry_count": 2}))) == [("existed", "j-1")]


def test_a_known_key_under_another_job_id_makes_an_alias(ledger: LedgerAtWork) -> None:
    ledger.submit(named("j-1", "k"))

    assert answers(ledger.submit(named("j-2", "k", task="Anything else"))) == [("existed", "j-1")]
    assert [row.job_id for row in ledger.sql("SELECT job_id FROM corporation.mission_aliases")] == ["j-2"]


def test_an_alias_answers_for_its_mission_whatever_it_says(ledger: LedgerAtWork) -> None:
    """S-18."""
    ledger.submit(named("j-1", "k"))
    ledger.submit(named("j-2", "k"))

    assert answers(ledger.submit(named("j-2", "another key", task="Anything"))) == [("existed", "j-1")]
    assert len(ledger.sql("SELECT 1 FROM corporation.missions")) == 1


def test_a_job_id_in_conflict_is_a_conflict_even_when_its_key_belongs_to_another_mission(ledger: LedgerAtWork) -> None:
    ledger.submit(named("j-1", "k-1"), named("j-2", "k-2"))

    assert answers(ledger.submit(named("j-2", "k-1"))) == [("conflict", "j-2")]
    assert ledger.sql("SELECT 1 FROM corporation.mission_aliases") == []


def test_an_empty_batch_stores_nothing(ledger: LedgerAtWork) -> None:
    assert ledger.submit() == []


CROSSED = [
    ([("1", "a"), ("1", "a")], [("stored", "1"), ("existed", "1")]),
    ([("1", "a"), ("1", "b")], [("stored", "1"), ("conflict", "1")]),
    ([("1", "a"), ("2", "a")], [("stored", "1"), ("existed", "1")]),
    ([("1", "a"), ("2", "a"), ("2", "a")], [("stored", "1"), ("existed", "1"), ("existed", "1")]),
    ([("1", "a"), ("2", "a"), ("2", "b")], [("stored", "1"), ("existed", "1"), ("existed", "1")]),
    ([("1", "a"), ("1", "b"), ("3", "b")], [("stored", "1"), ("conflict", "1"), ("stored", "3")]),
    ([("old", "a"), ("2", "a")], [("conflict", "old"), ("stored", "2")]),
    ([("old", "a"), ("2", "a"), ("3", "a")], [("conflict", "old"), ("stored", "2"), ("existed", "2")]),
    ([("old", "a"), ("2", "a"), ("2", "b"), ("4", "b")],
     [("conflict", "old"), ("stored", "2"), ("conflict", "2"), ("stored", "4")]),
    ([("old", "old-key"), ("new", "old-key"), ("new", "c")], [("existed", "old")] * 3),
]  # fmt: skip


@pytest.mark.parametrize(("batch", "expected"), CROSSED)
def test_a_batch_is_answered_as_if_its_missions_had_come_one_by_one(
    ledger: LedgerAtWork, batch: list[tuple[str, str]], expected: list[tuple[str, str]]
) -> None:
    ledger.submit(named("old", "old-key"))

    assert answers(ledger.submit(*(named(job_id, key) for job_id, key in batch))) == expected


@pytest.mark.parametrize(("batch", "expected"), CROSSED)
def test_missions_that_come_one_by_one_are_answered_as_in_a_batch(
    ledger: LedgerAtWork, batch: list[tuple[str, str]], expected: list[tuple[str, str]]
) -> None:
    ledger.submit(named("old", "old-key"))

    assert [answers(ledger.submit(named(job_id, key)))[0] for job_id, key in batch] == expected


def test_a_thousand_missions_are_one_batch(ledger: LedgerAtWork) -> None:
    receipts = ledger.submit(*(submission(f"j-{number}") for number in range(1000)))

    assert {receipt.outcome for receipt in receipts} == {"stored"}
    assert [receipt.job_id for receipt in receipts] == [f"j-{number}" for number in range(1000)]


def test_twenty_callers_with_one_key_make_one_mission_and_get_one_answer(ledger: LedgerAtWork) -> None:
    together = Barrier(20)

    def publish(_: int) -> Receipt:
        together.wait(10)
        return ledger.submit(submission())[0]

    with ThreadPoolExecutor(20) as pool:
        receipts = list(pool.map(publish, range(20)))

    assert [receipt.outcome for receipt in receipts].count("stored") == 1
    assert {(receipt.job_id, receipt.state) for receipt in receipts} == {("j-1", "waiting")}
    # Of many at once one at least is told: nobody waits for his turn to tell of his own.
    assert ledger.events()[:2] == ["published", "duplicate"]
    assert set(ledger.events()[1:]) == {"duplicate"}


@pytest.mark.parametrize(
    ("job_id", "task"), [("j-1", "Tidy the notes"), ("a-{}", "Tidy the notes"), ("j-1", "Another task")]
)
def test_of_many_that_repeat_a_mission_while_its_row_is_held_one_waits_and_the_others_are_answered(
    ledger: LedgerAtWork, wait_until: Callable[..., Any], job_id: str, task: str
) -> None:
    """H-24: callers with one key do not stand in a line for one row, each with a connection in its hands."""
    ledger.submit(named("j-1", "k", task="Tidy the notes"))
    waiting = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"

    def again(number: int) -> Submission:
        return named(job_id.format(number), "k", task=task)

    with ThreadPoolExecutor(1) as pool, ledger.engine.connect() as holder:
        holder.execute(text("SELECT 1 FROM corporation.missions FOR NO KEY UPDATE"))
        first = pool.submit(ledger.submit, again(0))
        wait_until(lambda: ledger.sql(waiting), 10, "somebody who waits for the row")
        others = [ledger.submit(again(number))[0] for number in range(1, 6)]
        assert not first.done()
        holder.rollback()
        receipts = [*first.result(10), *others]
    told = ledger.events()[1:]

    assert len({(one.outcome, one.job_id) for one in receipts}) == 1
    assert len(told) == 1
    ledger.submit(again(6))
    assert ledger.events()[1:] == told * 2


def test_an_entry_of_a_stream_that_repeats_a_mission_is_told_whoever_else_tells_of_it(
    ledger: LedgerAtWork, wait_until: Callable[..., Any]
) -> None:
    """Streams §5 names an event for each."""
    ledger.submit(named("j-1", "k"))
    entry = replace(named("j-1", "k", source="redis_bridge"), origin=Origin("ua:missions:delegation", "1-1", "{}"))
    waiting = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    with ThreadPoolExecutor(2) as pool, ledger.engine.connect() as holder:
        holder.execute(text("SELECT 1 FROM corporation.missions FOR NO KEY UPDATE"))
        told = [pool.submit(ledger.submit, named("j-1", "k"))]
        wait_until(lambda: len(ledger.sql(waiting)) == 1, 10, "one who waits for the row")
        told.append(pool.submit(ledger.submit, entry))
        wait_until(lambda: len(ledger.sql(waiting)) == 2, 10, "two who wait for the row")
        holder.rollback()
        assert [one.result(10)[0].outcome for one in told] == ["existed", "existed"]

    assert ledger.events() == ["published", "duplicate", "duplicate"]


def test_twenty_callers_with_one_key_and_different_job_ids_agree_on_the_mission(ledger: LedgerAtWork) -> None:
    together = Barrier(20)

    def publish(number: int) -> Receipt:
        together.wait(10)
        return ledger.submit(named(f"j-{number}", "k"))[0]

    with ThreadPoolExecutor(20) as pool:
        receipts = list(pool.map(publish, range(20)))

    assert len({receipt.job_id for receipt in receipts}) == 1
    assert len(ledger.sql("SELECT 1 FROM corporation.missions")) == 1
    assert len(ledger.sql("SELECT 1 FROM corporation.mission_aliases")) == 19


def test_batches_with_the_same_missions_in_opposite_orders_do_not_wait_for_each_other_for_ever(
    ledger: LedgerAtWork,
) -> None:
    missions = [submission(f"j-{number}") for number in range(200)]
    together = Barrier(4)

    def publish(number: int) -> list[Receipt]:
        together.wait(10)
        return ledger.submit(*(missions if number % 2 else reversed(missions)))

    with ThreadPoolExecutor(4) as pool:
        receipts = [receipt for batch in pool.map(publish, range(4)) for receipt in batch]

    assert sum(receipt.outcome == "stored" for receipt in receipts) == 200


@pytest.mark.parametrize("plan", ["force_custom_plan", "force_generic_plan"])
def test_a_batch_takes_its_locks_in_the_order_of_the_keys_whatever_the_planner_chose(
    ledger: LedgerAtWork, plan: str
) -> None:
    missions = [submission(f"j-{number:03}") for number in range(200)]
    with transaction(ledger.engine) as connection:
        connection.exec_driver_sql(f"SET LOCAL plan_cache_mode = {plan}")
        submit(connection, list(reversed(missions)), 0)
    stored = [row.job_id for row in ledger.sql("SELECT job_id FROM corporation.missions ORDER BY id")]

    assert stored == sorted(stored)


@pytest.mark.parametrize(
    ("max_retries", "written", "total", "before"),
    [(3, 1, 2, 1), (3, "2", 1, 2), (3, -4, 3, 0), (0, 9, 1, 9), (3, "9" * 25, 1, 2**53 - 1), (3, 2**53, 1, 2**53 - 1)],
)
def test_attempts_made_elsewhere_are_counted(
    ledger: LedgerAtWork, max_retries: int, written: object, total: int, before: int
) -> None:
    ledger.submit(submission(context={"_retry_count": written}, max_retries=max_retries))

    assert (ledger.mission().attempts_total, ledger.mission().attempts_before) == (total, before)
    assert ledger.events() == ["published"]


@pytest.mark.parametrize("written", ["many", None, 1.5, True, [], {}])
def test_a_retry_count_that_is_none_is_ignored_and_the_history_says_so(ledger: LedgerAtWork, written: object) -> None:
    ledger.submit(submission(context={"_retry_count": written}))

    assert ledger.mission().attempts_total == 3
    assert ledger.events() == ["published", "retry_count_ignored"]


def test_an_oddity_of_a_repeated_mission_is_told_once(ledger: LedgerAtWork) -> None:
    odd = submission(context={"_retry_count": "many"})
    ledger.submit(odd, odd)
    ledger.submit(odd)

    assert ledger.events() == ["published", "retry_count_ignored", "duplicate", "duplicate"]


def test_an_unknown_kind_runs_as_a_general_task_and_the_history_says_so(ledger: LedgerAtWork) -> None:
    ledger.submit(submission(source="redis_bridge", mission_kind="dance"))

    assert (ledger.mission().mission_kind, ledger.mission().requested_kind) == ("general_task", "dance")
    assert ledger.events() == ["imported", "unknown_kind"]


def test_an_oddity_of_a_mission_that_was_refused_is_not_told_of_its_namesake(ledger: LedgerAtWork) -> None:
    ledger.submit(submission(), replace(submission(mission_kind="dance"), source="redis_bridge"))

    assert ledger.events() == ["published", "conflict"]


@pytest.mark.parametrize(
    ("own", "default", "seconds"),
    [(None, 0, None), (None, 60, 60), (10, 60, 10), (10, 0, 10), (3_155_760_000, 0, 3_155_760_000)],
)
def test_the_deadline_counts_from_the_creation(
    ledger: LedgerAtWork, own: int | None, default: int, seconds: int | None
) -> None:
    ledger.submit(submission(ttl_seconds=own), ttl_seconds=default)
    mission = ledger.mission()
    left = mission.deadline_at - mission.created_at if mission.deadline_at else None

    assert (left.total_seconds() if left else None) == seconds


@pytest.mark.parametrize(("target", "kept"), [(None, None), ("", None), ("desk-7", "desk-7")])
def test_the_target_is_kept_when_there_is_one(ledger: LedgerAtWork, target: str | None, kept: str | None) -> None:
    ledger.submit(submission(context={"target_factory_id": target}))

    assert ledger.mission().target_factory_id == kept


ENTRY = Origin("ua:missions:delegation", "1780300800000-0", '{"the": "text as it came"}', "told-otherwise")


def test_a_mission_from_a_stream_keeps_its_entry_to_the_letter(ledger: LedgerAtWork) -> None:
    """S-23."""
    ledger.submit(replace(submission(source="redis_bridge"), origin=ENTRY))
    mission = ledger.mission()

    assert (mission.stream, mission.stream_entry_id, mission.raw_envelope) == (*ENTRY.entry, ENTRY.raw)
    assert ledger.detail("imported") == {
        "source": "redis_bridge",
        "stream": ENTRY.stream,
        "entry_id": ENTRY.entry_id,
        "entry_job_id": "told-otherwise",
    }


@pytest.mark.parametrize("job_id", ["j-1", "j-2"])
def test_the_same_entry_read_again_is_no_duplicate_and_another_one_is(ledger: LedgerAtWork, job_id: str) -> None:
    """Also of an entry that made an alias (B10)."""
    first = replace(named("j-1", "k"), origin=ENTRY)
    again = replace(named(job_id, "k"), origin=replace(ENTRY, entry_id="1780300800000-1"))
    ledger.submit(first)
    for _ in range(3):
        ledger.submit(first, again if job_id != "j-1" else first)
    told = ledger.events().count("duplicate")
    ledger.submit(replace(again, origin=replace(ENTRY, entry_id="1780300800000-2")))

    assert told == (job_id != "j-1")
    assert ledger.events().count("duplicate") == told + 1


def test_one_that_repeats_itself_for_ever_does_not_fill_the_ledger(ledger: LedgerAtWork) -> None:
    for _ in range(3):
        ledger.submit(*[submission()] * 700)

    assert len(ledger.events()) == 1400


def test_missions_of_one_batch_run_in_the_order_in_which_they_were_given(ledger: LedgerAtWork) -> None:
    """S-11: ties go to the oldest, whatever the keys say."""
    ledger.submit(*(named(f"j-{number}", f"k-{9 - number}") for number in range(10)))
    ledger.beat(slots=20)
    ledger.dispatch()
    ledger.send()

    assert [message.job_id for message in ledger.broker.sent] == [f"j-{number}" for number in range(10)]


@pytest.mark.parametrize(("kind", "broker"), [("system:pause_factory", 0), ("general_task", 7)])
def test_an_order_to_a_factory_goes_before_every_other_mission(ledger: LedgerAtWork, kind: str, broker: int) -> None:
    """S-11, D7: whatever its publisher says, whose number is kept."""
    ledger.submit(submission(mission_kind=kind, priority=7))

    assert (ledger.mission().broker_priority, ledger.mission().priority) == (broker, 7)
