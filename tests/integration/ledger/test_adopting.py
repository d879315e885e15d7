"""A late result that an operator takes after all: the mission succeeds with it, or a new one does in its place."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from ledger_at_work import AT_ONCE, LedgerAtWork
from sqlalchemy.exc import IntegrityError

from corporation.db import transaction
from corporation.missions import queries
from corporation.missions.adopt import Adopted, AdoptRefused, Wish, adopt
from corporation.missions.outcomes import Cancelled, Done, Failed, Outcome, Stop

QUEUE = "factory.desk-7"
OPERATORS = 6


def given_up(ledger: LedgerAtWork, job_id: str = "j-1", **changes: Any) -> str:
    """The attempt of a mission whose factory fell silent in mid-work."""
    [attempt] = ledger.hand_out(job_id, **changes)
    ledger.broker.take(QUEUE)
    ledger.hear(attempt)
    ledger.lapse(attempt)
    ledger.rescue(AT_ONCE)
    ledger.send()
    return attempt


def reports(ledger: LedgerAtWork, attempt: str, outcome: Outcome | None = None) -> None:
    """That factory speaks again."""
    ledger.report(attempt, outcome or Done({"output": "all of it", "result_ref": "workspace://desk-7/j-1"}))
    ledger.collect()


def late(ledger: LedgerAtWork, job_id: str = "j-1", **changes: Any) -> str:
    """An attempt that was given up and said later that its work is done; its mission waits, or has failed."""
    attempt = given_up(ledger, job_id, **changes)
    reports(ledger, attempt)
    return attempt


def take(ledger: LedgerAtWork, job_id: str = "j-1", attempt: int = 1, **wish: Any) -> Adopted | None:
    """An operator adopts it."""
    with transaction(ledger.engine) as connection:
        return adopt(connection, job_id, Wish(attempt, by="desk-ops", **wish), 0)


def outbox(ledger: LedgerAtWork) -> list[tuple[str, str]]:
    rows = ledger.sql("SELECT topic, attempt_id FROM corporation.outbox ORDER BY id")
    return [(row.topic, str(row.attempt_id)) for row in rows]


def letter(ledger: LedgerAtWork) -> Any:
    [row] = ledger.sql("SELECT status, replay_job_id, resolved_why FROM corporation.dead_letters")
    return row


def test_a_mission_that_waits_for_another_attempt_succeeds_with_the_late_result(ledger: LedgerAtWork) -> None:
    attempt = late(ledger)

    assert take(ledger, reason="looked at it") == Adopted("j-1", "j-1", 1)
    mission = ledger.mission()
    assert (mission.state, mission.error, mission.factory_id) == ("succeeded", None, "desk-7")
    assert mission.result == {
        "output": "all of it", "result_ref": "workspace://desk-7/j-1", "mission_id": "j-1",
        "mission_kind": "general_task", "factory_id": "desk-7", "attempts": 1,
    }  # fmt: skip
    assert ledger.events()[-3:] == ["late_result", "adopted", "succeeded"]
    assert ledger.detail("adopted") == {"by": "desk-ops", "reason": "looked at it", "attempt_id": attempt}
    assert [(one.state, one.adopted) for one in ledger.attempts()] == [("lost", True)]


def test_it_is_told_on_the_results_stream_and_not_handed_out_again(ledger: LedgerAtWork) -> None:
    """S-33."""
    late(ledger)
    take(ledger)
    ledger.end_backoff()

    assert ledger.dispatch() == 0
    assert ledger.sql("SELECT mission_id, dead_letter_id FROM corporation.stream_outbox") == [
        (ledger.mission().id, None)
    ]


def test_an_attempt_that_was_not_sent_yet_is_not_sent_any_more(ledger: LedgerAtWork) -> None:
    late(ledger)
    ledger.dispatch()
    second = ledger.attempt_of()
    take(ledger)

    assert [one.state for one in ledger.attempts()] == ["lost", "cancelled"]
    assert outbox(ledger) == [("stop", second)]
    before = list(ledger.broker.sent)
    ledger.send()
    assert (ledger.broker.sent, outbox(ledger)) == (before, [])


def test_an_attempt_that_runs_is_told_to_stop_and_what_it_says_comes_too_late(ledger: LedgerAtWork) -> None:
    late(ledger)
    ledger.beat(queues=[QUEUE, "desk-7.control"])
    ledger.dispatch()
    ledger.send()
    ledger.broker.take(QUEUE)
    second = ledger.attempt_of()
    ledger.hear(second)
    take(ledger)
    ledger.send()

    assert [(one.attempt_id, one.reason) for one in ledger.broker.stopped] == [
        (second, "the attempt is no longer current")
    ]
    assert ledger.attempts()[1].error == "the late result of attempt 1 was adopted"
    assert ledger.hear(second) == {}
    reports(ledger, second, Cancelled("the attempt is no longer current"))
    assert (ledger.state(), ledger.events()[-2:]) == ("succeeded", ["succeeded", "late_result"])
    assert take(ledger) == Adopted("j-1", "j-1", 1)


def test_also_while_the_mission_is_to_be_cancelled_the_work_that_was_done_counts(ledger: LedgerAtWork) -> None:
    late(ledger)
    ledger.dispatch()
    ledger.send()
    ledger.broker.take(QUEUE)
    ledger.hear(ledger.attempt_of())
    ledger.cancel("j-1")

    assert take(ledger) == Adopted("j-1", "j-1", 1)
    assert ledger.state() == "succeeded"


def test_of_a_mission_that_failed_the_end_stays_and_a_new_one_has_succeeded(ledger: LedgerAtWork) -> None:
    """H-27: named as a replay is."""
    attempt = late(ledger, max_retries=1)
    assert (ledger.state(), letter(ledger).status) == ("failed", "open")

    assert take(ledger, reason="looked at it") == Adopted("j-1-r1", "j-1", 1)
    old, new = ledger.mission(), ledger.mission("j-1-r1")
    assert (old.state, new.state, new.replay_of, new.source) == ("failed", "succeeded", old.id, "replay")
    assert (new.attempt, new.factory_id, new.result["output"]) == (0, "desk-7", "all of it")
    assert (new.result["mission_id"], new.result["attempts"]) == ("j-1-r1", 1)
    assert str(new.adopted_from) == attempt
    assert ledger.events("j-1-r1") == ["published", "adopted", "succeeded"]
    assert ledger.events()[-2:] == ["replayed", "adopted"]
    assert ledger.detail("adopted")["job_id"] == "j-1-r1"
    assert ledger.detail("adopted", "j-1-r1") == {
        "by": "desk-ops", "reason": "looked at it", "attempt_id": attempt, "from_job_id": "j-1", "from_attempt": 1
    }  # fmt: skip
    assert letter(ledger) == ("replayed", "j-1-r1", "attempt 1: looked at it")


def test_nobody_is_given_the_new_mission_to_run(ledger: LedgerAtWork) -> None:
    late(ledger, max_retries=1)
    take(ledger)

    assert ledger.dispatch() == 0
    told = ledger.sql("SELECT mission_id FROM corporation.stream_outbox WHERE mission_id IS NOT NULL ORDER BY id")
    assert [row.mission_id for row in told] == [ledger.mission().id, ledger.mission("j-1-r1").id]


def test_of_a_mission_that_was_cancelled_too(ledger: LedgerAtWork) -> None:
    late(ledger)
    ledger.cancel("j-1")

    assert take(ledger) == Adopted("j-1-r1", "j-1", 1)
    assert (ledger.state(), ledger.state("j-1-r1")) == ("cancelled", "succeeded")


def test_a_letter_that_was_put_away_stays_so(ledger: LedgerAtWork) -> None:
    late(ledger, max_retries=1)
    ledger.sql("UPDATE corporation.dead_letters SET status = 'discarded', resolved_at = now(), resolved_why = 'no'")

    assert take(ledger) == Adopted("j-1-r1", "j-1", 1)
    assert letter(ledger) == ("discarded", None, "no")


@pytest.mark.parametrize("changes", [{}, {"max_retries": 1}])
def test_operators_who_adopt_it_at_once_get_one_answer_and_one_success(
    ledger: LedgerAtWork, changes: dict[str, Any]
) -> None:
    late(ledger, **changes)
    together = Barrier(OPERATORS)

    def run(_: int) -> Adopted | None:
        together.wait(30)
        return take(ledger)

    with ThreadPoolExecutor(OPERATORS) as pool:
        answers = set(pool.map(run, range(OPERATORS)))

    assert answers == {Adopted("j-1-r1" if changes else "j-1", "j-1", 1)}
    assert len(ledger.sql("SELECT 1 FROM corporation.missions WHERE state = 'succeeded'")) == 1


def test_it_is_found_by_an_alias_too(ledger: LedgerAtWork) -> None:
    """S-18."""
    late(ledger)
    ledger.publish("alias", idempotency_key="k-j-1")

    assert take(ledger, "alias") == Adopted("j-1", "j-1", 1)


def test_what_is_not_committed_is_not_true(ledger: LedgerAtWork) -> None:
    late(ledger, max_retries=1)
    with ledger.engine.connect() as connection:
        adopt(connection, "j-1", Wish(1, "desk-ops"), 0)
        connection.rollback()

    assert letter(ledger).status == "open"
    assert len(ledger.sql("SELECT 1 FROM corporation.missions")) == 1


@pytest.mark.parametrize(
    ("outcome", "why"),
    [
        (None, "attempt 1 is lost and has no late result; of its 1 attempts none has a late result that is done"),
        (Failed("no"), "attempt 1 reported late, but not that the work is done; of its 1 attempts none"),
        (Stop("never"), "attempt 1 reported late, but not that the work is done"),
    ],
)
def test_what_never_said_that_it_is_done_is_not_adopted(
    ledger: LedgerAtWork, outcome: Outcome | None, why: str
) -> None:
    attempt = given_up(ledger)
    if outcome is not None:
        reports(ledger, attempt, outcome)

    with pytest.raises(AdoptRefused, match=why):
        take(ledger)
    assert ledger.state() == "waiting"


def test_a_refusal_says_what_there_is(ledger: LedgerAtWork) -> None:
    late(ledger)
    ledger.publish("j-2")

    with pytest.raises(AdoptRefused, match="there is no such attempt; a late result that is done has attempt 1"):
        take(ledger, attempt=7)
    with pytest.raises(AdoptRefused, match="there is no such attempt; no attempt was made"):
        take(ledger, "j-2")
    assert take(ledger, "nobody") is None


def test_bytes_that_nobody_can_read_are_not_adopted(ledger: LedgerAtWork) -> None:
    """A late report whose status is a success and whose words are none: there is nothing to adopt."""
    ledger.fill(given_up(ledger), b"\xff{")
    ledger.collect()

    with pytest.raises(AdoptRefused, match="not that the work is done"):
        take(ledger)


def test_a_mission_that_succeeded_by_itself_keeps_its_result(ledger: LedgerAtWork) -> None:
    late(ledger)
    ledger.dispatch()
    ledger.send()
    reports(ledger, ledger.attempt_of(), Done({"output": "the second one's"}))

    with pytest.raises(AdoptRefused, match="has succeeded already"):
        take(ledger)
    assert ledger.mission().result["output"] == "the second one's"


def test_of_two_late_results_one_counts(ledger: LedgerAtWork) -> None:
    late(ledger, max_retries=2)
    ledger.end_backoff()
    ledger.dispatch()
    ledger.send()
    second = ledger.attempt_of()
    ledger.broker.take(QUEUE)
    ledger.hear(second)
    ledger.lapse(second)
    ledger.rescue()
    reports(ledger, second)

    assert take(ledger, attempt=2) == Adopted("j-1-r1", "j-1", 2)
    with pytest.raises(AdoptRefused, match="attempt 2 was adopted already, as j-1-r1"):
        take(ledger, attempt=1)


def test_a_mission_shows_what_came_late_and_whether_it_was_adopted(ledger: LedgerAtWork) -> None:
    late(ledger)
    ledger.dispatch()
    take(ledger)
    with transaction(ledger.engine) as connection:
        shown = queries.find_mission(connection, "j-1")

    assert shown is not None
    first, second = shown["attempts"]
    assert (first["late_result"]["outcome"], first["late_result"]["result"]["output"]) == ("done", "all of it")
    assert (first["adopted"], second["adopted"], second["late_result"]) == (True, False, None)


def test_the_ledger_itself_refuses_a_success_that_nobody_earned(ledger: LedgerAtWork) -> None:
    """Migration 0007: neither without an attempt, nor by a result that is not late and done, nor twice by one."""
    attempt = given_up(ledger)
    ledger.publish("j-2", "j-3")
    succeed = """UPDATE corporation.missions SET state = 'succeeded', state_reason = NULL, finished_at = now(),
                        adopted_from = CAST(:attempt AS uuid) WHERE job_id = :job_id"""

    with pytest.raises(IntegrityError, match="only_a_late_result_is_adopted"):
        ledger.sql("UPDATE corporation.attempts SET adopted = true")
    with pytest.raises(IntegrityError, match="success_was_earned"):
        ledger.sql(succeed, attempt=None, job_id="j-2")
    with pytest.raises(IntegrityError, match="only_a_success_was_adopted"):
        ledger.sql("UPDATE corporation.missions SET adopted_from = CAST(:attempt AS uuid)", attempt=attempt)
    with pytest.raises(IntegrityError, match="missions_adopted_from_key"):
        ledger.sql(succeed.replace("job_id = :job_id", "job_id IN ('j-2', 'j-3')"), attempt=attempt)
