"""What factories spent: cumulative snapshots that replace each other, in whatever order and however often they come."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine

from corporation.clock import iso
from corporation.factories.costs import CostSnapshot, ModelCosts, cost_summary, put_snapshot

MIDNIGHT = datetime(2026, 6, 1, tzinfo=UTC)
TOTALS = ("total_input_tokens", "total_output_tokens", "total_requests", "estimated_cost_usd")


def snapshot(factory_id: str = "desk-7", day: int = 0, minute: int = 1, spent: int = 1, **changes: Any) -> CostSnapshot:
    start = MIDNIGHT + timedelta(days=day)
    fields: dict[str, Any] = {
        "period_end": start + timedelta(minutes=minute),
        "total_input_tokens": 10 * spent,
        "total_output_tokens": spent,
        "total_requests": spent,
        "estimated_cost_usd": spent / 4,
        "breakdown_by_model": {"glm-x": ModelCosts(spent, 10 * spent, spent, spent / 4)},
    }
    return CostSnapshot(factory_id, start, **(fields | changes))


@pytest.fixture
def connection(ledger_engine: Engine) -> Iterator[Connection]:
    with ledger_engine.connect() as connection:
        yield connection
        connection.rollback()


def summary(connection: Connection, since: datetime | None = None, until: datetime | None = None) -> dict[str, Any]:
    return cost_summary(connection, since, until)


def test_nothing_spent_is_a_summary_too(connection: Connection) -> None:
    assert summary(connection) == {
        "period_start": None, "period_end": None, **dict.fromkeys(TOTALS, 0), "breakdown_by_model": {}, "factories": [],
    }  # fmt: skip


def test_a_later_snapshot_replaces_the_earlier_one_and_adds_nothing(connection: Connection) -> None:
    """F-8."""
    for minute, spent in ((1, 1), (2, 5), (2, 5), (3, 8)):
        put_snapshot(connection, snapshot(minute=minute, spent=spent))

    found = summary(connection)
    assert (found["total_requests"], found["estimated_cost_usd"]) == (8, 2.0)
    assert found["breakdown_by_model"]["glm-x"]["input_tokens"] == 80
    assert found["period_end"] == iso(MIDNIGHT + timedelta(minutes=3))


def test_periods_and_factories_add_up(connection: Connection) -> None:
    for factory_id, day, spent in (("a", 0, 1), ("a", 1, 2), ("b", 0, 4)):
        put_snapshot(connection, snapshot(factory_id, day, spent=spent))

    found = summary(connection)
    assert found["total_requests"] == 7
    assert [(one["factory_id"], one["total_requests"]) for one in found["factories"]] == [("a", 3), ("b", 4)]
    assert found["factories"][0]["breakdown_by_model"]["glm-x"]["requests"] == 3
    assert (found["period_start"], found["period_end"]) == (
        iso(MIDNIGHT),
        iso(MIDNIGHT + timedelta(days=1, minutes=1)),
    )


@pytest.mark.parametrize(
    ("since", "until", "requests"),
    [(None, None, 7), (0, 1, 1), (1, 2, 2), (2, None, 4), (None, 1, 1), (0.5, 1.5, 2), (3, None, 0)],
)
def test_a_period_counts_whole_when_it_touches_the_time_asked_for(
    connection: Connection, since: float | None, until: float | None, requests: int
) -> None:
    for day, spent in ((0, 1), (1, 2), (2, 4)):
        put_snapshot(connection, snapshot(day=day, spent=spent))

    def moment(days: float | None) -> datetime | None:
        return None if days is None else MIDNIGHT + timedelta(days=days)

    assert summary(connection, moment(since), moment(until))["total_requests"] == requests


SNAPSHOTS = st.lists(
    st.builds(
        snapshot,
        st.sampled_from(["a", "b"]),
        st.integers(0, 2),
        st.integers(1, 1000),
        st.integers(0, 10**9),
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(SNAPSHOTS)
def test_the_sum_is_that_of_the_last_snapshot_of_each_period_in_any_order(
    connection: Connection, snapshots: Sequence[CostSnapshot]
) -> None:
    connection.rollback()
    last: dict[tuple[str, datetime], CostSnapshot] = {}
    for one in snapshots:
        put_snapshot(connection, one)
        stored = last.get((one.factory_id, one.period_start))
        if stored is None or one.period_end >= stored.period_end:
            last[(one.factory_id, one.period_start)] = one

    found = summary(connection)
    for name in TOTALS:
        assert found[name] == pytest.approx(sum(getattr(one, name) for one in last.values()))
    assert found["breakdown_by_model"].get("glm-x", {}).get("requests", 0) == found["total_requests"]
