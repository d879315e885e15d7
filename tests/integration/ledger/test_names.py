"""A job_id is a mission or an alias, never both, whoever comes first, and however the names of a batch cross (S-18)."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from builders import submission
from ledger_at_work import LedgerAtWork
from sqlalchemy import Connection, event

from corporation.missions import queries
from corporation.missions.replay import Names, Replayed, replay
from corporation.missions.submit import Submission, submit

Wait = Callable[..., Any]
WAITING = "SELECT 1 FROM pg_locks WHERE NOT granted AND locktype IN ('transactionid', 'tuple')"


def named(job_id: str, key: str, **changes: Any) -> Submission:
    return submission(job_id, idempotency_key=key, **changes)


def outcomes(receipts: list[Any]) -> list[tuple[str, str]]:
    return [(receipt.outcome, receipt.job_id) for receipt in receipts]


def while_open(
    ledger: LedgerAtWork,
    wait_until: Wait,
    first: Submission,
    second: list[Submission],
    end: Callable[[Connection], Any],
) -> list[tuple[str, str]]:
    """What `second` is answered that comes while `first` is not committed yet, which then ends by `end`."""
    with ThreadPoolExecutor(1) as pool, ledger.engine.connect() as connection:
        submit(connection, [first], 0)
        later = pool.submit(ledger.submit, *second)
        wait_until(lambda: ledger.sql(WAITING), what="the second waits for the first")
        end(connection)
        return outcomes(later.result(30))


def names(ledger: LedgerAtWork) -> tuple[list[str], list[str]]:
    """The missions' names and the aliases."""
    missions = ledger.sql("SELECT job_id FROM corporation.missions ORDER BY job_id")
    aliases = ledger.sql("SELECT job_id FROM corporation.mission_aliases ORDER BY job_id")
    return [row.job_id for row in missions], [row.job_id for row in aliases]


def test_a_name_that_is_becoming_an_alias_becomes_no_mission(ledger: LedgerAtWork, wait_until: Wait) -> None:
    ledger.submit(named("j-1", "k-1"))
    new = [named("j-2", "k-2"), named("j-3", "k-3")]
    answered = while_open(ledger, wait_until, named("j-2", "k-1"), new, Connection.commit)

    assert answered == [("existed", "j-1"), ("stored", "j-3")]
    assert names(ledger) == (["j-1", "j-3"], ["j-2"])
    assert ledger.events().count("duplicate") == 2


def test_a_name_that_is_becoming_a_mission_becomes_no_alias(ledger: LedgerAtWork, wait_until: Wait) -> None:
    ledger.submit(named("j-1", "k-1"))
    other = [named("j-2", "k-1"), named("j-3", "k-1"), named("j-2", "k-1")]
    answered = while_open(ledger, wait_until, named("j-2", "k-2"), other, Connection.commit)

    assert answered == [("conflict", "j-2"), ("existed", "j-1"), ("conflict", "j-2")]
    assert names(ledger) == (["j-1", "j-2"], ["j-3"])
    assert ledger.events("j-2") == ["published", "conflict", "conflict"]
    assert ledger.events() == ["published", "duplicate"]


@pytest.mark.parametrize(
    ("first", "second", "answer"),
    [
        (named("j-2", "k-1"), named("j-2", "k-2"), ("stored", "j-2")),
        (named("j-2", "k-2"), named("j-2", "k-1"), ("existed", "j-1")),
    ],
)
def test_a_name_that_was_given_up_is_free(
    ledger: LedgerAtWork, wait_until: Wait, first: Submission, second: Submission, answer: tuple[str, str]
) -> None:
    ledger.submit(named("j-1", "k-1"))

    assert while_open(ledger, wait_until, first, [second], Connection.rollback) == [answer]


def test_the_row_that_holds_a_name_is_never_seen(ledger: LedgerAtWork) -> None:
    ledger.submit(named("j-1", "k-1"), *(named(f"a-{number}", "k-1") for number in range(300)))

    assert len(ledger.sql("SELECT 1 FROM corporation.missions")) == 1
    assert len(ledger.sql("SELECT 1 FROM corporation.mission_aliases")) == 300


def test_a_mission_comes_before_its_namesake_among_the_aliases_of_an_old_ledger(ledger: LedgerAtWork) -> None:
    """S-18: in every read, in a replay, and when it is asked for again."""
    ledger.submit(named("j-1", "k-1"), named("j-2", "k-2"))
    ledger.sql("""INSERT INTO corporation.mission_aliases (job_id, mission_id)
                  SELECT 'j-2', id FROM corporation.missions WHERE job_id = 'j-1'""")
    own = ledger.mission("j-2").id
    ledger.sql("""UPDATE corporation.missions SET attempt = 0, state = 'failed', state_reason = NULL, error = 'x',
                         finished_at = now(), event_seq = 2 WHERE id = :id""", id=own)  # fmt: skip
    ledger.sql("INSERT INTO corporation.mission_events (mission_id, seq, type) VALUES (:id, 2, 'failed')", id=own)
    with ledger.engine.begin() as connection:
        found = queries.find_mission(connection, "j-2")
        assert found is not None
        assert (found["job_id"], queries.find_id(connection, "j-2")) == ("j-2", own)
        assert replay(connection, "j-2", Names(), 0) == Replayed("j-2-r1", "waiting", "j-2")

    assert outcomes(ledger.submit(named("j-2", "k-2"), named("j-2", "other"))) == [
        ("existed", "j-2"),
        ("conflict", "j-2"),
    ]


def test_however_the_names_of_a_batch_cross_it_takes_a_handful_of_statements(ledger: LedgerAtWork) -> None:
    """250 crossed pairs took a round each, and twenty seconds."""
    ledger.submit(*(named(f"old-{number}", f"old-{number}") for number in range(250)))
    batch = [
        one
        for number in range(250)
        for one in (named(f"old-{number}", f"k-{number}"), named(f"new-{number}", f"k-{number}"))
    ]
    statements: list[str] = []

    def count(*arguments: Any) -> None:
        statements.append(arguments[2])

    event.listen(ledger.engine, "before_cursor_execute", count)
    try:
        answered = outcomes(ledger.submit(*batch))
    finally:
        event.remove(ledger.engine, "before_cursor_execute", count)

    assert answered == [
        one for number in range(250) for one in (("conflict", f"old-{number}"), ("stored", f"new-{number}"))
    ]
    assert len(statements) <= 10
