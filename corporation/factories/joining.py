"""Join codes: one use, a short life, and only their hashes are kept (contract http H-20)."""

import base64
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, text

RANDOM_BYTES: Final = 20
"""160 bits: 32 characters of base32."""
GROUP: Final = 4
TTL_SECONDS: Final = 900
LONGEST_TTL_SECONDS: Final = 7 * 86_400

# What ended a day ago has nothing left to refuse: an unknown code gets the same answer.
FORGET = text("DELETE FROM corporation.join_codes WHERE expires_at < now() - interval '1 day'")

MAKE = text("""
    INSERT INTO corporation.join_codes (code_hash, factory_id, created_by, expires_at)
    VALUES (:hash, :factory_id, :by, now() + CAST(:ttl AS double precision) * interval '1 second')
    RETURNING expires_at
""")

# Of two at once the second waits for the first, and then finds the code used, or as it was when the first was refused.
REDEEM = text("""
    UPDATE corporation.join_codes SET used_at = clock_timestamp(), used_by = :factory_id
     WHERE code_hash = :hash AND used_at IS NULL AND expires_at > clock_timestamp()
    RETURNING factory_id, created_by
""")


@dataclass(frozen=True)
class Redeemed:
    """A code that was used up just now: the factory it was made for, None for any, and who made it."""

    factory_id: str | None
    created_by: str


def new_code(random: Callable[[int], bytes]) -> str:
    """A fresh code of 160 bits from `random(how_many_bytes)`, which must be fit for secrets; people can read it out."""
    letters = base64.b32encode(random(RANDOM_BYTES)).decode("ascii")
    return "-".join(letters[at : at + GROUP] for at in range(0, len(letters), GROUP))


def make(connection: Connection, code: str, factory_id: str | None, by: str, ttl_seconds: float) -> datetime:
    """From the commit on `code` lets one factory in, that of `factory_id` if given; returned is when it ends."""
    connection.execute(FORGET)
    values = {"hash": _hash(code), "factory_id": factory_id, "by": by[:300], "ttl": ttl_seconds}
    moment: datetime = connection.execute(MAKE, values).scalar_one()
    return moment


def redeem(connection: Connection, code: str, factory_id: str | None) -> Redeemed | None:
    """`code` is used up when this transaction commits, and as good as before when it does not.

    None for one that is unknown, used or expired: nobody is told which.
    """
    row = connection.execute(REDEEM, {"hash": _hash(code), "factory_id": factory_id}).first()
    return None if row is None else Redeemed(row.factory_id, row.created_by)


def _hash(code: str) -> bytes:
    # As it may be typed: in any case, with other separators or none. Fast on purpose: nobody guesses 160 bits.
    return hashlib.sha256(re.sub(r"[\s-]+", "", code).upper().encode("utf-8", "replace")).digest()
