"""Dead letters found by their mission and by their job_id, without a look at all of them."""

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add the two indexes; the first also spares each row that leaves `missions` a search for letters that name it."""
    op.execute("CREATE INDEX dead_letters_of_mission ON corporation.dead_letters (mission_id)")
    op.execute("CREATE INDEX dead_letters_of_job ON corporation.dead_letters (job_id)")


def downgrade() -> None:
    """Remove them."""
    op.execute("DROP INDEX corporation.dead_letters_of_mission")
    op.execute("DROP INDEX corporation.dead_letters_of_job")
