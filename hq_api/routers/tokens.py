"""Long-lived credentials become tokens of an hour, and tokens are revoked (contract http §4)."""

import hashlib
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Annotated, Any, Literal

import structlog
from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, SecretStr, StringConstraints
from sqlalchemy import Engine
from starlette.responses import Response

from corporation.clock import iso, new_id, utc_now
from corporation.db import transaction
from corporation.envelope import EnvelopeRefused, Problem
from corporation.factories.access import epoch_of
from corporation.tokens.comparison import is_one_of, may_be_guessed
from corporation.tokens.credentials import Owner, find_owner, is_of_quarantined, may_be_one
from corporation.tokens.minting import FACTORY, LIFE_SECONDS, OPS, Grant, granted, mint
from corporation.tokens.revocation import LONGEST_ID, is_revoked, revoke_token
from corporation.trust import audit
from hq_api.access import Principal, Unauthorized
from hq_api.auditing import NOBODY, act_of, note_if_possible
from hq_api.body import read_optional_object
from hq_api.dependencies import (
    OPS_HEADER,
    JsonObject,
    Ledger,
    ReadSettings,
    presented,
    principal_with,
)
from hq_api.described_routes import answers, reads
from hq_api.gates import Headquarters
from hq_api.rate_limits import LOGIN_FAILURES, MINTS, address_of, limits_of
from hq_api.responses import Json, Refusal
from hq_api.validation import checked, refuse_unstorable

INTERNAL_HEADER = b"x-ua-internal-token"
Text = Annotated[str, StringConstraints(strip_whitespace=True, max_length=200)]

router = APIRouter(tags=["tokens"])
log = structlog.get_logger()


class TokenForm(BaseModel):
    """Which token is wished for; all of it may be left out, and unknown keys are ignored (H-2)."""

    subject: Text | None = None
    scope: Literal["ops", "publish", "factory"] | None = None
    factory_id: Text | None = None


class MintedToken(BaseModel):
    """The answer of a mint; `jti` is the name by which the token can be revoked."""

    token: str
    token_type: Literal["Bearer"]
    ttl_seconds: int
    expires_at: datetime
    jti: str


class RevokeForm(BaseModel):
    """Which token ends now, by its `jti`."""

    jti: Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_ID)]


class RevokedToken(BaseModel):
    """The answer of a revocation: the token with this `jti` is refused from now on."""

    ok: Literal[True]
    jti: str


@dataclass(frozen=True)
class Bootstrap:
    """Who exchanges a credential: a factory, or with None the operator; `key` names the credential without telling it.

    `signing_secret` is what the token will be signed with.
    """

    key: str
    owner: Owner | None
    signing_secret: SecretStr


def bootstrap_caller(request: Request, settings: ReadSettings, ledger: Ledger) -> Bootstrap:
    """Who showed a bootstrap credential; raises in the order of §4: 503 or 401, then 503.

    After too many failures at the caller's address, 429 instead of the first; and for a credential that could be
    guessed, however right it is.
    """
    limits, address = limits_of(request), address_of(request)
    operators = (settings.internal_api_token, settings.ops_token)
    given = presented(request, INTERNAL_HEADER, OPS_HEADER) or b""
    # Always both, so that nothing tells from outside which of them was nearly right.
    known, owner = is_one_of(given, operators), _owner_of(ledger, given)
    if not known and owner is None:
        if given:
            limits.count(LOGIN_FAILURES, address)
            note_if_possible(request, act_of(request, NOBODY, "token.mint", None, outcome="refused"))
        if operators == (None, None):
            raise Refusal(503, "no_bootstrap_credential", "set UA_INTERNAL_API_TOKEN or UA_OPS_TOKEN on headquarters")
        _refuse_quarantined(ledger, given)
        raise Unauthorized
    if known and may_be_guessed(given):
        limits.check(LOGIN_FAILURES, address)
    if settings.ops_jwt_secret is None:
        raise Refusal(503, "no_signing_secret", "set UA_OPS_JWT_SECRET on headquarters")
    return Bootstrap(hashlib.sha256(given).hexdigest(), None if known else owner, settings.ops_jwt_secret)


@router.post("/auth/ops-token", openapi_extra=reads(TokenForm, required=False) | answers(MintedToken))
def exchange(
    request: Request,
    _: Headquarters,
    caller: Annotated[Bootstrap, Depends(bootstrap_caller)],
    document: Annotated[dict[str, Any], Depends(read_optional_object)],
    ledger: Ledger,
) -> Response:
    """A fresh token of an hour for what was wished; each call makes another one, the earlier ones stay valid."""
    grant = granted(_wish(document), caller.owner.factory_id if caller.owner is not None else None)
    if grant is None:
        raise Refusal(403, "forbidden", "a factory's credential gives the scope factory for its own factory_id only")
    limits_of(request).count(MINTS, caller.key)
    minted = mint(caller.signing_secret, _in_its_epoch(grant, caller.owner, ledger), new_id(), utc_now())
    if caller.owner is None:
        # A factory's own tokens, one an hour for each process, are no act of a person's.
        detail = {"scope": grant.scope, "subject": grant.subject, "factory_id": grant.factory_id}
        with transaction(ledger) as connection:
            minter = Principal(OPS, OPS)
            audit.write(connection, act_of(request, minter, "token.mint", minted.token_id, detail=detail))
    log.info("token_minted", jti=minted.token_id, scope=grant.scope, factory_id=grant.factory_id)
    return Json(
        {
            "token": minted.token.get_secret_value(),
            "token_type": "Bearer",
            "ttl_seconds": LIFE_SECONDS,
            "expires_at": iso(minted.expires_at),
            "jti": minted.token_id,
        }
    )


@router.post("/api/v1/ops/tokens/revoke", openapi_extra=reads(RevokeForm, required=True) | answers(RevokedToken))
def revoke(
    request: Request,
    caller: Annotated[Principal, Depends(principal_with())],
    _: Headquarters,
    document: JsonObject,
    ledger: Ledger,
) -> Response:
    """The token with this `jti`, known or not, is refused from now on; repeating it gives the same answer."""
    refuse_unstorable(document)
    form = checked(RevokeForm, document)
    with transaction(ledger) as connection:
        outcome: audit.Outcome = "unchanged" if is_revoked(connection, form.jti) else "done"
        revoke_token(connection, form.jti, caller.subject)
        audit.write(connection, act_of(request, caller, "token.revoke", form.jti, outcome=outcome))
    log.info("token_revoked", jti=form.jti)
    return Json({"ok": True, "jti": form.jti})


def _refuse_quarantined(ledger: Engine, given: bytes) -> None:
    """401 with a reason, ours beside H-10: whoever shows the right credential may know that another one helps nothing.

    Of one that was revoked, or never was one, nobody learns why.
    """
    if not may_be_one(given):
        return
    with transaction(ledger) as connection:
        shut_out = is_of_quarantined(connection, given)
    if shut_out:
        message = "this factory is in quarantine, which only headquarters' operator ends; its credential is kept"
        raise Refusal(401, "quarantined", message, {"WWW-Authenticate": "Bearer"})


def _owner_of(ledger: Engine, given: bytes) -> Owner | None:
    if not may_be_one(given):
        return None
    with transaction(ledger) as connection:
        return find_owner(connection, given)


def _in_its_epoch(grant: Grant, owner: Owner | None, ledger: Engine) -> Grant:
    """A factory's own token counts in the epoch in which its credential was looked up, whatever came since."""
    if grant.factory_id is None:
        return grant
    if owner is not None:
        return replace(grant, epoch=owner.epoch)
    with transaction(ledger) as connection:
        return replace(grant, epoch=epoch_of(connection, grant.factory_id))


def _wish(document: dict[str, Any]) -> Grant:
    refuse_unstorable(document)
    form = checked(TokenForm, document)
    scope = form.scope or OPS
    if scope == FACTORY and not form.factory_id:
        raise EnvelopeRefused([Problem("missing", ("factory_id",), "Field required")])
    return Grant(form.subject or OPS, scope, form.factory_id if scope == FACTORY else None)
