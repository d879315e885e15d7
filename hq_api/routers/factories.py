"""Factories say that they live, and are told what to do (contract http §5, fleet §2 and §3)."""

from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError
from starlette.responses import Response

from corporation.db import transaction
from corporation.factories.store import Beat, record_beat
from corporation.missions.store import cancelling, leases
from corporation.missions.store.leases import Sign
from corporation.missions.store.sending import NOT_CURRENT
from corporation.roles import FactoryRole
from corporation.strict_json import dump
from hq_api.access import FACTORY, Principal
from hq_api.dependencies import JsonObject, Ledger, ReadSettings, principal_with
from hq_api.gates import Headquarters
from hq_api.responses import Json, Refusal
from hq_api.validation import checked, refuse_unstorable

STATUSES: Final = ("online", "paused", "draining", "stale", "offline")
MOST_LABELS: Final = 500
MOST_RUNNING: Final = 10_000

router = APIRouter(tags=["factories"])

Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
Label = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class RunningForm(BaseModel):
    """One attempt that a factory says it runs."""

    attempt_id: str
    job_id: str = ""
    progress: dict[str, Any] | None = None


class BeatForm(BaseModel):
    """A heartbeat's body; everything but `factory_id` may be left out (F-6), and unknown keys are ignored (H-2)."""

    model_config = ConfigDict(extra="ignore")

    factory_id: Name
    factory_role: FactoryRole | None = None
    deployment_profile: Label | None = None
    registration_status: str = "online"
    heartbeat_latency_ms: Annotated[float, Field(ge=0, le=86_400_000)] | None = None
    capabilities: Annotated[list[Label], Field(max_length=MOST_LABELS)] | None = None
    metadata: dict[str, Any] | None = None
    running: Annotated[list[RunningForm], Field(max_length=MOST_RUNNING)] = []
    slots: Annotated[int, Field(ge=0, le=10_000)] | None = None
    queues: Annotated[list[Label], Field(max_length=50)] | None = None
    version: Label | None = None

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


@router.post("/api/v1/factory/registrations")
def register(
    request: Request,
    caller: Annotated[Principal, Depends(principal_with(FACTORY))],
    _: Headquarters,
    document: JsonObject,
    ledger: Ledger,
    settings: ReadSettings,
) -> Response:
    """The factory was heard of now, and what it runs has a fresh lease; the answer says what it must stop."""
    refuse_unstorable(document)
    form = checked(BeatForm, document)
    if caller.scope == FACTORY:
        _must_be_itself(caller, form)
    signs = list(_signs(form.running))
    try:
        with transaction(ledger) as connection:
            registration = record_beat(connection, _beat(form, request))
            renewed = leases.renew(connection, form.factory_id, signs, settings.attempt_lease_seconds) if signs else {}
            stops = _stops(connection, form, set(renewed))
    except IntegrityError:
        raise Refusal(409, "name_taken", "another factory has this name once it is written in a queue's name") from None
    return Json(
        {
            "ok": True,
            "registration": registration,
            "instructions": {
                "cancel": stops,
                "desired_version": None,
                "paused": registration["paused"],
                "shared_config_version": 0,
            },
        }
    )


def _must_be_itself(caller: Principal, form: BeatForm) -> None:
    if caller.factory_id != form.factory_id:
        raise Refusal(403, "forbidden", "this token speaks for another factory")
    if form.factory_role is FactoryRole.HEADQUARTERS:
        raise Refusal(403, "forbidden", "a factory cannot make itself headquarters")


def _beat(form: BeatForm, request: Request) -> Beat:
    metadata = form.metadata
    if metadata is not None and request.client is not None:
        metadata = {"remote_host": request.client.host, **metadata}
    return Beat(
        factory_id=form.factory_id,
        source="api_registration",
        factory_role=str(form.factory_role) if form.factory_role else None,
        deployment_profile=form.deployment_profile,
        registration_status=form.registration_status,
        heartbeat_latency_ms=form.heartbeat_latency_ms,
        capabilities=form.capabilities,
        metadata=metadata,
        slots=form.slots,
        queues=form.queues,
        version=form.version,
    )


def _signs(running: list[RunningForm]) -> list[Sign]:
    """One sign per attempt, ids that are none left out; they come back as attempts to stop."""
    signs: dict[UUID, Sign] = {}
    for one in running:
        try:
            attempt_id = UUID(one.attempt_id)
        except ValueError:
            continue
        progress = dump(one.progress).replace("\\u0000", "\\u2400") if one.progress else None
        signs[attempt_id] = Sign(attempt_id, progress)
    return list(signs.values())


def _stops(connection: Connection, form: BeatForm, current: set[str]) -> list[dict[str, str]]:
    """What the factory is to stop: attempts that were cancelled, and what it runs without holding it any more."""
    stale = [one for one in form.running if one.attempt_id.lower() not in current]
    known = [one.attempt_id for one in stale if _is_id(one.attempt_id)]
    reasons = cancelling.reasons(connection, form.factory_id, known) if known else {}
    cancelled = cancelling.to_stop(connection, form.factory_id, MOST_RUNNING)
    return [
        *({"attempt_id": one.attempt_id, "job_id": one.job_id, "reason": one.reason} for one in cancelled),
        *(
            {
                "attempt_id": one.attempt_id,
                "job_id": one.job_id,
                "reason": reasons.get(one.attempt_id.lower(), NOT_CURRENT),
            }
            for one in stale
        ),
    ]


def _is_id(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True
