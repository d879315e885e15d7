"""Our own JWTs: what they say, who gets which, and that none lives longer than an hour (contract http §2 and §4)."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import jwt
from pydantic import SecretStr

ISSUER: Final = "universal-agent"
AUDIENCE: Final = "ua-ops"
ALGORITHM: Final = "HS256"
LIFE_SECONDS: Final = 3600
OPS: Final = "ops"
PUBLISH: Final = "publish"
FACTORY: Final = "factory"


@dataclass(frozen=True)
class Grant:
    """What a token will say: who, what for, and for the scope `factory` which one."""

    subject: str
    scope: str
    factory_id: str | None = None
    epoch: int | None = None
    """Ours, for the scope `factory`: the token is worth nothing once that factory has a later one."""


@dataclass(frozen=True)
class Minted:
    """A fresh token; it is a secret, so `repr` does not show it."""

    token: SecretStr
    token_id: str
    expires_at: datetime


def granted(wish: Grant, owner: str | None) -> Grant | None:
    """What somebody who wishes `wish` gets; `owner` is the factory whose credential it is, None for the operator's.

    A factory gets the scope `factory` for itself, under its own name, or None: nothing.
    """
    if owner is None:
        return wish
    if (wish.scope, wish.factory_id) != (FACTORY, owner):
        return None
    return Grant(owner, FACTORY, owner)


def mint(secret: SecretStr, grant: Grant, token_id: str, now: datetime) -> Minted:
    """A signed token with the claims of H-11, and our `epoch` if there is one, valid from `now` on for an hour.

    Times are whole seconds.
    """
    issued = int(now.timestamp())
    claims: dict[str, Any] = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": grant.subject,
        "iat": issued,
        "exp": issued + LIFE_SECONDS,
        "jti": token_id,
        "scope": grant.scope,
    }
    if grant.factory_id is not None:
        claims["factory_id"] = grant.factory_id
    if grant.epoch is not None:
        claims["epoch"] = grant.epoch
    token = jwt.encode(claims, secret.get_secret_value(), algorithm=ALGORITHM)
    return Minted(SecretStr(token), token_id, datetime.fromtimestamp(issued + LIFE_SECONDS, UTC))
