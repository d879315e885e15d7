"""Tokens that ended before their time: by their `jti` (contract http H-11), or with all others of their factory."""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, text

LONGEST_ID: Final = 300
"""A token with a longer `jti` could not be revoked, so it is not accepted."""

# No token lives longer than an hour, so after a day a row has nothing left to refuse.
FORGET = text("DELETE FROM corporation.revoked_tokens WHERE revoked_at < now() - interval '1 day'")

REVOKE = text("""
    INSERT INTO corporation.revoked_tokens (jti, revoked_by) VALUES (:jti, :revoked_by) ON CONFLICT (jti) DO NOTHING
""")

REVOKED = text("SELECT EXISTS (SELECT 1 FROM corporation.revoked_tokens WHERE jti = :jti)")

# One read for both. A token that names no epoch was made by another tool: it counts if it is younger than the epoch.
ENDED = text("""
    SELECT EXISTS (SELECT 1 FROM corporation.revoked_tokens WHERE jti = :jti)
        OR EXISTS (SELECT 1 FROM corporation.factory_access
                    WHERE factory_id = :factory_id
                      AND (quarantined_at IS NOT NULL
                           OR coalesce(epoch > CAST(:epoch AS integer),
                                       epoch_since > to_timestamp(CAST(:issued_at AS double precision)))))
""")


@dataclass(frozen=True)
class FactoryToken:
    """What the token of a factory says of itself; `issued_at` in seconds since 1970, `epoch` None if it names none."""

    factory_id: str
    issued_at: int
    epoch: int | None = None


def revoke_token(connection: Connection, token_id: str, revoked_by: str) -> None:
    """From the commit on the token with this `jti` is refused; safe to call twice, the first call's row stays."""
    connection.execute(FORGET)
    connection.execute(REVOKE, {"jti": token_id, "revoked_by": revoked_by[:LONGEST_ID]})


def is_revoked(connection: Connection, token_id: str) -> bool:
    """Whether the token with this `jti` was revoked; one indexed read."""
    return bool(connection.execute(REVOKED, {"jti": token_id}).scalar_one())


def has_ended(connection: Connection, token_id: str | None, factory: FactoryToken) -> bool:
    """Whether a factory's token is worth nothing any more: it was revoked, or its factory was shut out. One read."""
    values = {
        "jti": token_id,
        "factory_id": factory.factory_id,
        "epoch": factory.epoch,
        "issued_at": factory.issued_at,
    }
    return bool(connection.execute(ENDED, values).scalar_one())
