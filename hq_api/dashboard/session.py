"""The dashboard's cookie: sealing it, opening it, and nothing about requests (contract H-13); pure."""

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import jwt
from pydantic import SecretStr

COOKIE: Final = "ua_dashboard_auth"
LIFE_SECONDS: Final = 24 * 3600
OPS_ROLE: Final = "ops"
ALGORITHM: Final = "HS256"
ISSUER: Final = "universal-agent"
# Not the bearer's audience, and not the bearer's key: either alone would keep a cookie from being a token.
AUDIENCE: Final = "ua-dashboard"
LABEL: Final = b"corporation dashboard cookie 2"
# Two machines that share the secret may disagree about the time by this much.
SKEW_SECONDS: Final = 60


class CookieRefused(Exception):
    """This is no cookie of ours that is valid now; why is told to nobody (H-10)."""


@dataclass(frozen=True)
class Session:
    """Who signed in, with which roles, and until when.

    `jti` names this session and `token_jti` the token it was opened with, if that had a name: revoking either ends it.
    """

    owner_id: str
    roles: tuple[str, ...]
    expires_at: int
    jti: str
    token_jti: str | None = None


def open_session(owner_id: str, jti: str, now: datetime, token_jti: str | None = None) -> Session:
    """A session of an operator that begins at `now` and lasts a day."""
    return Session(owner_id, (OPS_ROLE,), int(now.timestamp()) + LIFE_SECONDS, jti, token_jti)


def seal(session: Session, signing: SecretStr, ops_token: SecretStr | None) -> str:
    """The value of the cookie that carries `session`; a change of either secret ends it."""
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "owner_id": session.owner_id,
        "roles": list(session.roles),
        "exp": session.expires_at,
        "jti": session.jti,
        "token_jti": session.token_jti,
    }
    return jwt.encode(claims, _key(signing, ops_token), algorithm=ALGORITHM)


def unseal(value: str, signing: SecretStr, ops_token: SecretStr | None, now: datetime) -> Session:
    """The session in the cookie `value`; raises CookieRefused for all that we did not seal, or that is over."""
    try:
        claims = _claims(value, _key(signing, ops_token))
    except (jwt.PyJWTError, ValueError, TypeError) as error:
        raise CookieRefused from error
    owner_id, roles, expires_at, jti = claims["owner_id"], claims["roles"], claims["exp"], claims["jti"]
    token_jti = claims.get("token_jti")
    texts = (owner_id, jti, *((token_jti,) if token_jti is not None else ()))
    if not all(isinstance(text, str) and text for text in texts) or not _is_current(expires_at, now.timestamp()):
        raise CookieRefused
    if not isinstance(roles, list) or OPS_ROLE not in roles:
        raise CookieRefused
    return Session(owner_id, tuple(str(role) for role in roles), expires_at, jti, token_jti)


def only_value(cookie_headers: Sequence[str]) -> str | None:
    """The value of our cookie, None when it is absent or given twice: a neighbour's site may have planted the other."""
    pairs = (pair.strip().partition("=") for header in cookie_headers for pair in header.split(";"))
    values = [value for name, _, value in pairs if name == COOKIE]
    return values[0] if len(values) == 1 else None


def _key(signing: SecretStr, ops_token: SecretStr | None) -> bytes:
    # The operators' token too: who changes it because it got out must not leave open what was opened with it.
    token = ops_token.get_secret_value().encode("utf-8", "surrogateescape") if ops_token else b""
    return hmac.digest(signing.get_secret_value().encode(), LABEL + hashlib.sha256(token).digest(), "sha256")


def _claims(value: str, key: bytes) -> dict[str, Any]:
    if not jwt.get_unverified_header(value).keys() <= {"alg", "typ"}:
        raise jwt.InvalidTokenError
    return jwt.decode(
        value,
        key,
        algorithms=[ALGORITHM],
        audience=AUDIENCE,
        issuer=ISSUER,
        options={
            "require": ["iss", "aud", "exp", "owner_id", "roles", "jti"],
            "strict_aud": True,
            # Judged below: by our clock, and without turning text into numbers.
            "verify_exp": False,
            "verify_iat": False,
            "verify_nbf": False,
        },
    )


def _is_current(expires_at: Any, now: float) -> bool:
    return type(expires_at) is int and now < expires_at <= now + LIFE_SECONDS + SKEW_SECONDS
