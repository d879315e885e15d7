"""An attempt's result comes home over HTTPS (contract http §8)."""

from collections.abc import Callable
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator
from starlette.responses import Response

from corporation import clock
from corporation.db import transaction
from corporation.masking import hidden_tail, hide_shapes, hiding, secrets_of, without_secrets
from corporation.missions.collect import LONGEST_ERROR
from corporation.missions.outcomes import WORDS
from corporation.missions.results import Foreign, Late, Result, Taken, Unknown, take_result
from corporation.missions.retry import RetryPolicy
from corporation.settings import Settings
from hq_api.access import FACTORY, Principal
from hq_api.body import read_object
from hq_api.dependencies import Ledger, ReadSettings, principal_with
from hq_api.described_routes import reads
from hq_api.gates import Headquarters, MayConsume
from hq_api.responses import Json, Refusal
from hq_api.validation import checked, refuse_unstorable

LARGEST_RESULT_BYTES: Final = 1024 * 1024 - 4096
"""The mailbox takes a megabyte (its CHECK `result_size`), and we add some keys for Celery's own tools."""
LARGEST_LETTER_BYTES: Final = 1024 * 1024
"""The CHECK itself. What was sent may grow beyond it: in ASCII an é has six bytes, and 1e15 is written out."""
MOST_COUNTED: Final = 2**53 - 1
DEAREST_USD: Final = 1_000_000.0
"""No attempt costs more; beyond is a mistake."""

Count = Annotated[int, Field(ge=0, le=MOST_COUNTED)]
Cost = Annotated[float, Field(ge=0, le=DEAREST_USD, allow_inf_nan=False)]

router = APIRouter(prefix="/api/v1/factory/missions", tags=["attempts"])


class ModelUsageForm(BaseModel):
    """What one model was used for by an attempt."""

    model_config = ConfigDict(extra="allow")

    requests: Count = 0
    input_tokens: Count = 0
    output_tokens: Count = 0
    estimated_cost_usd: Cost = 0.0


class UsageForm(BaseModel):
    """What an attempt used; counts never fall below nothing."""

    model_config = ConfigDict(extra="allow")

    requests: Count = 0
    input_tokens: Count = 0
    output_tokens: Count = 0
    estimated_cost_usd: Cost = 0.0
    breakdown_by_model: dict[str, ModelUsageForm] = {}


class ResultForm(BaseModel):
    """How an attempt ended; ours is `report`: the outcome in our factories' own words, beside result and error."""

    model_config = ConfigDict(extra="ignore")

    status: Literal["SUCCESS", "FAILED"]
    result: dict[str, Any] | None = None
    error: Annotated[str, StringConstraints(max_length=1_000_000)] | None = None
    retryable: Annotated[bool, Field(strict=True)] = True
    usage: UsageForm | None = None
    memo: dict[str, Any] | None = None
    report: dict[str, Any] | None = None

    @field_validator("report")
    @classmethod
    def _is_a_report(cls, report: dict[str, Any] | None) -> dict[str, Any] | None:
        outcome = None if report is None else report.get("outcome")
        if report is not None and not (isinstance(outcome, str) and outcome in WORDS):
            raise ValueError(f"its outcome must be one of {', '.join(sorted(WORDS))}")
        return report

    @model_validator(mode="after")
    def _of_one_mind(self) -> "ResultForm":
        if self.report is not None and (self.report["outcome"] == "done") != (self.status == "SUCCESS"):
            raise ValueError("status and report contradict each other")
        return self

    def as_report(self, hide: Callable[[str], str] = hide_shapes) -> dict[str, Any]:
        """The spool's report of this result, of a failure without secrets (S-40); `retryable: false` ends the mission
        (H-31)."""
        return without_secrets(self._report(hide), hide)

    def _report(self, hide: Callable[[str], str]) -> dict[str, Any]:
        more = {name: value for name, value in (("memo", self.memo), ("usage", self._used())) if value is not None}
        if self.report is not None:
            words = {"error": self._why(hide)} if self.status == "FAILED" else {}
            return {"result": self.result or {}, **words, **self.report, **more}
        if self.status == "SUCCESS":
            return {"outcome": "done", "result": self.result or {}, **more}
        outcome = "failed" if self.retryable else "stop"
        return {"outcome": outcome, "error": self._why(hide), "result": self.result or {}, **more}

    def _why(self, hide: Callable[[str], str]) -> str:
        return hidden_tail(self.error or "no reason was given", LONGEST_ERROR, hide)

    def _used(self) -> dict[str, Any] | None:
        return self.usage.model_dump() if self.usage is not None else None


async def _result_object(request: Request) -> dict[str, Any]:
    return await read_object(request, LARGEST_RESULT_BYTES)


@router.post("/{attempt_id}/result", openapi_extra=reads(ResultForm, required=True))
def take(
    attempt_id: str,
    caller: Annotated[Principal, Depends(principal_with(FACTORY))],
    _: Headquarters,
    __: MayConsume,
    document: Annotated[dict[str, Any], Depends(_result_object)],
    ledger: Ledger,
    settings: ReadSettings,
) -> Response:
    """The mission is where the result puts it when this is answered; the same result again has the same answer."""
    refuse_unstorable(document)
    form = checked(ResultForm, document)
    speaker = caller.factory_id if caller.scope == FACTORY else None
    usage = form.usage.model_dump() if form.usage is not None else None
    report = form.as_report(hiding(secrets_of(settings)))
    result = Result(_id_of(attempt_id), report, form.model_dump(mode="json"), usage, speaker or "")
    if len(result.letter) > LARGEST_LETTER_BYTES:
        raise Refusal(413, "body_too_large", f"as the mailbox writes it a result may have {LARGEST_LETTER_BYTES} bytes")
    with transaction(ledger) as connection:
        answer = take_result(connection, result, speaker, _policy(settings), clock.chance)
    match answer:
        case Taken(job_id, state):
            return Json({"attempt_id": result.attempt_id, "job_id": job_id, "state": state, "accepted": True})
        case Unknown():
            raise _unknown()
        case Foreign():
            raise Refusal(403, "forbidden", "this attempt belongs to another factory")
        case Late():
            raise Refusal(409, "not_current", "the attempt is no longer current; its result is kept, do not retry")


def _policy(settings: Settings) -> RetryPolicy:
    return RetryPolicy(settings.retry_base_seconds, settings.retry_cap_seconds, settings.retry_jitter)


def _id_of(attempt_id: str) -> str:
    try:
        return str(UUID(attempt_id))
    except ValueError:
        raise _unknown() from None


def _unknown() -> Refusal:
    return Refusal(404, "unknown_attempt", "no attempt has this id")
