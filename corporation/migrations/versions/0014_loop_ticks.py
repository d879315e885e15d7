"""When each of HQ's loops last did a round: an engine that has ended or stands still can say nothing else of itself."""

from alembic import op

revision = "0014"
down_revision = "0013"

# One row per loop, whoever runs it: that somebody does the round counts, and two engines may. A loop that has done none
# yet counts from its start.
TICKS = """
CREATE TABLE corporation.loop_ticks (
  loop          text PRIMARY KEY CHECK (length(loop) BETWEEN 1 AND 100),
  told_at       timestamptz NOT NULL DEFAULT now(),
  good_at       timestamptz NOT NULL,
  every_seconds double precision NOT NULL CHECK (every_seconds >= 0),
  error         text NOT NULL CHECK (length(error) <= 200)
)
"""


def upgrade() -> None:
    op.execute(TICKS)


def downgrade() -> None:
    """Nobody says any more whether the loops go round; they do."""
    op.execute("DROP TABLE corporation.loop_ticks")
