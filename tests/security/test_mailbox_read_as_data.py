"""HQ reads what a factory wrote as bytes: nothing in a row is run, loaded or raised.

Celery's own backend is tried on the same rows first, so that it stays known what the attack is.
"""

import json
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from celery import Celery
from celery.result import AsyncResult
from sqlalchemy import Engine

from corporation.db import open_ledger
from corporation.engine.collector import Collector
from corporation.factories.access import quarantine
from corporation.missions.outcomes import Done

sys.path.append(str(Path(__file__).parent.parent / "integration" / "ledger"))

from ledger_at_work import AT_ONCE, LedgerAtWork

UNLOCKED = "ALTER TABLE mailbox.celery_taskmeta DROP CONSTRAINT result_not_pickle"
FORGED: Final = {"exc_type": "SystemExit", "exc_message": ["0"], "exc_module": "builtins"}


class Touch:
    """Whoever loads it makes a file, as he would run anything else."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    engine = open_ledger(database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def ledger(engine: Engine) -> LedgerAtWork:
    """A database whose mailbox lost its first guard: what is tried here never gets past it."""
    ledger = LedgerAtWork(engine)
    ledger.sql(UNLOCKED)
    return ledger


def collect(engine: Engine) -> None:
    """One round of the engine's collector."""
    Collector(engine, AT_ONCE, lambda: 0.5).tick()


def celerys_own(database_url: str, attempt_id: str) -> AsyncResult:
    """What a program at HQ has that asks Celery, with every option on JSON."""
    app = Celery("naive", set_as_current=False)
    app.conf.update(
        result_backend="db+" + database_url.replace("postgresql://", "postgresql+psycopg://", 1),
        database_table_schemas={"task": "mailbox"},
        database_create_tables_at_setup=False,
        result_extended=True,
        accept_content=["json"],
        result_serializer="json",
        result_accept_content=["json"],
    )
    return app.AsyncResult(attempt_id)


def test_before_asking_celery_for_the_state_of_a_pickled_row_ran_it(
    ledger: LedgerAtWork, database_url: str, tmp_path: Path
) -> None:
    mark = tmp_path / "ran"
    [attempt] = ledger.hand_out("j-1")
    ledger.fill(attempt, pickle.dumps(Touch(mark)), "FAILURE")

    _ = celerys_own(database_url, attempt).state

    assert mark.exists()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(("status", "state"), [("FAILURE", "failed"), ("SUCCESS", "succeeded")])
def test_the_collector_reads_a_pickled_row_as_bytes_that_are_no_report(
    ledger: LedgerAtWork, engine: Engine, tmp_path: Path, protocol: int, status: str, state: str
) -> None:
    """The mission ends as the row says, with a sentence instead of a result; the guard of the table is away."""
    mark = tmp_path / "ran"
    [attempt] = ledger.hand_out("j-1", max_retries=1)
    ledger.fill(attempt, pickle.dumps(Touch(mark), protocol), status)
    collect(engine)

    mission = ledger.mission()
    assert mission.state == state
    assert "the factory's report cannot be read" in json.dumps([mission.error, mission.result])
    assert not mark.exists()


def test_before_asking_celery_for_a_forged_exception_raised_it_in_hq(ledger: LedgerAtWork, database_url: str) -> None:
    [attempt] = ledger.hand_out("j-1")
    ledger.fill(attempt, json.dumps(FORGED).encode(), "FAILURE")

    with pytest.raises(SystemExit):
        celerys_own(database_url, attempt).get(timeout=1)


def test_the_collector_reads_a_forged_exception_as_the_text_of_a_failure(ledger: LedgerAtWork, engine: Engine) -> None:
    [attempt] = ledger.hand_out("j-1", max_retries=1)
    ledger.fill(attempt, json.dumps(FORGED).encode(), "FAILURE")
    collect(engine)

    assert (ledger.mission().state, ledger.mission().result["terminal_status"]) == ("failed", "failed")
    assert "SystemExit" in ledger.mission().error


def test_a_factory_in_quarantine_ends_no_mission_with_what_it_wrote_under_an_old_snapshot(
    ledger: LedgerAtWork, engine: Engine
) -> None:
    """A transaction that it opened before sees itself let in for as long as it is held open."""
    [attempt] = ledger.hand_out("j-1", max_retries=3)
    ledger.hear(attempt)
    with engine.begin() as connection:
        quarantine(connection, "desk-7", "operator", None)
    ledger.report(attempt, Done({"forged": True}))
    collect(engine)

    assert ledger.state() == "running"
    assert ledger.events()[-1] == "late_result"
    ledger.lapse(attempt)
    ledger.rescue(AT_ONCE)
    assert ledger.state() == "waiting"
    assert [one.state for one in ledger.attempts()] == ["lost"]
