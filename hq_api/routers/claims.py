"""Missions are handed out over HTTPS (contract http §8)."""

from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator
from sqlalchemy import Engine
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from corporation.clock import iso, monotonic, new_id, utc_now
from corporation.db import transaction
from corporation.missions.claim import Claim, Claimed, claim
from corporation.missions.kinds import ALIASES
from corporation.missions.store.claiming import ClaimedAttempt
from corporation.trust.claimed_orders import FIELD, signature_of
from corporation.trust.signatures import Signer
from hq_api.access import FACTORY, Principal
from hq_api.dependencies import JsonObject, Ledger, ReadSettings, bearer, principal_with, valid_principal
from hq_api.described_routes import reads
from hq_api.gates import Headquarters, MayConsume
from hq_api.long_poll import Waiting
from hq_api.responses import Json, Refusal
from hq_api.validation import checked, refuse_unstorable

MOST_AT_ONCE: Final = 32
LONGEST_WAIT_SECONDS: Final = 30
MOST_HELD: Final = 10_000

router = APIRouter(prefix="/api/v1/factory/missions", tags=["attempts"])

Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]


class ClaimForm(BaseModel):
    """What a factory asks for; ours are `holding`, the attempts it knows, and `worker_id`, the process that asks."""

    model_config = ConfigDict(extra="ignore")

    factory_id: Name
    max: Annotated[int, Field(ge=1, le=MOST_AT_ONCE, strict=True)] = 1
    mission_kinds: Annotated[list[Name], Field(max_length=500)] | None = None
    wait_seconds: Annotated[float, Field(ge=0, le=LONGEST_WAIT_SECONDS, strict=True)] = 0
    holding: Annotated[list[UUID], Field(max_length=MOST_HELD)] | None = None
    worker_id: Name | None = None

    @field_validator("mission_kinds")
    @classmethod
    def _known_names(cls, kinds: list[str] | None) -> list[str] | None:
        return None if kinds is None else [ALIASES.get(kind.lower(), kind.lower()) for kind in kinds]


@router.post("/claim", openapi_extra=reads(ClaimForm, required=True))
async def claim_missions(
    request: Request,
    caller: Annotated[Principal, Depends(principal_with(FACTORY))],
    _: Headquarters,
    __: MayConsume,
    document: JsonObject,
    ledger: Ledger,
    settings: ReadSettings,
) -> Response:
    """The factory holds what is answered; with `wait_seconds` the answer comes as soon as there is something."""
    refuse_unstorable(document)
    form = checked(ClaimForm, document)
    if caller.scope == FACTORY and caller.factory_id != form.factory_id:
        raise Refusal(403, "forbidden", "this token speaks for another factory")
    waiting: Waiting = request.app.state.waiting
    asked, deadline = _asked(form), monotonic() + form.wait_seconds
    while True:
        woken = waiting.next_wake
        claimed = await run_in_threadpool(_claim, request, ledger, asked, float(settings.attempt_lease_seconds))
        if claimed.attempts or claimed.paused:
            break
        if not await waiting.until_woken(woken, deadline) or await request.is_disconnected():
            break
    shown = [_signed(request.app.state.signer, _shown(one), form.factory_id) for one in claimed.attempts]
    return Json({"attempts": shown, "paused": claimed.paused})


def _claim(request: Request, ledger: Engine, asked: Claim, lease_seconds: float) -> Claimed:
    # Before each look: a token may end while its bearer waits.
    valid_principal(request, bearer(request))
    with transaction(ledger) as connection:
        return claim(connection, asked, lease_seconds, new_id)


def _asked(form: ClaimForm) -> Claim:
    return Claim(
        factory_id=form.factory_id,
        most=form.max,
        kinds=None if form.mission_kinds is None else frozenset(form.mission_kinds),
        holding=None if form.holding is None else frozenset(map(str, form.holding)),
        worker_id=form.worker_id,
    )


def _signed(signer: Signer | None, shown: dict[str, Any], factory_id: str) -> dict[str, Any]:
    """With ours, `signature`, when this HQ has a key: a factory that was given HQ's keys runs nothing without it."""
    return {**shown, FIELD: signature_of(signer, shown, factory_id, utc_now().timestamp())} if signer else shown


def _shown(one: ClaimedAttempt) -> dict[str, Any]:
    return {
        "attempt_id": one.attempt_id,
        "attempt": one.attempt,
        "job_id": one.job_id,
        "mission_kind": one.mission_kind,
        "lease_expires_at": iso(one.lease_expires_at),
        "timeout_seconds": one.timeout_seconds,
        "envelope": one.envelope,
    }
