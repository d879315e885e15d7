"""Comparing secrets so that the time it takes tells nothing: not their length, not which of them was nearly right."""

import hashlib
import hmac
from collections.abc import Iterable

from pydantic import SecretStr

from corporation.variables import LEAST_TOKEN_BYTES


def is_one_of(given: bytes, known: Iterable[SecretStr | None]) -> bool:
    """Whether `given` is one of the secrets in `known`; None and the empty text are no secrets and match nothing."""
    digest = hashlib.sha256(given).digest()
    found = False
    for secret in known:
        expected = secret.get_secret_value().encode("utf-8", "surrogateescape") if secret else b""
        # Digests, since compare_digest itself ends early when lengths differ; and every one of them, found or not.
        same = hmac.compare_digest(digest, hashlib.sha256(expected).digest())
        found |= same and expected != b""
    return found


def may_be_guessed(secret: bytes) -> bool:
    """Whether `secret` is so short that whoever may try without end could find it."""
    return len(secret) < LEAST_TOKEN_BYTES
