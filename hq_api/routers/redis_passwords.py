"""A factory's password for the broker: an operator asks for another one, the factory fetches it (ours).

Nothing here speaks to Redis: the engine makes its users what the ledger says, within seconds.
"""

import secrets
from typing import Annotated, Final

import structlog
from fastapi import APIRouter, Depends, Request
from limits import RateLimitItemPerMinute
from sqlalchemy import Connection
from starlette.responses import Response

from corporation.clock import iso
from corporation.db import transaction
from corporation.factories.access import is_barred, is_known, is_quarantined
from corporation.trust import audit, redis_users
from hq_api.access import FACTORY, Principal, Unauthorized
from hq_api.auditing import act_of, refusals_noted
from hq_api.dependencies import JsonObject, Ledger, ReadSettings, principal_with
from hq_api.described_routes import reads, reads_nothing
from hq_api.gates import Headquarters
from hq_api.rate_limits import limits_of
from hq_api.responses import Json, Refusal
from hq_api.routers.factory_access import AccessForm, unknown
from hq_api.validation import checked, refuse_unstorable

ROTATE: Final = "/api/v1/ops/factory/rotate"
PASSWORD: Final = "/api/v1/factory/redis-password"  # noqa: S105
PASSWORDS: Final = RateLimitItemPerMinute(6, namespace="redis-passwords")
"""New passwords of one factory; one that has lost an answer asks again with its next beat."""

router = APIRouter(tags=["redis_passwords"])
log = structlog.get_logger()
Operator = Annotated[Principal, Depends(principal_with())]
Caller = Annotated[Principal, Depends(principal_with(FACTORY))]


@router.post(ROTATE, openapi_extra=reads(AccessForm, required=True))
def ask_to_rotate(
    request: Request, operator: Operator, _: Headquarters, document: JsonObject, ledger: Ledger, settings: ReadSettings
) -> Response:
    """The factory is told with its next beats to take a new password for the broker; `changed` is false when it was.

    409 `own_registration` for headquarters itself, 409 `no_redis_user` for one that has none of its own, 409
    `quarantined` for one that HQ hears no more.
    """
    refuse_unstorable(document)
    form = checked(AccessForm, document)
    factory_id = form.target_factory_id
    with refusals_noted(request, operator, "factory.rotate", factory_id, form.note):
        if factory_id == settings.factory_id:
            raise Refusal(409, "own_registration", "headquarters' own password for the broker is not exchanged")
        with transaction(ledger) as connection:
            changed = _asked(connection, factory_id)
            outcome = "done" if changed else "unchanged"
            audit.write(connection, act_of(request, operator, "factory.rotate", factory_id, form.note, outcome))
    log.info("redis_password_rotation_asked", factory_id=factory_id, by=operator.subject, changed=changed)
    return Json({"ok": True, "factory_id": factory_id, "changed": changed})


@router.post(PASSWORD, status_code=201, openapi_extra=reads_nothing())
def issue_password(request: Request, caller: Caller, _: Headquarters, document: JsonObject, ledger: Ledger) -> Response:
    """201: a new password for the broker, told here and kept nowhere; the one before it is good until `previous_until`.

    Each call makes another. 403 for everybody but a factory, 409 `no_redis_user` for one that has no user of its own.
    """
    refuse_unstorable(document)
    factory_id = caller.factory_id
    if caller.scope != FACTORY or factory_id is None:
        raise Refusal(403, "forbidden", "only a factory is told its password; `corporation rotate` has it fetch one")
    limits_of(request).count(PASSWORDS, factory_id)
    password = redis_users.new_password(secrets.token_bytes)
    with transaction(ledger) as connection:
        rotated = redis_users.rotate(connection, factory_id, password)
        if rotated is None:
            raise _no_user()
        # Now that its row is ours: whoever has joined under this name meanwhile has ended the token that was shown.
        if is_barred(connection, factory_id, caller.epoch):
            raise Unauthorized
        audit.write(connection, act_of(request, caller, "redis_password.issue", factory_id))
    log.info("redis_password_issued", factory_id=factory_id)
    until = iso(rotated.previous_until)
    return Json({"redis_user": rotated.name, "redis_password": password, "previous_until": until}, 201)


def _asked(connection: Connection, factory_id: str) -> bool:
    """Whether this was the first to ask for it; refuses where there is nobody who could take a new password."""
    if not is_known(connection, factory_id):
        raise unknown()
    if is_quarantined(connection, factory_id):
        raise Refusal(409, "quarantined", "its password is worth nothing while it is in quarantine; release it first")
    changed = redis_users.ask_to_rotate(connection, factory_id)
    if changed is None:
        raise _no_user()
    return changed


def _no_user() -> Refusal:
    message = "no user of the broker was made for it; one that joined gets it by joining again, if HQ makes users"
    return Refusal(409, "no_redis_user", message)
