"""One function per record that tests make: valid as it stands, with any field changed by name."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from corporation.envelope import MissionEnvelope, MissionPayload
from corporation.factories.staleness import Thresholds
from corporation.factories.store import Beat
from corporation.missions.dispatch import DispatchRules
from corporation.missions.finish import Standing
from corporation.missions.kinds import resolve
from corporation.missions.outcomes import Outcome, to_report
from corporation.missions.routing import FactoryView, Need
from corporation.missions.submit import Submission

ALL_LABELS = ("vp_coder", "vp_general", "tutorial_bootstrap_consumer")


def envelope(
    job_id: str = "j-1", context: Mapping[str, Any] | None = None, task: str = "Tidy the notes", **changes: Any
) -> MissionEnvelope:
    """A valid envelope whose idempotency key is `k-<job_id>`."""
    payload = MissionPayload(task=task, context=dict(context or {}))
    return MissionEnvelope.model_validate(
        {"job_id": job_id, "idempotency_key": f"k-{job_id}", "payload": payload} | changes
    )


def submission(job_id: str = "j-1", source: str = "rest", **changes: Any) -> Submission:
    """A submission of that envelope, with its kind resolved as the doors do."""
    written = envelope(job_id, **changes)
    return Submission(written, resolve(written), source)


def beat(factory_id: str = "desk-7", labels: Sequence[str] = ALL_LABELS, slots: int = 2, **changes: Any) -> Beat:
    """A heartbeat of a factory that can run every kind, from queues of its own."""
    fields: dict[str, Any] = {
        "source": "api_registration",
        "queues": [f"{factory_id}-missions", f"factory.{factory_id}"],
    } | changes
    return Beat(factory_id=factory_id, capabilities=list(labels), slots=slots, **fields)


def factory_view(factory_id: str = "desk-7", **changes: Any) -> FactoryView:
    """An online factory with two free slots, as routing sees it."""
    fields: dict[str, Any] = {
        "status": "online",
        "labels": frozenset(ALL_LABELS),
        "slots": 2,
        "held": 0,
        "queue": f"factory.{factory_id}",
    }
    return FactoryView(factory_id=factory_id, **(fields | changes))


def need(mission_id: int = 1, label: str | None = "vp_general", target: str | None = None, **changes: Any) -> Need:
    """What a general mission without a target needs."""
    return Need(mission_id, label, target, **changes)


def standing(**changes: Any) -> Standing:
    """The first of three attempts, still current."""
    fields: dict[str, Any] = {
        "mission_id": 1,
        "job_id": "j-1",
        "mission_kind": "general_task",
        "attempt_id": "5f2b6c1e-0d1f-4f0e-9a36-3f1f6f0c9d11",
        "attempt": 1,
        "factory_id": "desk-7",
        "attempts_total": 3,
        "attempts_before": 0,
        "current": True,
    }
    return Standing(**(fields | changes))


def report(outcome: Outcome, seconds: float | None = 0.5) -> bytes:
    """The bytes a factory stores in the mailbox for `outcome` after running for `seconds`."""
    fields = to_report(outcome)
    return json.dumps(fields if seconds is None else {**fields, "duration_seconds": seconds}).encode()


def celery_failure(kind: str, *words: str) -> bytes:
    """What Celery stores by itself when a task never got to report."""
    return json.dumps({"exc_type": kind, "exc_message": list(words), "exc_module": "celery.exceptions"}).encode()


def rules(lease_seconds: float = 180.0, **changes: Any) -> DispatchRules:
    """A dispatcher's numbers with the contract's defaults."""
    return DispatchRules(lease_seconds, Thresholds(), **changes)
