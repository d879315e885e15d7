"""The Ed25519 keys that sign missions: how they are written, named and read (pure but for `new_key`)."""

import base64
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from corporation.settings import Settings
from corporation.trust.signatures import Signer

KEY_BYTES: Final = 32
"""Of a private and of a public key."""


class BadKeyError(ValueError):
    """The text is no key of ours; it is not repeated."""


def new_key() -> str:
    """A fresh private key: 32 random bytes in base64."""
    return base64.b64encode(Ed25519PrivateKey.generate().private_bytes_raw()).decode("ascii")


def public_of(key: str) -> str:
    """The public key, in base64, of the private one; raises BadKeyError."""
    return _written(_private(key).public_key())


def kid_of(public_key: str) -> str:
    """The id of a public key: the first 16 hexadecimal digits of its SHA-256; raises BadKeyError."""
    return sha256(_raw(public_key)).hexdigest()[:16]


def signer_of(key: str) -> Signer:
    """What signs with this private key; raises BadKeyError."""
    return Signer(kid_of(public_of(key)), _private(key))


def keys_by_id(public_keys: Iterable[str]) -> Mapping[str, Ed25519PublicKey]:
    """The keys that may have signed, by their ids; raises BadKeyError."""
    return {kid_of(key): Ed25519PublicKey.from_public_bytes(_raw(key)) for key in public_keys}


def public_keys(settings: Settings) -> list[str]:
    """All that a factory of this HQ is to trust: the key that signs now, then the others that stay valid."""
    own = settings.mission_signing_key
    current = [public_of(own.get_secret_value())] if own else []
    return list(dict.fromkeys([*current, *settings.mission_keys]))


def why_keys_are_refused(settings: Settings) -> list[str]:
    """A check at the start of a process: one problem for each variable that holds no key."""
    problems: list[str] = []
    own = settings.mission_signing_key
    for name, given in (
        ("UA_MISSION_SIGNING_KEY", [own.get_secret_value()] if own else []),
        ("UA_MISSION_KEYS", list(settings.mission_keys)),
        ("UA_UPDATE_KEYS", list(settings.update_keys)),
    ):
        try:
            for key in given:
                _raw(key)
        except BadKeyError as error:
            problems.append(f"{name}: {error}; `corporation keys new` makes one")
    if not problems and set(public_keys(settings)) & set(settings.update_keys):
        problems.append("UA_UPDATE_KEYS: a key that signs missions must not sign releases: `corporation keys new`")
    return problems


def _private(key: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(_raw(key))


def _written(key: Ed25519PublicKey) -> str:
    return base64.b64encode(key.public_bytes_raw()).decode("ascii")


def _raw(key: str) -> bytes:
    try:
        raw = base64.b64decode(key, validate=True)
    except ValueError:
        raw = b""
    if len(raw) != KEY_BYTES:
        raise BadKeyError(f"a key is {KEY_BYTES} bytes in base64")
    return raw
