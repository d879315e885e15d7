"""What people decide about dead letters and about missions that ended, also several at once (S-38, S-39, H-27)."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any, TypeVar

import pytest
from builders import envelope
from ledger_at_work import LedgerAtWork
from sqlalchemy import text

from corporation.db import transaction
from corporation.envelope import EnvelopeRefused, MissionEnvelope
from corporation.missions.dead_letters import LetterResolvedError, discard_letter, replay_letter
from corporation.missions.outcomes import Stop
from corporation.missions.replay import Names, Replayed, ReplayRefused, replay
from corporation.missions.store import telling
from corporation.missions.store.dead_letters import StoredLetter, find, list_letters
from corporation.missions.store.letter_selection import LetterFilter

MADE_UP = "0b7e0d53-6f2c-4a4d-8a36-1f5f0c2a7d10"
OPERATORS = 8
Answer = TypeVar("Answer")


def fail(ledger: LedgerAtWork, job_id: str = "j-1", **changes: Any) -> int:
    """A mission that failed for good; the number of its dead letter."""
    [attempt] = ledger.hand_out(job_id, **changes)
    ledger.report(attempt, Stop("exit 2"))
    ledger.collect()
    return letter_of(ledger, job_id).letter_id


def malformed(ledger: LedgerAtWork, job_id: str = "j-88", entry: str = "1-0") -> int:
    """An entry that was no mission; the number of its dead letter."""
    [row] = ledger.sql(
        """INSERT INTO corporation.dead_letters (job_id, cause, code, failure_error, raw, stream, stream_entry_id)
           VALUES (:job_id, 'malformed', 'invalid_json', 'invalid envelope', '{', 's', :entry) RETURNING id""",
        job_id=job_id,
        entry=entry,
    )
    return int(row.id)


def letter_of(ledger: LedgerAtWork, job_id: str = "j-1") -> StoredLetter:
    """The only dead letter with this job_id."""
    with transaction(ledger.engine) as connection:
        [letter] = [one for one in list_letters(connection, LetterFilter(status=None), 200) if one.job_id == job_id]
    return letter


def again(ledger: LedgerAtWork, job_id: str = "j-1", names: Names | None = None) -> Replayed | None:
    """The mission is asked for again."""
    with transaction(ledger.engine) as connection:
        return replay(connection, job_id, names or Names(), 0)


def resolve(ledger: LedgerAtWork, letter_id: int, edited: MissionEnvelope | None = None) -> str | None:
    """The letter is replayed."""
    with transaction(ledger.engine) as connection:
        return replay_letter(connection, letter_id, edited, MADE_UP, 0)


def discard(ledger: LedgerAtWork, letter_id: int) -> str | None:
    """The letter is put away."""
    with transaction(ledger.engine) as connection:
        return discard_letter(connection, letter_id, "not needed")


def together(jobs: list[Callable[[], Answer]]) -> list[Answer | LetterResolvedError]:
    """What each of `jobs` answers when all begin at the same moment."""
    start = Barrier(len(jobs))

    def run(job: Callable[[], Answer]) -> Answer | LetterResolvedError:
        start.wait(30)
        try:
            return job()
        except LetterResolvedError as error:
            return error

    with ThreadPoolExecutor(len(jobs)) as pool:
        return list(pool.map(run, jobs))


def test_a_mission_that_failed_is_a_dead_letter_with_its_order_and_its_attempts(ledger: LedgerAtWork) -> None:
    """S-38: whoever ends it, the ledger keeps the letter."""
    fail(ledger, context={"_retry_count": 1})
    letter = letter_of(ledger)

    assert (letter.cause, letter.status, letter.retry_count) == ("failed", "open", 2)
    assert letter.document["payload"]["context"] == {"_retry_count": 1}
    assert "exit 2" in letter.failure_error


def test_replays_of_one_mission_at_once_each_get_a_number_of_their_own(ledger: LedgerAtWork) -> None:
    """H-27."""
    fail(ledger)
    made = together([lambda: again(ledger)] * OPERATORS)

    assert {one.job_id for one in made if isinstance(one, Replayed)} == {f"j-1-r{n}" for n in range(1, OPERATORS + 1)}
    assert ledger.events().count("replayed") == OPERATORS


def test_a_replay_takes_no_name_that_somebody_has(ledger: LedgerAtWork) -> None:
    """H-27: as a job_id, as an alias, or as a key."""
    fail(ledger)
    ledger.publish("j-1-r1", "other")
    ledger.publish("somebody", idempotency_key="k-j-1-r2")
    ledger.publish("j-1-r3", idempotency_key="k-other")

    assert again(ledger) == Replayed("j-1-r4", "waiting", "j-1")


def test_a_replay_is_known_by_the_first_name_of_what_it_repeats(ledger: LedgerAtWork) -> None:
    """S-18."""
    fail(ledger)
    ledger.publish("alias", idempotency_key="k-j-1")

    assert again(ledger, "alias") == Replayed("j-1-r1", "waiting", "j-1")


def test_a_replay_that_is_not_committed_leaves_the_letter_open(ledger: LedgerAtWork) -> None:
    letter_id = fail(ledger)
    with ledger.engine.connect() as connection:
        replay_letter(connection, letter_id, None, MADE_UP, 0)
        connection.rollback()

    assert letter_of(ledger).status == "open"
    assert resolve(ledger, letter_id) == "j-1-r1"


def test_operators_who_replay_one_letter_at_once_make_one_mission(ledger: LedgerAtWork) -> None:
    letter_id = fail(ledger)

    assert set(together([lambda: resolve(ledger, letter_id)] * OPERATORS)) == {"j-1-r1"}
    assert [row.job_id for row in ledger.sql("SELECT job_id FROM corporation.missions ORDER BY id")] == [
        "j-1",
        "j-1-r1",
    ]


def test_of_a_replay_and_a_discard_at_once_only_one_happens(ledger: LedgerAtWork) -> None:
    letters = [malformed(ledger, f"m-{number}", f"{number}-0") for number in range(6)]
    order = {letter_id: envelope(f"again-{letter_id}") for letter_id in letters}
    jobs: list[Callable[[], str | None]] = []
    for letter_id in letters:
        jobs.append(lambda letter_id=letter_id: resolve(ledger, letter_id, order[letter_id]))
        jobs.append(lambda letter_id=letter_id: discard(ledger, letter_id))
    answers = together(jobs)
    stored = {row.job_id for row in ledger.sql("SELECT job_id FROM corporation.missions")}

    for place, letter_id in enumerate(letters):
        replayed, discarded = answers[2 * place : 2 * place + 2]
        assert isinstance(replayed, LetterResolvedError) != isinstance(discarded, LetterResolvedError)
        assert (f"again-{letter_id}" in stored) == (discarded != "discarded")


def test_a_replay_and_the_publisher_do_not_wait_for_each_other(
    ledger: LedgerAtWork, wait_until: Callable[..., Any]
) -> None:
    """The publisher holds the mission while it marks the letter; a replay that held the letter would make a ring."""
    letter_id = fail(ledger)
    waiting = "SELECT 1 FROM pg_locks WHERE NOT granted AND locktype IN ('transactionid', 'tuple')"
    with ThreadPoolExecutor(1) as pool, ledger.engine.begin() as publisher:
        letters = telling.take_letters(publisher, 10)
        publisher.execute(text("SELECT 1 FROM corporation.missions FOR NO KEY UPDATE"))
        operator = pool.submit(resolve, ledger, letter_id)
        wait_until(lambda: ledger.sql(waiting), what="the operator waits for the mission")
        telling.mark_letters(publisher, [(letter, "1-0") for letter in letters])
        publisher.commit()

        assert operator.result(30) == "j-1-r1"


def test_an_edited_order_is_told_to_the_mission_that_it_repeats(ledger: LedgerAtWork) -> None:
    """H-26, H-27."""
    letter_id = fail(ledger)

    assert resolve(ledger, letter_id, envelope("better", task="Do it otherwise")) == "better"
    assert ledger.detail("replayed") == {"job_id": "better"}
    assert ledger.mission("better").replay_of == ledger.mission("j-1").id


@pytest.mark.parametrize("job_id", ["", "two\nlines", "right\u202eto left", "x" * 129])
def test_a_name_that_no_order_may_have_is_not_taken_from_a_malformed_entry(ledger: LedgerAtWork, job_id: str) -> None:
    letter_id = malformed(ledger, job_id)
    edited = envelope(MADE_UP, idempotency_key=MADE_UP)

    assert resolve(ledger, letter_id, edited) == MADE_UP


def test_an_entry_whose_text_is_not_all_kept_needs_an_order(ledger: LedgerAtWork) -> None:
    letter_id = malformed(ledger)

    with pytest.raises(EnvelopeRefused):
        resolve(ledger, letter_id)
    assert letter_of(ledger, "j-88").status == "open"


def test_a_mission_that_has_not_ended_is_not_replayed(ledger: LedgerAtWork) -> None:
    ledger.publish("j-1")

    with pytest.raises(ReplayRefused, match="waiting"):
        again(ledger)
    assert again(ledger, "nobody") is None


def test_a_replay_of_a_replay_grows_until_it_needs_a_name(ledger: LedgerAtWork) -> None:
    fail(ledger)
    again(ledger)
    ledger.sql("UPDATE corporation.missions SET job_id = repeat('x', 301) WHERE job_id = 'j-1'")

    with pytest.raises(ReplayRefused, match="give a job_id"):
        again(ledger, "x" * 301)
    assert again(ledger, "x" * 301, Names("short")) == Replayed("short", "waiting", "x" * 301)


def test_a_letter_that_nobody_wrote_is_neither_found_nor_resolved(ledger: LedgerAtWork) -> None:
    with transaction(ledger.engine) as connection:
        assert find(connection, 1) is None
    assert resolve(ledger, 1) is None
    assert discard(ledger, 1) is None


@pytest.mark.parametrize("length", [250, 299, 300, 301, 451])
def test_a_mission_with_a_long_key_is_asked_for_again_and_again(ledger: LedgerAtWork, length: int) -> None:
    """H-27: also a broadcast's child, whose key holds its parent's and its factory's name."""
    fail(ledger)
    fail(ledger, "j-2")
    for job_id in ("j-1", "j-2"):
        key = "x" * (length - 3) + job_id
        ledger.sql(
            "UPDATE corporation.missions SET idempotency_key = :key WHERE job_id = :job_id", key=key, job_id=job_id
        )
    made = [again(ledger, job_id) for job_id in ("j-1", "j-2", "j-1")]
    keys = {row.idempotency_key for row in ledger.sql("SELECT idempotency_key FROM corporation.missions")}

    assert [one.job_id for one in made if one] == ["j-1-r1", "j-2-r1", "j-1-r2"]
    assert len(keys) == 5
    assert max(map(len, keys)) <= max(length, 303)
