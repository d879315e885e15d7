"""Factories join with a code (contract http §5); where HQ makes users of the broker, each gets one of its own."""

import secrets
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

import structlog
from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, Field, SecretStr, StringConstraints
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError
from starlette.responses import Response

from corporation.clock import iso, new_id, utc_now
from corporation.db import transaction
from corporation.envelope import EnvelopeRefused, Problem
from corporation.factories.access import is_quarantined, shut_out
from corporation.factories.enrolment import Newcomer, enter, was_heard_of
from corporation.factories.ids import why_unsafe
from corporation.factories.joining import LONGEST_TTL_SECONDS, TTL_SECONDS, make, new_code, redeem
from corporation.roles import FactoryRole, default_queue, private_queue, slug_of
from corporation.settings import Settings
from corporation.tokens.credentials import has_one, hold, issue, new_credential
from corporation.tokens.minting import FACTORY, LIFE_SECONDS, Grant, mint
from corporation.trust import audit, redis_users
from corporation.trust.keyring import public_keys
from corporation.trust.redis_address import names_somebody, with_user
from corporation.trust.redis_profiles import clash_of, user_of
from hq_api.access import Principal, Unauthorized
from hq_api.auditing import act_of, origin_of
from hq_api.dependencies import JsonObject, Ledger, ReadSettings, principal_with
from hq_api.described_routes import reads
from hq_api.gates import Headquarters
from hq_api.rate_limits import JOIN_FAILURES, address_of, limits_of
from hq_api.responses import Json, Refusal
from hq_api.routers import factory_access, redis_passwords
from hq_api.validation import checked, refuse_unstorable

JOIN_CODES: Final = "/api/v1/ops/factory/join-codes"
ENROL: Final = "/api/v1/factory/enrol"
LOCAL_QUEUE: Final = default_queue(FactoryRole.LOCAL_WORKER)
"""Where workers take missions that share one user of the broker with all others."""
HEARTBEAT_SECONDS: Final = 15
"""What a new factory is told where headquarters was told nothing: its owner is waiting for it to show up."""

router = APIRouter(tags=["enrolment"])
router.include_router(factory_access.router)
router.include_router(redis_passwords.router)
log = structlog.get_logger()

Operator = Annotated[Principal, Depends(principal_with())]
Word = Annotated[str, StringConstraints(strip_whitespace=True, max_length=200, pattern=factory_access.LINE)]


class JoinCodeForm(BaseModel):
    """Whom the code lets in, anybody when `factory_id` is left out, and for how many seconds it is good."""

    factory_id: factory_access.FactoryId | None = None
    ttl_seconds: Annotated[int, Field(strict=True, ge=1, le=LONGEST_TTL_SECONDS)] = TTL_SECONDS


class EnrolForm(BaseModel):
    """Who wants to join; ours: `factory_id` may be left out with a code that was made for one."""

    join_code: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    factory_id: factory_access.FactoryId | None = None
    hostname: Word | None = None
    version: Word | None = None


@dataclass(frozen=True)
class _Enrolled:
    factory_id: str
    credential: str
    epoch: int
    invited_by: str
    redis_url: str | None
    queue: str


@router.post(JOIN_CODES, status_code=201, openapi_extra=reads(JoinCodeForm, required=True))
def make_join_code(
    request: Request, operator: Operator, _: Headquarters, document: JsonObject, ledger: Ledger
) -> Response:
    """201: a fresh code that lets one factory in, once; it is told here and kept nowhere. Each call makes another."""
    refuse_unstorable(document)
    form = checked(JoinCodeForm, document)
    if form.factory_id is not None:
        _refuse_unsafe(form.factory_id)
    code = new_code(secrets.token_bytes)
    with transaction(ledger) as connection:
        expires_at = make(connection, code, form.factory_id, operator.subject, form.ttl_seconds)
        detail = {"ttl_seconds": form.ttl_seconds}
        audit.write(connection, act_of(request, operator, "join_code.make", form.factory_id, detail=detail))
    log.info("join_code_made", factory_id=form.factory_id, by=operator.subject)
    return Json({"join_code": code, "factory_id": form.factory_id, "expires_at": iso(expires_at)}, 201)


@router.post(ENROL, status_code=201, openapi_extra=reads(EnrolForm, required=True))
def enrol(request: Request, _: Headquarters, document: JsonObject, ledger: Ledger, settings: ReadSettings) -> Response:
    """201: the factory has a credential, the only one that counts from now on, and a first token; the code is used up.

    401 for a code that is unknown, used or over, whichever it is. 403 and 409 leave it as good as it was.
    """
    refuse_unstorable(document)
    form = checked(EnrolForm, document)
    if settings.ops_jwt_secret is None:
        raise Refusal(503, "no_signing_secret", "set UA_OPS_JWT_SECRET on headquarters")
    try:
        with transaction(ledger) as connection:
            enrolled = _enrolled(connection, form, settings, _host_of(request))
            audit.write(connection, _joining(request, enrolled))
    except Unauthorized:
        limits_of(request).count(JOIN_FAILURES, address_of(request))
        with transaction(ledger) as connection:
            audit.write(connection, _refused(request, form))
        raise
    except IntegrityError:
        raise _name_taken() from None
    log.info("factory_enrolled", factory_id=enrolled.factory_id, by=enrolled.invited_by)
    return Json(_welcome(request, enrolled, settings, settings.ops_jwt_secret), 201)


def _enrolled(connection: Connection, form: EnrolForm, settings: Settings, host: str | None) -> _Enrolled:
    """All that is written for a newcomer; whatever is raised here leaves nothing of it, the used code included."""
    redeemed = redeem(connection, form.join_code, form.factory_id)
    if redeemed is None:
        raise Unauthorized
    bound = redeemed.factory_id
    factory_id = form.factory_id or bound
    if factory_id is None:
        raise EnvelopeRefused([Problem("missing", ("factory_id",), "Field required")])
    if bound is not None and factory_id != bound:
        raise Refusal(403, "forbidden", "this code was made for another factory_id; it is still good for that one")
    _refuse_own(factory_id, settings)
    hold(connection, factory_id)
    if bound is None and (has_one(connection, factory_id) or was_heard_of(connection, factory_id)):
        raise Refusal(
            409,
            "already_enrolled",
            "this factory_id is in use; join under another, or with a code that was made for this one",
        )
    _refuse_quarantined(connection, factory_id)
    # The row comes first: whoever removes a factory takes the same order.
    enter(connection, Newcomer(factory_id, form.hostname, form.version), redeemed.created_by, host)
    epoch = shut_out(connection, factory_id)
    # Again, now that its row is ours: a quarantine that was faster has committed, and a slower one waits for us.
    _refuse_quarantined(connection, factory_id)
    credential = new_credential(secrets.token_bytes)
    issue(connection, factory_id, credential)
    url, queue = _way_to_broker(connection, factory_id, host, settings)
    return _Enrolled(factory_id, credential, epoch, redeemed.created_by, url, queue)


def _refuse_quarantined(connection: Connection, factory_id: str) -> None:
    if is_quarantined(connection, factory_id):
        raise Refusal(403, "quarantined", "this factory is in quarantine; an operator has to release it first")


def _way_to_broker(
    connection: Connection, factory_id: str, host: str | None, settings: Settings
) -> tuple[str | None, str]:
    """Where the broker is, for this factory alone where HQ makes a user for each, and the queue that it works on.

    A user of its own may touch its own queue only, and waits for the engine: it is there within seconds.
    """
    url = _broker_for(host, settings)
    if url is None or names_somebody(url):
        return url, LOCAL_QUEUE
    user, password = user_of(factory_id), redis_users.new_password(secrets.token_bytes)
    redis_users.issue(connection, factory_id, user, password)
    return with_user(url, user, password), private_queue(factory_id)


def _joining(request: Request, enrolled: _Enrolled) -> audit.Act:
    """The newcomer has proven nothing but that it had a code: of whom is what people need to know."""
    who, detail = f"join code of {enrolled.invited_by}", {"own_redis_user": enrolled.queue != LOCAL_QUEUE}
    return audit.Act(who, "factory.enrol", enrolled.factory_id, origin_of(request), detail=detail)


def _refused(request: Request, form: EnrolForm) -> audit.Act:
    return audit.Act("stranger", "factory.enrol", form.factory_id, origin_of(request), outcome="refused")


def _refuse_unsafe(factory_id: str) -> None:
    if (why := why_unsafe(factory_id)) is not None:
        raise Refusal(422, "bad_factory_id", why)


def _refuse_own(factory_id: str, settings: Settings) -> None:
    _refuse_unsafe(factory_id)
    if factory_id == settings.factory_id:
        raise Refusal(403, "forbidden", "this is the factory_id of headquarters itself; choose another")
    if slug_of(factory_id) == slug_of(settings.factory_id):
        raise _name_taken()
    if (clash := clash_of(factory_id)) is not None:
        raise Refusal(409, "name_taken", f"{clash}; choose another factory_id")


def _name_taken() -> Refusal:
    return Refusal(409, "name_taken", "another factory has this name once it is written in a queue's name")


def _welcome(request: Request, enrolled: _Enrolled, settings: Settings, signing: SecretStr) -> dict[str, Any]:
    """The answer of http §5; ours: where the broker is, None for HTTPS only, its queue, and who may sign."""
    grant = Grant(enrolled.factory_id, FACTORY, enrolled.factory_id, enrolled.epoch)
    minted = mint(signing, grant, new_id(), utc_now())
    return {
        "factory_id": enrolled.factory_id,
        "factory_credential": enrolled.credential,
        "token": minted.token.get_secret_value(),
        "token_type": "Bearer",
        "ttl_seconds": LIFE_SECONDS,
        "expires_at": iso(minted.expires_at),
        "hq_base_url": settings.hq_base_url or str(request.base_url).rstrip("/"),
        "heartbeat_interval_seconds": _interval(settings),
        "streams": {
            "missions": settings.stream_name,
            "results": f"{settings.stream_name}:results",
            "dlq": settings.dead_letter_stream,
            "group": settings.consumer_group,
        },
        "redis_url": enrolled.redis_url,
        "factory_queue": enrolled.queue,
        "mission_keys": public_keys(settings),
    }


def _interval(settings: Settings) -> int:
    told = "heartbeat_interval_seconds" in settings.model_fields_set
    return settings.heartbeat_interval_seconds if told else HEARTBEAT_SECONDS


def _broker_for(host: str | None, settings: Settings) -> str | None:
    """The broker's address as HQ was told it; one on our own loopback only for who comes from there."""
    if settings.factory_redis_url is None:
        return None
    url = settings.factory_redis_url.get_secret_value()
    return None if _is_loopback(urlsplit(url).hostname) and not _is_loopback(host) else url


def _is_loopback(host: str | None) -> bool:
    if (host or "").lower().rstrip(".") in ("localhost", ""):
        return host is not None and host != ""
    try:
        address = ip_address(host or "")
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def _host_of(request: Request) -> str | None:
    return request.client.host if request.client else None
