"""A factory keeps what it speaks of: its own, current attempts, and nothing else (contract fleet F-7)."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from uuid import UUID, uuid4

from ledger_at_work import AT_ONCE, LedgerAtWork

from corporation.db import transaction
from corporation.missions.store.leases import Sign, extend_all, renew
from corporation.missions.store.progress import add_lines, find_attempt


def test_an_attempt_that_a_factory_speaks_of_runs_and_has_a_fresh_lease(ledger: LedgerAtWork) -> None:
    [attempt] = ledger.hand_out("j-1")
    ledger.lapse(attempt)
    renewed = ledger.hear(attempt, lease_seconds=60)

    assert (renewed[attempt].job_id, renewed[attempt].state) == ("j-1", "running")
    assert 50 < ledger.attempts()[0].lease_left.total_seconds() <= 60
    assert ledger.state() == "running"
    assert ledger.events() == ["published", "queued", "started"]


def test_speaking_of_it_again_only_renews(ledger: LedgerAtWork) -> None:
    [attempt] = ledger.hand_out("j-1")
    ledger.hear(attempt)
    started = ledger.mission().started_at
    ledger.lapse(attempt)
    ledger.hear(attempt)

    assert ledger.mission().started_at == started
    assert ledger.events() == ["published", "queued", "started"]
    assert ledger.attempts()[0].lease_left.total_seconds() > 0


def test_a_lease_is_as_long_as_the_last_word_says_even_when_that_is_shorter(ledger: LedgerAtWork) -> None:
    [attempt] = ledger.hand_out("j-1")
    ledger.hear(attempt, lease_seconds=3600)
    ledger.hear(attempt, lease_seconds=60)

    assert ledger.attempts()[0].lease_left.total_seconds() <= 60


def test_another_factory_renews_nothing_of_it(ledger: LedgerAtWork) -> None:
    [attempt] = ledger.hand_out("j-1")
    before = ledger.attempts()[0].lease_expires_at

    assert ledger.hear(attempt, factory_id="another", lease_seconds=3600) == {}
    assert (ledger.state(), ledger.attempts()[0].lease_expires_at) == ("queued", before)


def test_an_attempt_that_was_given_up_is_not_renewed(ledger: LedgerAtWork) -> None:
    [first] = ledger.hand_out("j-1")
    ledger.lapse(first)
    ledger.rescue(AT_ONCE)

    assert ledger.hear(first) == {}
    ledger.dispatch()
    assert ledger.hear(first) == {}
    assert (ledger.state(), ledger.mission().attempt) == ("queued", 2)


def test_an_attempt_that_ended_is_not_renewed(ledger: LedgerAtWork) -> None:
    [attempt] = ledger.hand_out("j-1")
    ledger.report(attempt)
    ledger.collect()

    assert ledger.hear(attempt) == {}
    assert ledger.state() == "succeeded"


def test_among_many_signs_only_the_held_ones_count(ledger: LedgerAtWork) -> None:
    held, other = ledger.hand_out("j-1", "j-2")
    ledger.report(other)
    ledger.collect()

    assert set(ledger.hear(held, other, str(uuid4()))) == {held}


def test_no_signs_renew_nothing(ledger: LedgerAtWork) -> None:
    assert ledger.hear() == {}


def test_progress_is_kept_until_there_is_newer(ledger: LedgerAtWork) -> None:
    [attempt] = ledger.hand_out("j-1")
    with transaction(ledger.engine) as connection:
        renew(connection, "desk-7", [Sign(UUID(attempt), '{"percent": 40}')], 180)
    ledger.hear(attempt)

    assert ledger.attempts()[0].progress == {"percent": 40}


def test_extending_all_reaches_every_live_attempt_and_no_ended_one(ledger: LedgerAtWork) -> None:
    queued, running, ended = ledger.hand_out("j-1", "j-2", "j-3")
    ledger.hear(running)
    ledger.report(ended)
    ledger.collect()
    ledger.lapse(queued, running, ended)
    with transaction(ledger.engine) as connection:
        assert extend_all(connection, 180) == 2

    assert ledger.rescue() == 0
    assert ledger.attempts("j-3")[0].lease_left.total_seconds() < 0


def test_many_beats_about_the_same_attempts_start_each_once(ledger: LedgerAtWork) -> None:
    attempts = ledger.hand_out(*(f"j-{number}" for number in range(40)))
    together = Barrier(8)

    def hear(number: int) -> int:
        together.wait(10)
        return len(ledger.hear(*(attempts if number % 2 else reversed(attempts))))

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(hear, range(8))) == [40] * 8

    assert ledger.events("j-0") == ["published", "queued", "started"]


def lines(ledger: LedgerAtWork) -> list[tuple[int, str]]:
    rows = ledger.sql("SELECT number, line FROM corporation.mission_log ORDER BY attempt, number")
    return [(row.number, row.line) for row in rows]


def say(ledger: LedgerAtWork, attempt_id: str, *words: str, first: int | None = None) -> None:
    with transaction(ledger.engine) as connection:
        attempt = find_attempt(connection, UUID(attempt_id))
        assert attempt is not None
        add_lines(connection, attempt, words, first)


def test_log_lines_sent_twice_are_kept_once(ledger: LedgerAtWork) -> None:
    [attempt] = ledger.hand_out("j-1")
    say(ledger, attempt, "one", "two", first=1)
    say(ledger, attempt, "two again", "three", first=2)

    assert lines(ledger) == [(1, "one"), (2, "two"), (3, "three")]


def test_log_lines_without_numbers_follow_the_last_one(ledger: LedgerAtWork) -> None:
    [attempt] = ledger.hand_out("j-1")
    say(ledger, attempt, "one")
    say(ledger, attempt, "two", "three")
    say(ledger, attempt)

    assert lines(ledger) == [(1, "one"), (2, "two"), (3, "three")]


def test_a_log_line_is_cut_to_what_a_page_can_show_and_made_storable(ledger: LedgerAtWork) -> None:
    [attempt] = ledger.hand_out("j-1")
    say(ledger, attempt, "x" * 10_000, "a\0b", "")

    assert lines(ledger) == [(1, "x" * 8192), (2, "a\u2400b"), (3, "")]


def test_an_attempt_says_whether_it_is_current(ledger: LedgerAtWork) -> None:
    [attempt] = ledger.hand_out("j-1")

    def current() -> bool | None:
        with ledger.engine.connect() as connection:
            found = find_attempt(connection, UUID(attempt))
        return found.current if found else None

    assert current() is True
    ledger.report(attempt)
    ledger.collect()
    assert current() is False
    with ledger.engine.connect() as connection:
        assert find_attempt(connection, uuid4()) is None
