"""What the mission workers of a factory last said they can run: it stays known while none of them lives."""

from alembic import op

revision = "0015"
down_revision = "0014"

# Apart from `capabilities`, where a label is present only while the thing works (F-18). Filled by the next beat.
KNOWN = """
ALTER TABLE corporation.factories ADD COLUMN known_labels json NOT NULL DEFAULT '[]'
"""


def upgrade() -> None:
    """Add the column; no row is written again."""
    op.execute(KNOWN)


def downgrade() -> None:
    """Remove it."""
    op.execute("ALTER TABLE corporation.factories DROP COLUMN known_labels")
