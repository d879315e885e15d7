"""Pause, drain and resume factories (contract http §6)."""

from typing import Annotated, Final
from uuid import uuid4

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, Field, StringConstraints, field_validator
from sqlalchemy.exc import IntegrityError
from starlette.responses import Response

from corporation.clock import iso
from corporation.db import transaction
from corporation.factories.access import is_quarantined
from corporation.factories.control import ACTIONS, Action, Word
from corporation.factories.staleness import Thresholds
from corporation.missions.control import TargetUnknown, control
from corporation.trust import audit
from hq_api.access import Principal
from hq_api.auditing import act_of
from hq_api.dependencies import JsonObject, Ledger, ReadSettings, principal_with
from hq_api.described_routes import reads
from hq_api.gates import Headquarters
from hq_api.responses import Json, Refusal
from hq_api.validation import checked, refuse_unstorable

CONTROL: Final = "/api/v1/ops/factory/control"
LONGEST_SECONDS: Final = 31 * 86_400

router = APIRouter(tags=["factory_control"])

Target = Annotated[str, StringConstraints(strip_whitespace=True, max_length=200)]
Note = Annotated[str, StringConstraints(strip_whitespace=True, max_length=1000, pattern=r"^[^\x00-\x1f\x7f]*$")]


class ControlForm(BaseModel):
    """Which factory is to do what; an empty `target_factory_id` is every live factory but HQ's own (S-25).

    Ours: `note` says why, in one line; after `for_seconds` a pause or drain ends by itself.
    """

    target_factory_id: Target
    action: str
    note: Note | None = None
    for_seconds: Annotated[int, Field(strict=True, ge=1, le=LONGEST_SECONDS)] | None = None

    @field_validator("note")
    @classmethod
    def _empty_is_none(cls, value: str | None) -> str | None:
        return value or None


@router.post(CONTROL, openapi_extra=reads(ControlForm, required=True))
def control_factory(
    request: Request,
    operator: Annotated[Principal, Depends(principal_with())],
    _: Headquarters,
    document: JsonObject,
    ledger: Ledger,
    settings: ReadSettings,
    wait: bool = False,
) -> Response:
    """The flag is set and the mission that tells the factory is stored, together; when it was heard of stays (H-23).

    Ours in the answer: which `factories` it reaches, how many missions they run (those are finished) and how many lie
    in their queues (those are given back), and `until` when it holds by itself; `quarantined` when the target is in
    quarantine and hears of it only once it is released. Each call is an order of its own.
    """
    refuse_unstorable(document)
    form = checked(ControlForm, document)
    action = _action(form.action)
    if action == "resume" and form.for_seconds is not None:
        raise Refusal(400, "bad_duration", "only a pause or a drain ends by itself; leave for_seconds out to resume")
    word = Word(action, operator.subject, form.note, form.for_seconds)
    thresholds = Thresholds(settings.factory_stale_seconds, settings.factory_offline_seconds)
    target, number = form.target_factory_id or None, uuid4().hex[:12]
    try:
        with transaction(ledger) as connection:
            done = control(connection, target, word, number, thresholds, settings.default_ttl_seconds, wait=wait)
            detail = {"factories": list(done.factories), "for_seconds": form.for_seconds}
            barred = target is not None and is_quarantined(connection, target)
            act = act_of(request, operator, f"factory.{action}", target, form.note, detail=detail)
            audit.write(connection, act)
    except TargetUnknown:
        message = "the target factory never registered; wait=true leaves the order for it"
        raise Refusal(404, "unknown_factory", message) from None
    except IntegrityError:
        raise Refusal(409, "name_taken", "another factory has this name once it is written in a queue's name") from None
    return Json(
        {
            "ok": True,
            "job_id": done.job_id,
            "action": action,
            "target_factory_id": form.target_factory_id,
            "note": form.note,
            "until": iso(done.until) if done.until else None,
            "factories": list(done.factories),
            "running": done.running,
            "queued": done.queued,
            "quarantined": barred,
        }
    )


def _action(said: str) -> Action:
    word = said.strip().lower()
    action: Action | None = next((one for one in ACTIONS if one == word), None)
    if action is None:
        raise Refusal(400, "bad_action", f"action must be one of {', '.join(ACTIONS)}")
    return action
