"""A factory tells how an attempt is going; telling renews its lease (contract http §8, H-31)."""

from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, Field, StringConstraints
from sqlalchemy import Connection
from starlette.responses import Response

from corporation.clock import iso
from corporation.db import transaction
from corporation.missions.store import https_results, leases, progress
from corporation.missions.store.leases import Renewed, Sign
from corporation.missions.store.progress import AttemptRow
from corporation.strict_json import dump
from hq_api.access import FACTORY, Principal
from hq_api.body import BATCH_LIMIT_BYTES, read_object
from hq_api.dependencies import Ledger, ReadSettings, principal_with
from hq_api.described_routes import reads
from hq_api.gates import Headquarters, MayConsume
from hq_api.responses import Json, Refusal
from hq_api.validation import checked, refuse_unstorable

MOST_LINES: Final = 1000
LONGEST_RUN_SECONDS: Final = 86_400 * 7
"""Beyond this a duration is a mistake: no mission runs longer than a day."""
Count = Annotated[int, Field(ge=0, le=2**53 - 1)]
Caller = Annotated[Principal, Depends(principal_with(FACTORY))]

router = APIRouter(prefix="/api/v1/factory/missions", tags=["attempts"])


class ModelUsageForm(BaseModel):
    """What one model was used for by an attempt so far."""

    requests: Count = 0
    input_tokens: Count = 0
    output_tokens: Count = 0


class ProgressForm(BaseModel):
    """How an attempt is going; all of it may be left out.

    Ours: `log_from` numbers the first line of `log`, `elapsed_seconds` says for how long the attempt has run.
    """

    percent: Annotated[int, Field(ge=0, le=100)] | None = None
    message: Annotated[str, StringConstraints(max_length=2000)] | None = None
    usage: dict[Annotated[str, StringConstraints(min_length=1, max_length=200)], ModelUsageForm] | None = None
    log: Annotated[list[Annotated[str, StringConstraints(max_length=65_536)]], Field(max_length=MOST_LINES)] = []
    elapsed_seconds: Annotated[float, Field(ge=0, le=LONGEST_RUN_SECONDS)] = 0.0
    log_from: Annotated[int, Field(ge=1, le=10**9 - 1 - MOST_LINES)] | None = None


async def _log_object(request: Request) -> dict[str, Any]:
    # A thousand lines of output are larger than an order.
    return await read_object(request, BATCH_LIMIT_BYTES)


@router.post("/{attempt_id}/start")
def start(
    attempt_id: str, caller: Caller, _: Headquarters, __: MayConsume, ledger: Ledger, settings: ReadSettings
) -> Response:
    """The mission runs, from now on if it did not already; repeating it gives the same answer."""
    with transaction(ledger) as connection:
        renewed = _renew(connection, caller, Sign(_id_of(attempt_id)), settings.attempt_lease_seconds)[1]
    return Json(
        {
            "attempt_id": renewed.attempt_id,
            "job_id": renewed.job_id,
            "state": "running",
            "lease_expires_at": iso(renewed.lease_expires_at),
        }
    )


@router.post("/{attempt_id}/progress", openapi_extra=reads(ProgressForm, required=True))
def tell_progress(
    attempt_id: str,
    caller: Caller,
    _: Headquarters,
    __: MayConsume,
    document: Annotated[dict[str, Any], Depends(_log_object)],
    ledger: Ledger,
    settings: ReadSettings,
) -> Response:
    """The progress and the log lines are kept, each line once, and the attempt has a fresh lease."""
    # A log line is output and may hold anything; what is not a log line must be storable.
    refuse_unstorable({key: value for key, value in document.items() if key != "log"})
    form = checked(ProgressForm, document)
    said = {"percent": form.percent, "message": form.message} if form.percent is not None or form.message else None
    with transaction(ledger) as connection:
        known = dump(said).replace("\\u0000", "\\u2400") if said else None
        sign = Sign(_id_of(attempt_id), known, form.elapsed_seconds)
        attempt, renewed = _renew(connection, caller, sign, settings.attempt_lease_seconds)
        progress.add_lines(connection, attempt, form.log, form.log_from)
        if form.usage:
            used = {model: usage.model_dump() for model, usage in form.usage.items()}
            https_results.set_usage(connection, renewed.attempt_id, dump(used))
    return Json(
        {
            "attempt_id": renewed.attempt_id,
            "lease_expires_at": iso(renewed.lease_expires_at),
            "cancel_requested": renewed.cancel_reason is not None,
            **({"cancel_reason": renewed.cancel_reason} if renewed.cancel_reason is not None else {}),
        }
    )


def _renew(connection: Connection, caller: Principal, sign: Sign, lease_seconds: float) -> tuple[AttemptRow, Renewed]:
    attempt = progress.find_attempt(connection, sign.attempt_id)
    if attempt is None:
        raise _unknown()
    if caller.scope == FACTORY and caller.factory_id != attempt.factory_id:
        raise Refusal(403, "forbidden", "this attempt belongs to another factory")
    renewed = leases.renew(connection, attempt.factory_id, [sign], lease_seconds)
    if not renewed:
        raise Refusal(409, "not_current", "the attempt is no longer current; stop it, and do not retry")
    return attempt, next(iter(renewed.values()))


def _id_of(attempt_id: str) -> UUID:
    try:
        return UUID(attempt_id)
    except ValueError:
        raise _unknown() from None


def _unknown() -> Refusal:
    return Refusal(404, "unknown_attempt", "no attempt has this id")
