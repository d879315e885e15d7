"""Orders to a factory that wait, found without a look at all that waits: each tick and each beat asks for them."""

from alembic import op

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    """Add the index, which holds nothing but these orders; `store/dispatching.py` says its condition to the letter."""
    op.execute(
        "CREATE INDEX missions_orders ON corporation.missions (target_factory_id)"
        " WHERE state = 'waiting' AND target_factory_id IS NOT NULL AND mission_kind LIKE 'system:%'"
    )


def downgrade() -> None:
    """Remove it."""
    op.execute("DROP INDEX corporation.missions_orders")
