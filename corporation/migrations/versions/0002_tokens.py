"""Who may be let in: tokens that were revoked, and the credentials of factories."""

from alembic import op

revision = "0002"
down_revision = "0001"

TOKENS = """
CREATE TABLE corporation.revoked_tokens (
  jti        text PRIMARY KEY CHECK (length(jti) BETWEEN 1 AND 300),
  revoked_at timestamptz NOT NULL DEFAULT now(),
  revoked_by text NOT NULL CHECK (length(revoked_by) <= 300)           -- the subject of the token that did it
);

CREATE TABLE corporation.factory_credentials (
  credential_hash bytea PRIMARY KEY CHECK (octet_length(credential_hash) = 32),  -- SHA-256; the credential is nowhere
  factory_id      text NOT NULL CHECK (btrim(factory_id) <> '' AND length(factory_id) <= 200),
  created_at      timestamptz NOT NULL DEFAULT now(),
  revoked_at      timestamptz CHECK (revoked_at >= created_at)
);
CREATE UNIQUE INDEX one_live_credential_per_factory ON corporation.factory_credentials (factory_id)
  WHERE revoked_at IS NULL;
"""


def upgrade() -> None:
    """Create both tables."""
    op.execute(TOKENS)


def downgrade() -> None:
    """Remove both tables; every factory must be enrolled again."""
    op.execute("DROP TABLE corporation.factory_credentials, corporation.revoked_tokens")
