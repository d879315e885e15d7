"""What a factory proves itself with: one credential each, stored as a hash only (contract http H-21)."""

import base64
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, text

PREFIX: Final = "fc_"
"""So that scanners of code and logs find one that got out, and strangers' guesses cost no look into the ledger."""
RANDOM_BYTES: Final = 32

# Two enrolments of one factory at once: the second waits here, and then replaces the first.
# (By then its now() may be older than the first one's row: hence the clock_timestamp() below.)
LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended('factory_credential:' || :factory_id, 0))")

REPLACE = text("""
    UPDATE corporation.factory_credentials SET revoked_at = greatest(clock_timestamp(), created_at)
     WHERE factory_id = :factory_id AND revoked_at IS NULL AND credential_hash <> :hash
""")

# The same one again changes nothing; a revoked one, or another factory's, must not come back to life this way.
ISSUE = text("""
    INSERT INTO corporation.factory_credentials (credential_hash, factory_id)
    SELECT :hash, :factory_id
     WHERE NOT EXISTS (SELECT 1 FROM corporation.factory_credentials
                        WHERE credential_hash = :hash AND factory_id = :factory_id AND revoked_at IS NULL)
""")

# With its epoch in one look: a credential that ends a moment later must not yield a token of the time after that.
OWNER = text("""
    SELECT c.factory_id, coalesce(a.epoch, 0) AS epoch
      FROM corporation.factory_credentials c LEFT JOIN corporation.factory_access a USING (factory_id)
     WHERE c.credential_hash = :hash AND c.revoked_at IS NULL AND a.quarantined_at IS NULL
""")

SHUT_OUT = text("""
    SELECT EXISTS (SELECT 1 FROM corporation.factory_credentials c JOIN corporation.factory_access a USING (factory_id)
                    WHERE c.credential_hash = :hash AND c.revoked_at IS NULL AND a.quarantined_at IS NOT NULL)
""")

LIVE = text("""
    SELECT EXISTS (SELECT 1 FROM corporation.factory_credentials WHERE factory_id = :factory_id AND revoked_at IS NULL)
""")

REVOKE = text("""
    UPDATE corporation.factory_credentials SET revoked_at = greatest(clock_timestamp(), created_at)
     WHERE factory_id = :factory_id AND revoked_at IS NULL
""")


def new_credential(random: Callable[[int], bytes]) -> str:
    """A fresh credential of 256 bits from `random(how_many_bytes)`, which must be fit for secrets."""
    return PREFIX + base64.urlsafe_b64encode(random(RANDOM_BYTES)).rstrip(b"=").decode("ascii")


def hold(connection: Connection, factory_id: str) -> None:
    """Until the transaction ends nobody else gives `factory_id` a credential; safe to call twice."""
    connection.execute(LOCK, {"factory_id": factory_id})


def has_one(connection: Connection, factory_id: str) -> bool:
    """Whether `factory_id` has a credential that was not revoked; certain only while it is held."""
    return bool(connection.execute(LIVE, {"factory_id": factory_id}).scalar_one())


def issue(connection: Connection, factory_id: str, credential: str) -> None:
    """From the commit on `credential` is the one that `factory_id` has; its earlier one is worth nothing any more.

    Calling twice with the same credential is safe. One that was revoked, or belongs to another factory, raises
    sqlalchemy.exc.IntegrityError.
    """
    values = {"factory_id": factory_id, "hash": _hash(credential.encode())}
    hold(connection, factory_id)
    connection.execute(REPLACE, values)
    connection.execute(ISSUE, values)


def may_be_one(secret: bytes) -> bool:
    """Whether `secret` looks like a credential at all: for what does not, nobody needs to ask the ledger."""
    return secret.startswith(PREFIX.encode())


@dataclass(frozen=True)
class Owner:
    """The factory whose credential it is, and the epoch in which that was so."""

    factory_id: str
    epoch: int


def find_owner(connection: Connection, credential: bytes) -> Owner | None:
    """The factory whose live credential this is; None for everything else, quarantine included. One indexed read."""
    row = connection.execute(OWNER, {"hash": _hash(credential)}).one_or_none()
    return Owner(row.factory_id, row.epoch) if row is not None else None


def is_of_quarantined(connection: Connection, credential: bytes) -> bool:
    """Whether this is the live credential of a factory in quarantine: right, and worth nothing until it is released."""
    return bool(connection.execute(SHUT_OUT, {"hash": _hash(credential)}).scalar_one())


def owner_of(connection: Connection, credential: bytes) -> str | None:
    """As `find_owner`, without the epoch."""
    owner = find_owner(connection, credential)
    return owner.factory_id if owner is not None else None


def revoke(connection: Connection, factory_id: str) -> bool:
    """From the commit on `factory_id` has no credential; False when it had none. Tokens it holds run out by themselves.

    Safe to call twice.
    """
    return connection.execute(REVOKE, {"factory_id": factory_id}).rowcount > 0


def _hash(credential: bytes) -> bytes:
    # Fast on purpose: 256 random bits cannot be guessed, however cheap a guess is.
    return hashlib.sha256(credential).digest()
