"""Operators shut a factory out, let it back in, and say what people call it."""

from typing import Annotated, Any, Final

import structlog
from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, StringConstraints, field_validator
from starlette.responses import Response

from corporation.db import transaction
from corporation.factories import access
from corporation.settings import Settings
from corporation.trust import audit
from corporation.trust.redis_address import names_somebody
from hq_api.access import Principal
from hq_api.auditing import act_of, refusals_noted
from hq_api.dependencies import JsonObject, Ledger, ReadSettings, principal_with
from hq_api.described_routes import reads
from hq_api.gates import Headquarters
from hq_api.responses import Json, Refusal
from hq_api.validation import checked, refuse_unstorable

QUARANTINE: Final = "/api/v1/ops/factory/quarantine"
RELEASE: Final = "/api/v1/ops/factory/release"
RENAME: Final = "/api/v1/ops/factory/rename"
LINE: Final = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*$"
"""One line for people: nothing in it steers a terminal or ends the line."""

router = APIRouter(tags=["factory_access"])
log = structlog.get_logger()

Operator = Annotated[Principal, Depends(principal_with())]
FactoryId = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200, pattern=LINE)]
Note = Annotated[str, StringConstraints(strip_whitespace=True, max_length=1000, pattern=LINE)]
DisplayName = Annotated[str, StringConstraints(strip_whitespace=True, max_length=200, pattern=LINE)]


class AccessForm(BaseModel):
    """Which factory, and why, in one line."""

    target_factory_id: FactoryId
    note: Note | None = None

    @field_validator("note")
    @classmethod
    def _empty_is_none(cls, value: str | None) -> str | None:
        return value or None


class RenameForm(BaseModel):
    """Which factory, and what people call it; null or empty gives its id back that place."""

    target_factory_id: FactoryId
    display_name: DisplayName | None = None

    @field_validator("display_name")
    @classmethod
    def _empty_is_none(cls, value: str | None) -> str | None:
        return value or None


@router.post(QUARANTINE, openapi_extra=reads(AccessForm, required=True))
def quarantine(
    request: Request, operator: Operator, _: Headquarters, document: JsonObject, ledger: Ledger, settings: ReadSettings
) -> Response:
    """From now on everything the factory says is a 401, and it gets nothing; `changed` is false when that was so.

    The broker closes its connections and lets it in no more within seconds; nothing here waits for that. Ours:
    `shared_redis_password` is true where HQ tells all factories one user of the broker, which it cannot shut out.
    """
    form = _form(document)
    with refusals_noted(request, operator, "factory.quarantine", form.target_factory_id, form.note):
        _refuse_itself(form, settings, "headquarters cannot put itself in quarantine")
    with transaction(ledger) as connection:
        if not access.is_known(connection, form.target_factory_id):
            raise unknown()
        changed = access.quarantine(connection, form.target_factory_id, operator.subject, form.note)
        outcome = "done" if changed else "unchanged"
        act = act_of(request, operator, "factory.quarantine", form.target_factory_id, form.note, outcome)
        audit.write(connection, act)
    log.warning("factory_quarantined", factory_id=form.target_factory_id, by=operator.subject, changed=changed)
    told = _told(form.target_factory_id, changed, quarantined=True)
    return Json(told | {"shared_redis_password": _is_shared(settings)})


@router.post(RELEASE, openapi_extra=reads(AccessForm, required=True))
def release(
    request: Request, operator: Operator, _: Headquarters, document: JsonObject, ledger: Ledger, settings: ReadSettings
) -> Response:
    """The factory may come back with the credential that it has; `changed` is false when it was not in quarantine."""
    form = _form(document)
    with refusals_noted(request, operator, "factory.release", form.target_factory_id, form.note):
        _refuse_itself(form, settings, "headquarters is never in quarantine")
    with transaction(ledger) as connection:
        if not access.is_known(connection, form.target_factory_id):
            raise unknown()
        changed = access.release(connection, form.target_factory_id, operator.subject, form.note)
        outcome = "done" if changed else "unchanged"
        act = act_of(request, operator, "factory.release", form.target_factory_id, form.note, outcome)
        audit.write(connection, act)
    log.info("factory_released", factory_id=form.target_factory_id, by=operator.subject, changed=changed)
    return Json(_told(form.target_factory_id, changed, quarantined=False))


@router.post(RENAME, openapi_extra=reads(RenameForm, required=True))
def rename(request: Request, operator: Operator, _: Headquarters, document: JsonObject, ledger: Ledger) -> Response:
    """People see this name; the factory's id, by which it is addressed, stays (F-1). Repeating it changes nothing."""
    refuse_unstorable(document)
    form = checked(RenameForm, document)
    with transaction(ledger) as connection:
        if not access.rename(connection, form.target_factory_id, form.display_name, operator.subject):
            raise unknown()
        shown = {"display_name": form.display_name}
        audit.write(connection, act_of(request, operator, "factory.rename", form.target_factory_id, detail=shown))
    return Json({"ok": True, "factory_id": form.target_factory_id, "display_name": form.display_name})


def _form(document: Any) -> AccessForm:
    refuse_unstorable(document)
    return checked(AccessForm, document)


def _refuse_itself(form: AccessForm, settings: Settings, why: str) -> None:
    if form.target_factory_id == settings.factory_id:
        raise Refusal(409, "own_registration", why)


def _told(factory_id: str, changed: bool, *, quarantined: bool) -> dict[str, Any]:
    return {"ok": True, "factory_id": factory_id, "quarantined": quarantined, "changed": changed}


def _is_shared(settings: Settings) -> bool:
    told = settings.factory_redis_url
    return told is not None and names_somebody(told.get_secret_value())


def unknown() -> Refusal:
    """404: headquarters never heard of this factory."""
    return Refusal(404, "unknown_target", "headquarters knows no such factory; `corporation factories` lists them")
