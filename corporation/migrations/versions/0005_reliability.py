"""Cancelling, taking back and handing out again: what the ledger must remember of each."""

from alembic import op

revision = "0005"
down_revision = "0004"

RELIABILITY = """
ALTER TABLE corporation.missions
  ADD COLUMN cancel_requested_at timestamptz,
  ADD COLUMN cancel_reason       text,
  ADD CONSTRAINT a_cancel_has_a_reason CHECK
    ((cancel_requested_at IS NULL) = (cancel_reason IS NULL) AND coalesce(cancel_reason, 'x') <> ''),
  -- Only what runs has to be asked, and it is never tried again (S-30); a broadcast waits for what its children do.
  ADD CONSTRAINT only_what_runs_is_asked_to_stop CHECK
    (cancel_requested_at IS NULL OR state NOT IN ('waiting', 'queued', 'claimed') OR children IS NOT NULL);

ALTER TABLE corporation.attempts
  ADD COLUMN took_worker boolean NOT NULL DEFAULT false,                -- lost together with the process that ran it
  ADD COLUMN sends       integer NOT NULL DEFAULT 1 CHECK (sends >= 1), -- how often its message was handed out
  ADD COLUMN adopted     boolean NOT NULL DEFAULT false,                -- its late report was taken after all
  DROP CONSTRAINT attempts_state_check,
  -- `withdrawn`: its message was taken back before anybody received it, so that it uses up no attempt.
  ADD CONSTRAINT attempts_state_check CHECK (state IN
    ('queued', 'claimed', 'running', 'succeeded', 'failed', 'timed_out', 'cancelled', 'lost', 'withdrawn')),
  ADD CONSTRAINT only_the_lost_took_their_worker CHECK (NOT took_worker OR state = 'lost');

-- `stop`: the factory is told to stop the attempt.
ALTER TABLE corporation.outbox
  DROP CONSTRAINT outbox_topic_check,
  ADD CONSTRAINT outbox_topic_check CHECK (topic IN ('attempt', 'stop')),
  DROP CONSTRAINT outbox_attempt_id_key,
  ADD CONSTRAINT one_message_of_a_topic UNIQUE (attempt_id, topic);

DROP INDEX corporation.dead_letters_newest;
CREATE INDEX dead_letters_newest ON corporation.dead_letters (status, id DESC);
"""


def upgrade() -> None:
    """Add the columns, and let the outbox carry stops beside attempts."""
    op.execute(RELIABILITY)


def downgrade() -> None:
    """Remove them; requests to stop that were not sent are forgotten, and what was withdrawn counts as lost."""
    op.execute("DROP INDEX corporation.dead_letters_newest")
    op.execute("CREATE INDEX dead_letters_newest ON corporation.dead_letters (id DESC) WHERE status = 'open'")
    op.execute("DELETE FROM corporation.outbox WHERE topic = 'stop'")
    op.execute(
        "ALTER TABLE corporation.outbox DROP CONSTRAINT one_message_of_a_topic, "
        "ADD CONSTRAINT outbox_attempt_id_key UNIQUE (attempt_id), DROP CONSTRAINT outbox_topic_check, "
        "ADD CONSTRAINT outbox_topic_check CHECK (topic IN ('attempt'))"
    )
    op.execute("ALTER TABLE corporation.attempts DROP CONSTRAINT only_the_lost_took_their_worker")
    op.execute("UPDATE corporation.attempts SET state = 'lost' WHERE state = 'withdrawn'")
    op.execute(
        "ALTER TABLE corporation.attempts DROP COLUMN took_worker, DROP COLUMN sends, DROP COLUMN adopted, "
        "DROP CONSTRAINT attempts_state_check, ADD CONSTRAINT attempts_state_check CHECK (state IN "
        "('queued', 'claimed', 'running', 'succeeded', 'failed', 'timed_out', 'cancelled', 'lost'))"
    )
    op.execute("ALTER TABLE corporation.missions DROP COLUMN cancel_requested_at, DROP COLUMN cancel_reason")
