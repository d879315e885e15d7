"""Signed manifests of updates: what a factory asks of one before anything of it is fetched or built (pure).

Signed with a key that no machine of the fleet holds: whoever has HQ can make factories work, and cannot make them run
other code than was released. A key that signs missions never vouches for a manifest, nor the other way about: what is
signed begins with another word.
"""

import base64
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from corporation.trust.signatures import Signer, canonical

DOMAIN: Final = b"corp-update-v1\x00"
VERSION: Final = 1
"""Of the manifest's form."""
PROTOCOL: Final = 1
"""The number of what factories and HQ of this program say to each other."""
LONGEST_LIFE_SECONDS: Final = 90 * 86_400
"""A manifest that is good for longer would let whoever can hold it back put an old release in place of a newer one."""

_RELEASE: Final = re.compile(r"(?:0|[1-9]\d{0,8})(?:\.(?:0|[1-9]\d{0,8})){0,3}", re.ASCII)
_COMMIT: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}", re.ASCII)
_SHA256: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_WHEEL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,180}\.whl", re.ASCII)
_RING: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}", re.ASCII)
_LATEST: Final = 2**53
_MOST_WHEELS: Final = 500


@dataclass(frozen=True)
class Manifest:
    """One release. The times are seconds since 1970; the numbers of the protocol are those that it can speak."""

    version: str
    """Up to four numbers with dots between, each release a higher one."""
    commit: str
    """The commit's name in git, whole."""
    tree: str
    """The name of its tree."""
    wheels: Mapping[str, str]
    """SHA-256, in hexadecimal, of each wheel by its file's name."""
    min_protocol: int
    max_protocol: int
    not_before: int
    exp: int
    ring: str
    """Which factories it is for: `canary` first, then wider ones."""
    rollback: bool = False
    """Whether it may take the place of a newer release."""


class ManifestRefusedError(Exception):
    """The manifest must not be followed; `code` is the reason, and the text repeats nothing of it."""

    def __init__(self, code: str, why: str) -> None:
        self.code = code
        super().__init__(why)


@dataclass(frozen=True)
class Standing:
    """Where a factory stands: what it runs, the protocol of its HQ, and its ring (None takes each)."""

    version: str
    protocol: int
    ring: str | None = None


def sign(signer: Signer, manifest: Manifest) -> dict[str, Any]:
    """The document `{"v", "kid", "manifest", "sig"}`; raises ManifestRefusedError for a manifest that is none."""
    told = {"v": VERSION, "kid": signer.kid, "manifest": asdict(manifest)}
    manifest_in(told["manifest"])
    signature = signer.key.sign(DOMAIN + canonical(told))
    return {**told, "sig": base64.b64encode(signature).decode("ascii")}


def verify(document: object, keys: Mapping[str, Ed25519PublicKey]) -> Manifest:
    """The manifest in `document`, signed with one of `keys` (by their ids); raises ManifestRefusedError otherwise."""
    if not isinstance(document, dict) or document.keys() != {"v", "kid", "manifest", "sig"}:
        raise ManifestRefusedError("malformed", "it has other fields than a signed manifest")
    if type(document["v"]) is not int or document["v"] != VERSION or not isinstance(document["kid"], str):
        raise ManifestRefusedError("malformed", "it is of another form than this program knows")
    key = keys.get(document["kid"])
    if key is None:
        raise ManifestRefusedError("unknown_key", "it is signed with a key that this machine does not trust")
    _check_signature(key, document)
    return manifest_in(document["manifest"])


def why_not(manifest: Manifest, here: Standing, now_seconds: float) -> ManifestRefusedError | None:
    """Why a machine that stands `here` must not take this release now; None when it may.

    Running it already is no reason: who asks has nothing to do then.
    """
    if now_seconds < manifest.not_before:
        return ManifestRefusedError("not_yet", "it is not to be taken before a moment that is still to come")
    if now_seconds >= manifest.exp:
        return ManifestRefusedError("expired", "it was good until a moment that has passed")
    if here.ring is not None and here.ring != manifest.ring:
        return ManifestRefusedError("other_ring", "it is for another ring of factories")
    if not manifest.min_protocol <= here.protocol <= manifest.max_protocol:
        return ManifestRefusedError("protocol", "it does not speak the protocol of this factory's HQ")
    return _why_no_step(manifest, here.version)


def release_of(version: str) -> tuple[int, ...]:
    """`version` as numbers that compare, 1.2 as 1.2.0.0; raises ManifestRefusedError for what is none."""
    if not _RELEASE.fullmatch(version):
        raise ManifestRefusedError("malformed", "a version is up to four numbers with dots between")
    numbers = [int(part) for part in version.split(".")]
    return tuple(numbers + [0] * (4 - len(numbers)))


def _why_no_step(manifest: Manifest, running: str) -> ManifestRefusedError | None:
    if not manifest.rollback and release_of(manifest.version) < release_of(running):
        return ManifestRefusedError("downgrade", "it is older than what runs here, and not signed as a rollback")
    return None


def _check_signature(key: Ed25519PublicKey, document: Mapping[str, Any]) -> None:
    signature = document["sig"]
    told = {name: document[name] for name in ("v", "kid", "manifest")}
    try:
        raw = base64.b64decode(signature, validate=True) if isinstance(signature, str) else b""
        key.verify(raw, DOMAIN + canonical(told))
    except (InvalidSignature, ValueError, TypeError, RecursionError):
        raise ManifestRefusedError("forged", "its signature is not of the key that it names") from None


# The form: exactly these fields, each as it is checked here.


def manifest_in(given: object) -> Manifest:
    """The manifest that `given` is, with exactly its fields; raises ManifestRefusedError for anything else."""
    if not isinstance(given, dict) or given.keys() != {field.name for field in fields(Manifest)}:
        raise ManifestRefusedError("malformed", "the manifest has other fields than ours")
    if wrong := [name for name, is_right in _RIGHT.items() if not is_right(given[name])]:
        raise ManifestRefusedError("malformed", f"the manifest's {wrong[0]} is not as it must be")
    manifest = Manifest(**given)
    if manifest.min_protocol > manifest.max_protocol:
        raise ManifestRefusedError("malformed", "the manifest's protocols are the wrong way about")
    if not 0 < manifest.exp - manifest.not_before <= LONGEST_LIFE_SECONDS:
        raise ManifestRefusedError("malformed", "a manifest is good for up to 90 days")
    return manifest


def _matches(pattern: re.Pattern[str]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, str) and pattern.fullmatch(value) is not None


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= _LATEST


def _is_wheels(value: object) -> bool:
    return (
        isinstance(value, dict)
        and len(value) <= _MOST_WHEELS
        and all(map(_matches(_WHEEL), value))
        and all(map(_matches(_SHA256), value.values()))
    )


_RIGHT: Final[Mapping[str, Callable[[object], bool]]] = {
    "version": _matches(_RELEASE),
    "commit": _matches(_COMMIT),
    "tree": _matches(_COMMIT),
    "wheels": _is_wheels,
    "min_protocol": _is_count,
    "max_protocol": _is_count,
    "not_before": _is_count,
    "exp": _is_count,
    "ring": _matches(_RING),
    "rollback": lambda value: type(value) is bool,
}
