"""What factories say they spent: one snapshot for each period, cumulative within it (fleet F-8).

A snapshot that was sent again, or a hundred times, counts once.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, text

from corporation.clock import iso

# One that was made earlier than the stored one came late, and says less.
PUT = text("""
    INSERT INTO corporation.factory_costs AS c
      (factory_id, period_start, period_end, total_input_tokens, total_output_tokens, total_requests,
       estimated_cost_usd, breakdown_by_model)
    VALUES (:factory_id, :period_start, :period_end, :total_input_tokens, :total_output_tokens, :total_requests,
            :estimated_cost_usd, CAST(:breakdown_by_model AS json))
    ON CONFLICT (factory_id, period_start) DO UPDATE SET
       period_end = excluded.period_end, total_input_tokens = excluded.total_input_tokens,
       total_output_tokens = excluded.total_output_tokens, total_requests = excluded.total_requests,
       estimated_cost_usd = excluded.estimated_cost_usd, breakdown_by_model = excluded.breakdown_by_model,
       updated_at = now()
     WHERE excluded.period_end >= c.period_end
""")

MOST_PERIODS = 400
"""How many of a factory's newest periods are kept: more than a year of days. It names them itself."""

FORGET = text("""
    DELETE FROM corporation.factory_costs WHERE factory_id = :factory_id AND period_start <=
      (SELECT period_start FROM corporation.factory_costs WHERE factory_id = :factory_id
        ORDER BY period_start DESC OFFSET :most LIMIT 1)
""")

WITHIN = """
    (CAST(:since AS timestamptz) IS NULL OR c.period_end > :since OR c.period_start >= :since)
    AND (CAST(:until AS timestamptz) IS NULL OR c.period_start < :until)
"""

BY_FACTORY = text(f"""
    SELECT c.factory_id, min(c.period_start) AS period_start, max(c.period_end) AS period_end,
           CAST(sum(c.total_input_tokens) AS bigint) AS total_input_tokens,
           CAST(sum(c.total_output_tokens) AS bigint) AS total_output_tokens,
           CAST(sum(c.total_requests) AS bigint) AS total_requests, sum(c.estimated_cost_usd) AS estimated_cost_usd
      FROM corporation.factory_costs c WHERE {WITHIN} GROUP BY c.factory_id ORDER BY c.factory_id
""")  # noqa: S608 - put in is the condition above

BY_MODEL = text(f"""
    SELECT c.factory_id, m.model, CAST(sum(CAST(m.spent ->> 'requests' AS numeric)) AS bigint) AS requests,
           CAST(sum(CAST(m.spent ->> 'input_tokens' AS numeric)) AS bigint) AS input_tokens,
           CAST(sum(CAST(m.spent ->> 'output_tokens' AS numeric)) AS bigint) AS output_tokens,
           sum(CAST(m.spent ->> 'estimated_cost_usd' AS double precision)) AS estimated_cost_usd
      FROM corporation.factory_costs c CROSS JOIN LATERAL json_each(c.breakdown_by_model) AS m(model, spent)
     WHERE {WITHIN} GROUP BY c.factory_id, m.model ORDER BY c.factory_id, m.model
""")  # noqa: S608


@dataclass(frozen=True)
class ModelCosts:
    """What was spent on one model."""

    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    estimated_cost_usd: float = 0.0


@dataclass(frozen=True)
class CostSnapshot:
    """What a factory had spent between the start of a period and `period_end`, all in all and by model."""

    factory_id: str
    period_start: datetime
    period_end: datetime
    total_input_tokens: int = 0
    total_output_tokens: int = 0
    total_requests: int = 0
    estimated_cost_usd: float = 0.0
    breakdown_by_model: Mapping[str, ModelCosts] = field(default_factory=dict[str, ModelCosts])


def put_snapshot(connection: Connection, snapshot: CostSnapshot) -> None:
    """The snapshot stands for its factory's whole period; nothing is added up, so calling twice changes nothing.

    One that ends before the stored one came late and is dropped.
    """
    breakdown = {model: asdict(spent) for model, spent in snapshot.breakdown_by_model.items()}
    connection.execute(PUT, {**vars(snapshot), "breakdown_by_model": json.dumps(breakdown)})
    connection.execute(FORGET, {"factory_id": snapshot.factory_id, "most": MOST_PERIODS})


def cost_summary(connection: Connection, since: datetime | None, until: datetime | None) -> dict[str, Any]:
    """The totals of all periods that touch the time from `since` to before `until`, and those of each factory.

    Snapshots cannot be cut: a period counts whole. Without any the period is null and all totals are 0.
    """
    window = {"since": since, "until": until}
    models: dict[str, dict[str, ModelCosts]] = {}
    for row in connection.execute(BY_MODEL, window):
        models.setdefault(row.factory_id, {})[row.model] = ModelCosts(
            row.requests, row.input_tokens, row.output_tokens, row.estimated_cost_usd
        )
    rows = connection.execute(BY_FACTORY, window).all()
    factories = [{"factory_id": row.factory_id, **_spent(row, models.get(row.factory_id, {}))} for row in rows]
    return {**_whole(factories, models), "factories": factories}


def _spent(row: Row[Any], models: Mapping[str, ModelCosts]) -> dict[str, Any]:
    return {
        "period_start": iso(row.period_start),
        "period_end": iso(row.period_end),
        "total_input_tokens": row.total_input_tokens,
        "total_output_tokens": row.total_output_tokens,
        "total_requests": row.total_requests,
        "estimated_cost_usd": row.estimated_cost_usd,
        "breakdown_by_model": {model: asdict(spent) for model, spent in models.items()},
    }


def _whole(factories: list[dict[str, Any]], models: Mapping[str, Mapping[str, ModelCosts]]) -> dict[str, Any]:
    by_model: dict[str, ModelCosts] = {}
    for of_factory in models.values():
        for model, spent in of_factory.items():
            by_model[model] = _sum(by_model.get(model, ModelCosts()), spent)
    totals = ("total_input_tokens", "total_output_tokens", "total_requests", "estimated_cost_usd")
    return {
        "period_start": min((one["period_start"] for one in factories), default=None),
        "period_end": max((one["period_end"] for one in factories), default=None),
        **{name: sum(one[name] for one in factories) for name in totals},
        "breakdown_by_model": {model: asdict(spent) for model, spent in sorted(by_model.items())},
    }


def _sum(one: ModelCosts, other: ModelCosts) -> ModelCosts:
    return ModelCosts(
        one.requests + other.requests,
        one.input_tokens + other.input_tokens,
        one.output_tokens + other.output_tokens,
        one.estimated_cost_usd + other.estimated_cost_usd,
    )
