"""Who a request speaks for: the static ops token or one of our JWTs, and nothing else (contract http §2)."""

import hmac
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import jwt
from pydantic import SecretStr

from corporation.settings import Settings

ISSUER: Final = "universal-agent"
AUDIENCE: Final = "ua-ops"
ALGORITHM: Final = "HS256"
LONGEST_LIFE_SECONDS: Final = 3600
OPS: Final = "ops"
PUBLISH: Final = "publish"
FACTORY: Final = "factory"


class Unauthorized(Exception):
    """No token, or one that we do not accept; why is told to nobody (H-10)."""


@dataclass(frozen=True)
class Principal:
    """Who the token speaks for and what for; `factory_id` is set for the scope `factory` only."""

    subject: str
    scope: str
    factory_id: str | None = None

    def may(self, *scopes: str) -> bool:
        """Whether one of `scopes` is this one's; `ops` may do everything, an unknown scope nothing (H-11)."""
        if self.scope == FACTORY and not self.factory_id:
            return False
        return self.scope == OPS or (self.scope in (PUBLISH, FACTORY) and self.scope in scopes)


def accepts_tokens(settings: Settings) -> bool:
    """Whether this node knows any secret that a caller could prove to have (E-11)."""
    return settings.ops_token is not None or settings.ops_jwt_secret is not None


def judge(token: bytes | None, settings: Settings, now: datetime) -> Principal:
    """The principal of `token` at `now`; raises Unauthorized, without a reason, for all that is not exactly valid."""
    if not token:
        raise Unauthorized
    if token.count(b".") == 2:
        return _judge_jwt(token, settings.ops_jwt_secret, now)
    expected = settings.ops_token.get_secret_value().encode() if settings.ops_token else b""
    if expected and settings.ops_auth_allow_legacy and hmac.compare_digest(token, expected):
        return Principal("ops", OPS)
    raise Unauthorized


def _judge_jwt(token: bytes, secret: SecretStr | None, now: datetime) -> Principal:
    if secret is None:
        raise Unauthorized
    try:
        claims = _claims(token.decode("ascii"), secret.get_secret_value())
    except (jwt.PyJWTError, ValueError, TypeError) as error:
        raise Unauthorized from error
    if not _is_current(claims, now.timestamp()):
        raise Unauthorized
    factory_id = claims.get("factory_id")
    return Principal(claims["sub"], str(claims.get("scope", OPS)), factory_id if isinstance(factory_id, str) else None)


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
            "require": ["exp", "iat", "iss", "aud", "sub"],
            "strict_aud": True,
            # Times are judged below: by our clock, and without turning text into numbers.
            "verify_exp": False,
            "verify_iat": False,
            "verify_nbf": False,
        },
    )


def _is_current(claims: dict[str, Any], now: float) -> bool:
    issued, expires, starts = claims["iat"], claims["exp"], claims.get("nbf", 0)
    if not all(type(moment) is int for moment in (issued, expires, starts)):
        return False
    return issued <= now < expires and starts <= now and expires - issued <= LONGEST_LIFE_SECONDS
