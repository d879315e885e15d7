"""Who a request speaks for: the static ops token or one of our JWTs, and nothing else (contract http §2)."""

import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import jwt
from pydantic import SecretStr

from corporation.settings import Settings
from corporation.tokens.comparison import is_one_of
from corporation.tokens.minting import ALGORITHM, AUDIENCE, ISSUER, LIFE_SECONDS, OPS
from corporation.tokens.minting import FACTORY as FACTORY
from corporation.tokens.minting import PUBLISH as PUBLISH
from corporation.tokens.revocation import LONGEST_ID
from hq_api.validation import UNSTORABLE

STEP_BACK_SECONDS: Final = 5
"""A token may be this much younger than our clock: clocks are set back a little, and two machines never agree."""
LATEST: Final = 2**53
"""No time of a token lies behind it: numbers above are none that every reader reads alike."""
# The decoder below skips what is no base64 at all, so that one token could be written in many ways.
_JWT: Final = re.compile(rb"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")


class Unauthorized(Exception):
    """No token, or one that we do not accept; why is told to nobody (H-10)."""


class NotSignedIn(Unauthorized):
    """The same at an address that a cookie opens too; `login` is the page where one gets it."""

    def __init__(self, login: str) -> None:
        self.login = login
        super().__init__()


@dataclass(frozen=True)
class Principal:
    """Who the token speaks for and what for; `factory_id` is set for the scope `factory` only.

    `token_id` is the `jti` by which the token can be revoked, None for tokens that have none.
    """

    subject: str
    scope: str
    factory_id: str | None = None
    token_id: str | None = None
    epoch: int | None = None
    """Of a factory's token: which of its factory's epochs it was made in, None when it does not say."""
    issued_at: int = field(default=0, compare=False)
    """Seconds since 1970; 0 for the static token, and for one that does not say it: older than every epoch."""

    def may(self, *scopes: str) -> bool:
        """Whether one of `scopes` is this one's; `ops` may do everything, an unknown scope nothing (H-11)."""
        if self.scope == FACTORY and not self.factory_id:
            return False
        return self.scope == OPS or (self.scope in (PUBLISH, FACTORY) and self.scope in scopes)


def is_configured(settings: Settings) -> bool:
    """Whether `UA_OPS_TOKEN` or `UA_OPS_JWT_SECRET` is set at all; a full gateway without refuses to start (E-11)."""
    return settings.ops_token is not None or settings.ops_jwt_secret is not None


def accepts_tokens(settings: Settings) -> bool:
    """Whether any token at all could be accepted now: a static one that is switched off does not count (H-9)."""
    return settings.ops_jwt_secret is not None or (settings.ops_token is not None and settings.ops_auth_allow_legacy)


def judge(token: bytes | None, settings: Settings, now: datetime) -> Principal:
    """The principal of `token` at `now`; raises Unauthorized, without a reason, for all that is not exactly valid.

    Whether it was revoked, or its factory shut out, is not known here: `hq_api.dependencies.valid_principal` asks that.
    """
    if not token:
        raise Unauthorized
    if token.count(b".") == 2:
        return _judge_jwt(token, settings.ops_jwt_secret, now)
    if is_one_of(token, [settings.ops_token]) and settings.ops_auth_allow_legacy:
        return Principal("ops", OPS)
    raise Unauthorized


def _judge_jwt(token: bytes, secret: SecretStr | None, now: datetime) -> Principal:
    if secret is None or not _JWT.fullmatch(token):
        raise Unauthorized
    try:
        claims = _claims(token.decode("ascii"), secret.get_secret_value())
    except (jwt.PyJWTError, ValueError, TypeError) as error:
        raise Unauthorized from error
    if not _is_current(claims, now.timestamp()):
        raise Unauthorized
    factory_id, epoch = claims.get("factory_id"), claims.get("epoch")
    scope = str(claims.get("scope", OPS))
    principal = Principal(
        claims.get("sub") or scope,  # as `/auth/ops-token` names whoever gives no name
        scope,
        factory_id if isinstance(factory_id, str) else None,
        claims.get("jti"),
        epoch,
        int(claims.get("iat", 0)),
    )
    if not _is_storable(principal) or not _is_epoch(epoch):
        raise Unauthorized
    return principal


def _claims(token: str, secret: str) -> dict[str, Any]:
    header = jwt.get_unverified_header(token)
    # A header that points at keys (kid, jku, jwk) or at rules (crit) asks us to trust the sender about them.
    if not header.keys() <= {"alg", "typ"} or str(header.get("typ", "JWT")).upper() != "JWT":
        raise jwt.InvalidTokenError
    return jwt.decode(
        token,
        secret,
        algorithms=[ALGORITHM],
        audience=AUDIENCE,
        issuer=ISSUER,
        options={
            "require": ["exp", "iss", "aud"],  # all that H-8 asks of a token that another maker made
            "strict_aud": True,
            # Times are judged below: by our clock, and without turning text into numbers.
            "verify_exp": False,
            "verify_iat": False,
            "verify_nbf": False,
        },
    )


def _is_current(claims: dict[str, Any], now: float) -> bool:
    expires, starts = claims["exp"], claims.get("nbf", 0)
    if not all(map(_is_moment, (expires, starts, claims.get("iat", 0)))):
        return False
    # Ten years must not pass (bad input §5), nor more than an hour where `iat` tells (security §7). A token that does
    # not tell is judged as one of an hour, so it opens nothing before its last hour.
    issued = claims.get("iat", expires - LIFE_SECONDS)
    return issued - STEP_BACK_SECONDS <= now < expires and starts <= now and expires - issued <= LIFE_SECONDS


def _is_moment(value: object) -> bool:
    """Whether it is a time of a token: seconds since 1970, also with a fraction, and never text, true or NaN."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -LATEST < value < LATEST


def _is_epoch(value: object) -> bool:
    """Whether a token may say that it was made in this epoch: it may say nothing, or a number the ledger can have."""
    return value is None or (type(value) is int and 0 <= value < 2**31)


def _is_storable(principal: Principal) -> bool:
    """Whether the token could be revoked and its bearer written down: no column takes NUL or half a surrogate pair."""
    named = (principal.subject, principal.factory_id or "", principal.token_id or "")
    fits = principal.token_id is None or 1 <= len(principal.token_id) <= LONGEST_ID
    return fits and not any(UNSTORABLE.search(text) for text in named)
