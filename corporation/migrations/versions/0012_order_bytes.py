"""How large the order of an attempt is: the dispatcher sums it up for each factory, and reads no envelope for that."""

from alembic import op

revision = "0012"
down_revision = "0011"

# Of the envelope, as the ledger keeps it. 0 for what was claimed over HTTPS, which lies in no queue, and for what was
# sent before there was this column: that is over within hours.
SIZES = """
ALTER TABLE corporation.attempts
  ADD COLUMN order_bytes integer NOT NULL DEFAULT 0,
  ADD CONSTRAINT an_order_has_a_size CHECK (order_bytes >= 0)
"""


def upgrade() -> None:
    """Add the column; no row is written again."""
    op.execute(SIZES)


def downgrade() -> None:
    """Remove it."""
    op.execute("ALTER TABLE corporation.attempts DROP COLUMN order_bytes")
