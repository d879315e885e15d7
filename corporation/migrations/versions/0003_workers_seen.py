"""When a factory's workers were last heard of: HQ's API beats for its node too, and would keep dead workers alive."""

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.execute("ALTER TABLE corporation.factories ADD COLUMN workers_seen_at timestamptz")
    op.execute("UPDATE corporation.factories SET workers_seen_at = last_seen_at")


def downgrade() -> None:
    op.execute("ALTER TABLE corporation.factories DROP COLUMN workers_seen_at")
