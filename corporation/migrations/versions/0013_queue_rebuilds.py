"""Who asks for the queues to be filled again asks the engine: the API has no right to look into a queue."""

from alembic import op

revision = "0013"
down_revision = "0012"

# A row lives as long as somebody waits for its answer, and is judged by this database's clock: what nobody waits for
# any more must not be done later. As json the answer keeps its order.
REBUILDS = """
CREATE TABLE corporation.queue_rebuilds (
  id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  asked_at     timestamptz NOT NULL DEFAULT now(),
  wanted_until timestamptz NOT NULL,
  asked_by     text NOT NULL CHECK (length(asked_by) BETWEEN 1 AND 300),
  origin       text NOT NULL CHECK (length(origin) BETWEEN 1 AND 300),
  dry_run      boolean NOT NULL,
  done_at      timestamptz,
  answer       json,
  error        text CHECK (length(error) BETWEEN 1 AND 2000),
  CONSTRAINT a_wish_has_an_end CHECK (wanted_until >= asked_at),
  CONSTRAINT what_is_done_has_one_answer
    CHECK (num_nonnulls(answer, error) = CASE WHEN done_at IS NULL THEN 0 ELSE 1 END)
)
"""


def upgrade() -> None:
    op.execute(REBUILDS)


def downgrade() -> None:
    """Who waits for an answer is told that no engine came."""
    op.execute("DROP TABLE corporation.queue_rebuilds")
