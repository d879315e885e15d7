"""What a heartbeat may say (contract fleet §2): its form, what is refused, and what becomes of it for the registry."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any, Final
from uuid import UUID

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, field_validator

from corporation.factories.costs import CostSnapshot, ModelCosts
from corporation.factories.signs_of_life import WorkerSign
from corporation.factories.store import Beat
from corporation.missions.store.leases import Sign
from corporation.roles import FactoryRole
from corporation.strict_json import dump

STATUSES: Final = ("online", "paused", "draining", "stale", "offline")
MOST_LABELS: Final = 500
MOST_RUNNING: Final = 10_000
MOST_WORKERS: Final = 100
MOST_MODELS: Final = 200
MOST_TOKENS: Final = 2**53 - 1
MOST_DOLLARS: Final = 1e9
UNPRINTABLE: Final = re.compile("[\x00-\x1f\x7f-\x9f<>\u202a-\u202e\u2066-\u2069]")
"""What no host name holds, and what would be obeyed by a page or a terminal that shows one."""

Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
Label = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Seconds = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
Tokens = Annotated[int, Field(ge=0, le=MOST_TOKENS)]
Dollars = Annotated[float, Field(ge=0, le=MOST_DOLLARS, allow_inf_nan=False)]


def _shown_as_it_is(value: str) -> str:
    if UNPRINTABLE.search(value):
        raise ValueError("control characters, < and > are no part of a name that is shown")
    return value


def _moment(value: Any) -> datetime:
    """ISO-8601 text as a time; without a zone it is UTC. Years that no calendar of ours shows are refused."""
    if not isinstance(value, str):
        raise ValueError("must be an ISO-8601 time")
    moment = datetime.fromisoformat(value)
    if not 2000 <= moment.year < 2200:
        raise ValueError("lies outside the years 2000 to 2199")
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _or(default: Any) -> Callable[[Any], Any]:
    """null stands for what is left out."""
    return lambda value: default if value is None else value


Shown = Annotated[Label, AfterValidator(_shown_as_it_is)]
Moment = Annotated[datetime, BeforeValidator(_moment)]


class RunningForm(BaseModel):
    """One attempt that a factory says it runs."""

    attempt_id: str
    job_id: str = ""
    progress: dict[str, Any] | None = None


Running = Annotated[list[RunningForm], Field(max_length=MOST_RUNNING)]


class WorkerForm(BaseModel):
    """One worker of a factory, as its pulse sees it."""

    name: Shown
    slots: Annotated[int, Field(ge=0, le=10_000)] = 0
    busy: Annotated[int, Field(ge=0, le=10_000)] = 0
    queues: Annotated[list[Label], Field(max_length=50)] = []
    loop_age_seconds: Seconds | None = None
    connected: bool = False


class ModelForm(BaseModel):
    """What was spent on one model."""

    requests: Tokens = 0
    input_tokens: Tokens = 0
    output_tokens: Tokens = 0
    estimated_cost_usd: Dollars = 0.0


class CostForm(BaseModel):
    """What the factory spent in a period, cumulative (F-8)."""

    factory_id: Name | None = None
    period_start: Moment
    period_end: Moment
    total_input_tokens: Tokens = 0
    total_output_tokens: Tokens = 0
    total_requests: Tokens = 0
    estimated_cost_usd: Dollars = 0.0
    breakdown_by_model: Annotated[dict[Label, ModelForm], Field(max_length=MOST_MODELS)] = {}

    @field_validator("period_end")
    @classmethod
    def _after_the_start(cls, value: datetime, info: Any) -> datetime:
        start = info.data.get("period_start")
        if start is not None and value < start:
            raise ValueError("lies before period_start")
        return value


class BeatForm(BaseModel):
    """A heartbeat's body; everything but `factory_id` may be left out (F-6), and unknown keys are ignored (H-2)."""

    model_config = ConfigDict(extra="ignore")

    factory_id: Name
    factory_role: FactoryRole | None = None
    deployment_profile: Label | None = None
    registration_status: Annotated[str, BeforeValidator(_or("online"), json_schema_input_type=str | None)] = "online"
    heartbeat_latency_ms: Annotated[float, Field(ge=0, le=86_400_000)] | None = None
    capabilities: Annotated[list[Label], Field(max_length=MOST_LABELS)] | None = None
    metadata: dict[str, Any] | None = None
    running: Annotated[Running, BeforeValidator(_or([]), json_schema_input_type=Running | None)] = []
    slots: Annotated[int, Field(ge=0, le=10_000)] | None = None
    queues: Annotated[list[Label], Field(max_length=50)] | None = None
    version: Label | None = None
    cost_snapshot: CostForm | None = None
    instance_id: Name | None = None
    beat_number: Annotated[int, Field(ge=1, le=2**53 - 1)] | None = None
    interval_seconds: Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)] | None = None
    workers: Annotated[list[WorkerForm], Field(max_length=MOST_WORKERS)] | None = None
    echo: Label | None = None
    transport: Label | None = None
    transport_why: Annotated[str, Field(max_length=1000)] | None = None

    @field_validator("factory_role", "registration_status", mode="before")
    @classmethod
    def _trim(cls, value: Any, info: Any) -> Any:
        if not isinstance(value, str):
            return value
        return value.strip().upper() if info.field_name == "factory_role" else value.strip().lower()

    @field_validator("registration_status")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in STATUSES:
            raise ValueError(f"must be one of {', '.join(STATUSES)}")
        return value

    @field_validator("metadata")
    @classmethod
    def _host_is_a_name(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        host = (value or {}).get("hostname")
        if host is not None and not (isinstance(host, str) and len(host) <= 255):
            raise ValueError("hostname must be a text of at most 255 characters")
        _shown_as_it_is(host or "")
        return value

    @field_validator("cost_snapshot")
    @classmethod
    def _its_own(cls, value: CostForm | None, info: Any) -> CostForm | None:
        if value is not None and value.factory_id not in (None, info.data.get("factory_id", value.factory_id)):
            raise ValueError("factory_id is another factory's")
        return value


def beat_of(form: BeatForm, remote_host: str | None) -> Beat:
    """What the registry is told."""
    return Beat(
        factory_id=form.factory_id,
        source="api_registration",
        factory_role=str(form.factory_role) if form.factory_role else None,
        deployment_profile=form.deployment_profile,
        registration_status=form.registration_status,
        heartbeat_latency_ms=form.heartbeat_latency_ms,
        capabilities=form.capabilities,
        metadata=_metadata(form),
        remote_host=remote_host,
        slots=form.slots,
        queues=form.queues,
        version=form.version,
        instance_id=form.instance_id,
        beat_number=form.beat_number,
        interval_seconds=form.interval_seconds,
        workers=[WorkerSign(**vars(one)) for one in form.workers] if form.workers is not None else None,
        echo=form.echo if form.echo and is_id(form.echo) else None,
    )


def snapshot_of(form: BeatForm) -> CostSnapshot | None:
    """What the factory spent, None when it did not say; the snapshot is its own, whatever it calls itself in there."""
    costs = form.cost_snapshot
    if costs is None:
        return None
    return CostSnapshot(
        factory_id=form.factory_id,
        period_start=costs.period_start,
        period_end=costs.period_end,
        total_input_tokens=costs.total_input_tokens,
        total_output_tokens=costs.total_output_tokens,
        total_requests=costs.total_requests,
        estimated_cost_usd=costs.estimated_cost_usd,
        breakdown_by_model={model: ModelCosts(**vars(one)) for model, one in costs.breakdown_by_model.items()},
    )


def signs_of(running: list[RunningForm]) -> list[Sign]:
    """One sign per attempt, ids that are none left out; they come back as attempts to stop."""
    signs: dict[UUID, Sign] = {}
    for one in running:
        if not is_id(one.attempt_id):
            continue
        attempt_id = UUID(one.attempt_id)
        progress = dump(one.progress).replace("\\u0000", "\\u2400") if one.progress else None
        signs[attempt_id] = Sign(attempt_id, progress)
    return list(signs.values())


def is_id(text: str) -> bool:
    """Whether `text` could name an attempt or an echo."""
    try:
        UUID(text)
    except ValueError:
        return False
    return True


def _metadata(form: BeatForm) -> dict[str, Any] | None:
    if form.metadata is None:
        return None
    way = {"transport": form.transport, "transport_why": form.transport_why}
    told = {name: value for name, value in way.items() if value is not None}
    return form.metadata | told
