"""How factories learn of HQ's keys: a list of all that are valid, signed with a key that they trust already (pure).

HQ says it in its answer to a beat. A new key comes to be trusted, and one that is not on the list any more ends,
without anybody going to the machine.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from hashlib import sha256
from typing import Any, Final

from cryptography.exceptions import InvalidSignature

from corporation.trust.keyring import BadKeyError, keys_by_id, kid_of
from corporation.trust.signatures import ForgedError, Signer, canonical

FIELD: Final = "mission_keys"
"""Ours among the instructions in HQ's answer to a beat."""
DOMAIN: Final = b"corp-keys-v1\x00"
VERSION: Final = 1
FRESH_SECONDS: Final = 86_400
"""A list is made for each beat; one that is older, or newer, by a day is a recording, or a clock is wrong."""
MOST_KEYS: Final = 16
_FIELDS: Final[Mapping[str, type]] = {"v": int, "kid": str, "at": int, "keys": list}


def announcement(signer: Signer, keys: Sequence[str], now_seconds: float) -> dict[str, Any]:
    """`{"list": {v, kid, at, keys}, "sig"}`: these public keys, in base64, are all that sign for HQ now."""
    told = {"v": VERSION, "kid": signer.kid, "at": int(now_seconds), "keys": list(keys)}
    signature = signer.key.sign(DOMAIN + canonical(told))
    return {"list": told, "sig": base64.b64encode(signature).decode("ascii")}


def trusted(pinned: Sequence[str], noted: str | None) -> tuple[str, ...]:
    """The keys that may sign for a factory that was given `pinned`, and whose `note` is `noted`.

    A note that was made when others were pinned, or that nobody can read, counts for nothing: joining again is the way
    back from whatever was learned.
    """
    return _trusted(tuple(pinned), noted)


def learned(announced: object, pinned: Sequence[str], noted: str | None, now_seconds: float) -> str | None:
    """The factory's new note when the list that HQ announces changes what it trusts; None when it does not.

    Raises ForgedError for a list that no trusted key has signed, that is stale, or that names no key or a broken one.
    A factory that was given no keys learns none: whoever answers it could name his own.
    """
    if not pinned or announced is None:
        return None
    known = trusted(pinned, noted)
    told = _signed_list(announced, known)
    if set(told["keys"]) == set(known):
        return None  # whatever the clocks say: nothing changes
    if abs(now_seconds - told["at"]) > FRESH_SECONDS or told["at"] < _noted_at(pinned, noted):
        raise ForgedError("signature_expired", "the list of keys is an old one, or a clock is wrong")
    keys = tuple(told["keys"])
    if not 0 < len(keys) <= MOST_KEYS or told["kid"] not in _kids(keys):
        raise ForgedError("forged", "the list of keys lacks the one that signs it, or is too long")
    return _note(pinned, told["at"], keys)


def _signed_list(announced: object, known: Sequence[str]) -> dict[str, Any]:
    if not isinstance(announced, Mapping) or set(announced) != {"list", "sig"}:
        raise ForgedError("forged", "the list of keys has other fields than ours")
    told, signature = announced["list"], announced["sig"]
    if not isinstance(told, dict) or told.keys() != _FIELDS.keys():
        raise ForgedError("forged", "the list of keys has other fields than ours")
    if any(type(told[name]) is not kind for name, kind in _FIELDS.items()) or told["v"] != VERSION:
        raise ForgedError("forged", "the list of keys is of another version, or a field of another type")
    key = keys_by_id(known).get(told["kid"])
    if key is None:
        raise ForgedError("unknown_key", "the list of keys is signed with a key that this factory does not know")
    try:
        raw = base64.b64decode(signature, validate=True) if isinstance(signature, str) else b""
        key.verify(raw, DOMAIN + canonical(told))
    except (InvalidSignature, ValueError, TypeError, RecursionError):
        raise ForgedError("forged", "HQ did not sign this list of keys") from None
    return told


def _kids(keys: Sequence[object]) -> set[str]:
    try:
        return {kid_of(key if isinstance(key, str) else "") for key in keys}
    except BadKeyError:
        raise ForgedError("forged", "the list of keys names one that is none") from None


# The note: which keys were pinned when it was made, when HQ said it, and what it said.


def _note(pinned: Sequence[str], at: int, keys: Sequence[str]) -> str:
    return canonical({"pinned": _mark(pinned), "at": at, "keys": list(keys)}).decode("ascii")


def _mark(pinned: Sequence[str]) -> str:
    return sha256(canonical(sorted(pinned))).hexdigest()


@lru_cache(maxsize=8)
def _trusted(pinned: tuple[str, ...], noted: str | None) -> tuple[str, ...]:
    note = _read(pinned, noted)
    return tuple(note["keys"]) if note else pinned


def _noted_at(pinned: Sequence[str], noted: str | None) -> int:
    note = _read(pinned, noted)
    return int(note["at"]) if note else 0


def _read(pinned: Sequence[str], noted: str | None) -> dict[str, Any] | None:
    """Our own note, of our own disk: what is none is as if there was none."""
    try:
        note = json.loads(noted or "null")
        if isinstance(note, dict) and note["pinned"] == _mark(pinned) and note["keys"] and _kids(note["keys"]):
            return {"at": int(note["at"]), "keys": [str(key) for key in note["keys"]]}
    except (ValueError, KeyError, TypeError, RecursionError, ForgedError):
        return None
    return None
