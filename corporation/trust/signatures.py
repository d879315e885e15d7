"""Signed missions: what HQ says over each message, and what a factory asks of one before anything of it is run (pure).

HQ signs `{v, kid, task, id, job_id, factory, attempt, exp, sha}` with Ed25519: a message is then good for one task, one
attempt and one factory, until `exp`, with exactly these arguments. Whoever can write to a queue can still not make a
factory do anything that HQ did not ask of it.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

ENVELOPE: Final = "corp_env"
SIGNATURE: Final = "corp_sig"
"""The two headers of a message."""
VERSION: Final = 1
DOMAIN: Final = b"corp-mission-v1\x00"
"""Stands before what is signed, so that no signature over anything else can be taken for one over a mission."""
GOOD_FOR_SECONDS: Final = 8 * 86_400
"""A message may wait for its factory so long: a week offline and a day. A spool remembers an attempt for longer, so
that nothing which is still good can be run a second time."""

_TYPES: Final[Mapping[str, type]] = {
    "v": int,
    "kid": str,
    "task": str,
    "id": str,
    "job_id": str,
    "factory": str,
    "attempt": int,
    "exp": int,
    "sha": str,
}


@dataclass(frozen=True)
class Signed:
    """What a signature is about. `attempt` is 0, and `job_id` empty, in a message that is no mission."""

    task: str
    id: str
    """The attempt's id, or the message's where it is no mission."""
    job_id: str
    factory: str
    attempt: int


@dataclass(frozen=True)
class Signer:
    """HQ's key and its id; the key is never shown."""

    kid: str
    key: Ed25519PrivateKey = field(repr=False)


class ForgedError(Exception):
    """The message is not what HQ signed for this factory; `code` is the reason, and the text repeats nothing of it."""

    def __init__(self, code: str, why: str) -> None:
        self.code = code
        super().__init__(why)


def canonical(value: Any) -> bytes:
    """`value` as the one text that is hashed and signed: sorted keys, no spaces, ASCII; NaN raises ValueError."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode("ascii")


def digest_of(args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """SHA-256, in hexadecimal, of what a task is given."""
    return sha256(canonical([list(args), dict(kwargs)])).hexdigest()


def sign(
    signer: Signer, about: Signed, args: Sequence[Any], kwargs: Mapping[str, Any], now_seconds: float
) -> dict[str, Any]:
    """The two headers that make a message `about` this one that HQ asked for, good for GOOD_FOR_SECONDS from now on."""
    envelope = {
        "v": VERSION,
        "kid": signer.kid,
        **vars(about),
        "exp": int(now_seconds) + GOOD_FOR_SECONDS,
        "sha": digest_of(args, kwargs),
    }
    signature = signer.key.sign(DOMAIN + canonical(envelope))
    return {ENVELOPE: envelope, SIGNATURE: base64.b64encode(signature).decode("ascii")}


@dataclass(frozen=True)
class Claimed:
    """What a message says of itself outside its signature, all of which Celery or we would act on."""

    task: str
    id: str
    factory: str
    """Who reads it."""
    args: Sequence[Any]
    kwargs: Mapping[str, Any]


def verify(
    headers: Mapping[str, Any], claimed: Claimed, keys: Mapping[str, Ed25519PublicKey], now_seconds: float
) -> Signed:
    """What HQ signed, when it is exactly what the message says; raises ForgedError, and nothing else, otherwise.

    `keys` are the public keys by their ids. Whether the attempt was run before is asked of the spool, not here.
    """
    envelope = _checked(headers.get(ENVELOPE))
    key = keys.get(envelope["kid"])
    if key is None:
        raise ForgedError("unknown_key", "it is signed with a key that this factory does not know")
    _check_signature(key, headers.get(SIGNATURE), envelope)
    # From here on the envelope is HQ's.
    for name in ("task", "id", "factory"):
        if envelope[name] != getattr(claimed, name):
            raise ForgedError("forged", f"HQ signed it for another {name}")
    if envelope["exp"] <= now_seconds:
        raise ForgedError("signature_expired", "what HQ signed was good until a moment that has passed")
    if envelope["sha"] != _digest_or_none(claimed):
        raise ForgedError("forged", "HQ signed other arguments")
    return Signed(**{name: envelope[name] for name in ("task", "id", "job_id", "factory", "attempt")})


def _checked(envelope: object) -> dict[str, Any]:
    """The envelope with exactly its fields, each of its type: one that we do not know may mean what we do not do."""
    if envelope is None:
        raise ForgedError("not_signed", "it is not signed by HQ")
    if not isinstance(envelope, dict) or envelope.keys() != _TYPES.keys():
        raise ForgedError("forged", "its signature is about other fields than ours")
    if any(type(envelope[name]) is not kind for name, kind in _TYPES.items()) or envelope["v"] != VERSION:
        raise ForgedError("forged", "its signature is of another version, or a field of another type")
    return envelope


def _check_signature(key: Ed25519PublicKey, signature: object, envelope: Mapping[str, Any]) -> None:
    try:
        raw = base64.b64decode(signature, validate=True) if isinstance(signature, str) else b""
        key.verify(raw, DOMAIN + canonical(envelope))
    except (InvalidSignature, ValueError):  # no base64, or a text that is not ASCII
        raise ForgedError("forged", "HQ did not sign this") from None


def _digest_or_none(claimed: Claimed) -> str | None:
    try:
        return digest_of(claimed.args, claimed.kwargs)
    except (ValueError, TypeError, RecursionError):
        return None
