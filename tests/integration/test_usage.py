"""What attempts used is added up for each day, whatever other processes add meanwhile."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from corporation.federation.spool import Spool
from factory_tasks.usage import cost_snapshot, record_usage

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
USED = {"requests": 1, "input_tokens": 100, "output_tokens": 7, "estimated_cost_usd": 0.25}


def test_uses_add_up_by_model_and_day(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.db")
    record_usage(spool, "glm-x", USED, NOON)
    record_usage(spool, "glm-x", {"requests": 2}, NOON)
    record_usage(spool, "other", USED, NOON)

    said = cost_snapshot("desk-7", spool.noted_all(), NOON)

    assert said is not None
    assert (said["total_requests"], said["total_input_tokens"], said["estimated_cost_usd"]) == (4, 200, 0.5)
    assert said["breakdown_by_model"]["glm-x"] == {**USED, "requests": 3}
    assert said["period_end"] == "2026-06-01T12:00:00.000000+00:00"


def test_no_use_is_lost_when_processes_add_at_once(tmp_path: Path) -> None:
    spools = [Spool(tmp_path / "spool.db") for _ in range(4)]

    def add(number: int) -> None:
        record_usage(spools[number % 4], "glm-x", USED, NOON)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(add, range(100)))

    said = cost_snapshot("desk-7", spools[0].noted_all(), NOON)
    assert said is not None
    assert said["total_requests"] == 100
