"""The beat jobs of headquarters, as its control worker does them: each may be done twice."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from ledger_at_work import LedgerAtWork

from corporation.settings import load_settings
from factory_tasks import fleet_jobs
from factory_tasks.node import build_node


@pytest.fixture(autouse=True)
def at_headquarters(ledger_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    variables = {
        "FACTORY_ROLE": "HEADQUARTERS",
        "UA_FACTORY_ID": "hq",
        "UA_DATABASE_URL": ledger_url,
        "UA_VP_DB_PATH": str(tmp_path / "spool.db"),
        "UA_FACTORY_STALE_SECONDS": "100",
        "UA_FACTORY_OFFLINE_SECONDS": "200",
    }
    here = build_node(load_settings(variables))
    monkeypatch.setattr(fleet_jobs, "node", lambda: here)
    fleet_jobs._ledger.cache_clear()  # pyright: ignore[reportPrivateUsage]
    yield
    fleet_jobs._ledger(os.getpid()).dispose()  # pyright: ignore[reportPrivateUsage]
    fleet_jobs._ledger.cache_clear()  # pyright: ignore[reportPrivateUsage]


def silent(ledger: LedgerAtWork, seconds: int) -> None:
    ledger.sql(
        "UPDATE corporation.factories SET last_seen_at = now() - :ago * interval '1 second'",
        ago=seconds,
    )


def events(ledger: LedgerAtWork) -> list[str]:
    return [row.type for row in ledger.sql("SELECT type FROM corporation.factory_events ORDER BY id")]


@pytest.mark.parametrize(("seconds", "wanted"), [(50, []), (150, ["stale"]), (250, ["offline"])])
def test_the_sweep_judges_by_the_limits_of_the_settings(ledger: LedgerAtWork, seconds: int, wanted: list[str]) -> None:
    ledger.beat()
    silent(ledger, seconds)

    fleet_jobs.sweep_factories()
    fleet_jobs.sweep_factories()

    assert [event for event in events(ledger) if event in ("stale", "offline")] == wanted


def test_each_factory_that_is_due_is_asked_for_an_echo_once(ledger: LedgerAtWork) -> None:
    ledger.beat(labels=["delegation_redis"])

    fleet_jobs.echo_factories()
    fleet_jobs.echo_factories()

    assert ledger.sql("SELECT topic, factory_id FROM corporation.outbox") == [("echo", "desk-7")]
