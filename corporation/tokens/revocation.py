"""Tokens that ended before their time, by their `jti` (contract http H-11)."""

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


def revoke_token(connection: Connection, token_id: str, revoked_by: str) -> None:
    """From the commit on the token with this `jti` is refused; safe to call twice, the first call's row stays."""
    connection.execute(FORGET)
    connection.execute(REVOKE, {"jti": token_id, "revoked_by": revoked_by[:LONGEST_ID]})


def is_revoked(connection: Connection, token_id: str) -> bool:
    """Whether the token with this `jti` was revoked; one indexed read."""
    return bool(connection.execute(REVOKED, {"jti": token_id}).scalar_one())
