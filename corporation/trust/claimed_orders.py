"""HQ's signature over an attempt that it hands out over HTTPS (pure).

What is signed is what a message over Redis would carry: the task, the attempt, its factory and the whole order.
"""

from collections.abc import Mapping
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from corporation.trust.signatures import ENVELOPE, SIGNATURE, Claimed, ForgedError, Signed, Signer, sign, verify

FIELD: Final = "signature"
"""Ours beside the contract's fields of an attempt in HQ's answer to a claim (http §8)."""
_ENVELOPE: Final = "env"
_SIGNATURE: Final = "sig"


def signature_of(signer: Signer, one: Mapping[str, Any], factory_id: str, now_seconds: float) -> dict[str, Any]:
    """`{"env", "sig"}` for the attempt `one`, as the answer to `factory_id`'s claim shows it."""
    about = Signed(
        task=_task(one), id=one["attempt_id"], job_id=one["job_id"], factory=factory_id, attempt=one["attempt"]
    )
    headers = sign(signer, about, (), _arguments(one, factory_id), now_seconds)
    return {_ENVELOPE: headers[ENVELOPE], _SIGNATURE: headers[SIGNATURE]}


def check(one: Mapping[str, Any], factory_id: str, keys: Mapping[str, Ed25519PublicKey], now_seconds: float) -> None:
    """Raises ForgedError unless HQ signed exactly the attempt `one` for `factory_id`, with one of `keys`.

    A field that is missing, or of a wrong type, is one that HQ did not sign.
    """
    given = one.get(FIELD)
    if given is None:
        raise ForgedError("not_signed", "it is not signed by HQ")
    if not isinstance(given, Mapping) or set(given) != {_ENVELOPE, _SIGNATURE}:
        raise ForgedError("forged", "its signature is no envelope and signature")
    try:
        claimed = Claimed(_task(one), one["attempt_id"], factory_id, (), _arguments(one, factory_id))
    except KeyError:
        raise ForgedError("forged", "it is no whole attempt") from None
    signed = verify({ENVELOPE: given[_ENVELOPE], SIGNATURE: given[_SIGNATURE]}, claimed, keys, now_seconds)
    if (one["job_id"], one["attempt"]) != (signed.job_id, signed.attempt):
        raise ForgedError("forged", "HQ signed it for another mission or attempt than its order names")


def _task(one: Mapping[str, Any]) -> str:
    return f"mission.{one['mission_kind']}"


def _arguments(one: Mapping[str, Any], factory_id: str) -> dict[str, Any]:
    order = {name: one[name] for name in ("job_id", "attempt", "timeout_seconds", "envelope")}
    return {"order": {**order, "factory_id": factory_id}}
