"""What this factory's attempts used, added up for each day (UTC): the cost snapshots of its heartbeats (F-8)."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from corporation import clock
from corporation.federation.spool import Spool

OF_DAY: Final = "usage:"
"""Before the day: the note that holds what was used on it, as JSON."""
TOLD: Final = "usage_told:"
"""Before the day: what of it HQ has taken, in the same words."""
COUNTS: Final = ("requests", "input_tokens", "output_tokens", "estimated_cost_usd")


def record_usage(spool: Spool, model: str, used: Mapping[str, float], now: datetime | None = None) -> None:
    """The day's counts of `model` grow by these (`requests`, `input_tokens`, `output_tokens`, `estimated_cost_usd`).

    Each call adds, whatever other processes add meanwhile: call it once for what was used once.
    """

    def add(before: str | None) -> str:
        models: dict[str, dict[str, float]] = json.loads(before) if before else {}
        counts = models.get(model, {})
        models[model] = {name: counts.get(name, 0) + used.get(name, 0) for name in COUNTS}
        return json.dumps(models, sort_keys=True)

    spool.change_note(OF_DAY + (now or clock.utc_now()).date().isoformat(), add)


def cost_snapshot(factory_id: str, facts: Mapping[str, str], now: datetime | None = None) -> dict[str, Any] | None:
    """The oldest day of which HQ does not know all, in the shape of contract fleet §2; None when it knows all.

    `facts` are the notes of the spool. The end of a day is told on the next one.
    """
    day = _untold(facts)
    if day is None:
        return None
    start = datetime.fromisoformat(day).replace(tzinfo=UTC)
    models: dict[str, dict[str, float]] = json.loads(facts[OF_DAY + day])
    total = {name: sum(used[name] for used in models.values()) for name in COUNTS}
    return {
        "factory_id": factory_id,
        "period_start": clock.iso(start),
        "period_end": clock.iso(min(now or clock.utc_now(), start + timedelta(days=1))),
        "total_input_tokens": int(total["input_tokens"]),
        "total_output_tokens": int(total["output_tokens"]),
        "total_requests": int(total["requests"]),
        "estimated_cost_usd": round(float(total["estimated_cost_usd"]), 6),
        "breakdown_by_model": models,
    }


def told_with(snapshot: Mapping[str, Any] | None) -> dict[str, str]:
    """The notes that say that HQ has taken this snapshot; a later use makes the day untold again."""
    if not snapshot:
        return {}
    return {TOLD + snapshot["period_start"][:10]: json.dumps(snapshot["breakdown_by_model"], sort_keys=True)}


def _untold(facts: Mapping[str, str]) -> str | None:
    days = sorted(name.removeprefix(OF_DAY) for name in facts if name.startswith(OF_DAY))
    return next((day for day in days if facts.get(TOLD + day) != facts[OF_DAY + day]), None)
