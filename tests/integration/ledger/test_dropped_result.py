"""A mission whose result was too large to come home has succeeded, and says what became of the result."""

from typing import Any

import pytest
from ledger_at_work import LedgerAtWork

from corporation.db import transaction
from corporation.factories.staleness import Thresholds
from corporation.missions.explain import explain
from corporation.missions.outcomes import Done
from corporation.missions.store.explaining import read_facts
from factory_tasks.mission_task import fit


def why(ledger: LedgerAtWork, result: dict[str, Any]) -> str:
    [attempt] = ledger.hand_out("j-1")
    ledger.report(attempt, Done(result))
    ledger.collect()
    with transaction(ledger.engine) as connection:
        facts = read_facts(connection, "j-1", Thresholds())
    assert facts is not None
    return explain(facts).sentence


def test_a_result_that_was_too_large_is_spoken_of_with_its_size(ledger: LedgerAtWork) -> None:
    left = fit({"outcome": "done", "result": {"text": "x" * 1_000_000}})["result"]

    assert "but its result was dropped: its report has 1000043 bytes, and may have 900000" in why(ledger, left)


@pytest.mark.parametrize("result", [{}, {"dropped": "a parcel"}, {"result_ref": "x", "text": "dropped"}])
def test_a_result_that_came_home_is_not(ledger: LedgerAtWork, result: dict[str, Any]) -> None:
    assert "dropped" not in why(ledger, result)
