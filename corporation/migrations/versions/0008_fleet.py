"""The fleet: who paused whom, who may speak for a factory, echoes, costs, claims over HTTPS, notifications."""

from alembic import op

revision = "0008"
down_revision = "0007"

FLEET = """
ALTER TABLE corporation.factories
  ADD COLUMN display_name      text CHECK (btrim(display_name) <> '' AND length(display_name) <= 200),
  ADD COLUMN draining          boolean NOT NULL DEFAULT false,          -- HQ's flag, beside `paused`
  ADD COLUMN paused_at         timestamptz,
  ADD COLUMN paused_by         text CHECK (length(paused_by) <= 300),
  ADD COLUMN pause_note        text CHECK (length(pause_note) <= 1000),
  ADD COLUMN paused_until      timestamptz,                             -- then the flag ends by itself
  ADD CONSTRAINT paused_or_draining CHECK (NOT (paused AND draining)),
  ADD CONSTRAINT only_a_pause_ends CHECK (paused_until IS NULL OR paused OR draining),
  ADD COLUMN judged_status     text CHECK (judged_status IN ('online', 'paused', 'draining', 'stale', 'offline')),
  ADD COLUMN judged_at         timestamptz,                             -- since when the sweep calls it so
  ADD COLUMN instance_id       text CHECK (length(instance_id) <= 200), -- which spool on which boot of which machine
  ADD COLUMN beat_number       bigint,                                  -- of that instance; an older beat is ignored
  ADD COLUMN interval_seconds  double precision CHECK (interval_seconds > 0),
  ADD COLUMN split_brain_at    timestamptz,                             -- when another instance last claimed this id
  ADD COLUMN split_brain_with  text CHECK (length(split_brain_with) <= 200),
  ADD COLUMN workers           json NOT NULL DEFAULT '[]',              -- name, slots, busy, loop age of each
  ADD COLUMN desired_commit    text,
  ADD COLUMN desired_branch    text;

-- What survives the removal of a factory's row: which of its tokens count, and whether it is shut out.
CREATE TABLE corporation.factory_access (
  factory_id      text PRIMARY KEY CHECK (btrim(factory_id) <> '' AND length(factory_id) <= 200),
  epoch           integer NOT NULL DEFAULT 0 CHECK (epoch >= 0),        -- tokens of an earlier one are refused
  epoch_since     timestamptz NOT NULL DEFAULT now(),                   -- a token that names none must be younger
  quarantined_at  timestamptz,
  quarantined_by  text CHECK (length(quarantined_by) <= 300),
  quarantine_note text CHECK (length(quarantine_note) <= 1000)
);

CREATE TABLE corporation.join_codes (
  code_hash  bytea PRIMARY KEY CHECK (octet_length(code_hash) = 32),    -- SHA-256; the code is nowhere (H-20)
  factory_id text CHECK (btrim(factory_id) <> '' AND length(factory_id) <= 200),  -- NULL: the newcomer says it
  created_at timestamptz NOT NULL DEFAULT now(),
  created_by text NOT NULL CHECK (length(created_by) <= 300),
  expires_at timestamptz NOT NULL CHECK (expires_at > created_at),
  used_at    timestamptz,
  used_by    text
);
CREATE INDEX join_codes_expired ON corporation.join_codes (expires_at);

CREATE TABLE corporation.factory_events (                               -- what happened to a factory, and by whom
  id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  factory_id text NOT NULL,
  at         timestamptz NOT NULL DEFAULT now(),
  type       text NOT NULL CHECK (type IN
    ('enrolled', 'online', 'stale', 'offline', 'paused', 'draining', 'resumed', 'quarantined', 'released', 'renamed',
     'removed', 'split_brain', 'restart_asked')),
  by         text CHECK (length(by) <= 300),
  detail     json NOT NULL DEFAULT '{}'
);
CREATE INDEX factory_events_newest ON corporation.factory_events (factory_id, id DESC);

CREATE TABLE corporation.notifications (                                -- what people should look at
  id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  kind         text NOT NULL CHECK (length(kind) BETWEEN 1 AND 100),
  at           timestamptz NOT NULL DEFAULT now(),
  title        text NOT NULL CHECK (length(title) <= 500),
  message      text NOT NULL DEFAULT '' CHECK (length(message) <= 4000),
  metadata     json NOT NULL DEFAULT '{}',
  dismissed_at timestamptz
);
CREATE INDEX notifications_newest ON corporation.notifications (id DESC) WHERE dismissed_at IS NULL;

CREATE TABLE corporation.factory_costs (                                -- one cumulative snapshot a period (F-8)
  factory_id         text NOT NULL,
  period_start       timestamptz NOT NULL,
  period_end         timestamptz NOT NULL,
  total_input_tokens  bigint NOT NULL CHECK (total_input_tokens >= 0),
  total_output_tokens bigint NOT NULL CHECK (total_output_tokens >= 0),
  total_requests      bigint NOT NULL CHECK (total_requests >= 0),
  estimated_cost_usd  double precision NOT NULL CHECK (estimated_cost_usd >= 0),
  breakdown_by_model  json NOT NULL DEFAULT '{}',
  updated_at          timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (factory_id, period_start),
  CONSTRAINT a_period_ends_after_it_starts CHECK (period_end >= period_start)
);

CREATE TABLE corporation.factory_echoes (                               -- the canary through a factory's own queue
  factory_id text PRIMARY KEY,
  echo_id    uuid NOT NULL,
  asked_at   timestamptz NOT NULL DEFAULT now(),
  heard_at   timestamptz                                                -- when its consumer had answered it
);

ALTER TABLE corporation.outbox
  ADD COLUMN factory_id text,
  ALTER COLUMN attempt_id DROP NOT NULL,
  DROP CONSTRAINT outbox_topic_check,
  ADD CONSTRAINT outbox_topic_check CHECK (topic IN ('attempt', 'stop', 'echo')),
  ADD CONSTRAINT an_echo_goes_to_a_factory CHECK
    ((topic = 'echo') = (attempt_id IS NULL) AND (topic = 'echo') = (factory_id IS NOT NULL));
CREATE UNIQUE INDEX one_echo_of_a_factory ON corporation.outbox (factory_id) WHERE topic = 'echo';

ALTER TABLE corporation.attempts
  ADD COLUMN worker_id     text CHECK (length(worker_id) <= 300),       -- the process that claimed it, where it said so
  ADD COLUMN over_https    boolean NOT NULL DEFAULT false,              -- claimed over HTTPS, whatever lies in Redis
  ADD COLUMN result_digest bytea CHECK (octet_length(result_digest) = 32),  -- of the result that was taken over HTTPS
  ADD COLUMN result_state  text,                                        -- what the sender was told then
  ADD COLUMN usage         json,
  ADD COLUMN progress_at   timestamptz;                                 -- when it last said something new of itself
-- Names of factories and kinds may have 200 characters: one attempt that does not fit would stop all dispatching.
ALTER TABLE mailbox.celery_taskmeta
  ALTER COLUMN queue TYPE text, ALTER COLUMN name TYPE text, ALTER COLUMN worker TYPE text;
-- What a factory ended last, however many attempts it ever had.
CREATE INDEX attempts_ended_by_factory ON corporation.attempts (factory_id, finished_at DESC)
  WHERE finished_at IS NOT NULL;
"""


def upgrade() -> None:
    op.execute(FLEET)


def downgrade() -> None:
    """Echoes that wait in the outbox are dropped, and quarantines, join codes and costs are forgotten."""
    op.execute("""
        DELETE FROM corporation.outbox WHERE topic = 'echo';
        DROP INDEX corporation.attempts_ended_by_factory;
        ALTER TABLE mailbox.celery_taskmeta
          ALTER COLUMN queue TYPE varchar(155) USING left(queue, 155),
          ALTER COLUMN name TYPE varchar(155) USING left(name, 155),
          ALTER COLUMN worker TYPE varchar(155) USING left(worker, 155);
        ALTER TABLE corporation.attempts
          DROP COLUMN worker_id, DROP COLUMN over_https, DROP COLUMN result_digest, DROP COLUMN result_state,
          DROP COLUMN usage, DROP COLUMN progress_at;
        DROP INDEX corporation.one_echo_of_a_factory;
        ALTER TABLE corporation.outbox
          DROP CONSTRAINT an_echo_goes_to_a_factory,
          DROP CONSTRAINT outbox_topic_check,
          ADD CONSTRAINT outbox_topic_check CHECK (topic IN ('attempt', 'stop')),
          ALTER COLUMN attempt_id SET NOT NULL,
          DROP COLUMN factory_id;
        DROP TABLE corporation.factory_echoes, corporation.factory_costs, corporation.notifications,
          corporation.factory_events, corporation.join_codes, corporation.factory_access;
        ALTER TABLE corporation.factories
          DROP CONSTRAINT paused_or_draining, DROP CONSTRAINT only_a_pause_ends,
          DROP COLUMN display_name, DROP COLUMN draining, DROP COLUMN paused_at, DROP COLUMN paused_by,
          DROP COLUMN pause_note, DROP COLUMN paused_until, DROP COLUMN judged_status, DROP COLUMN judged_at,
          DROP COLUMN instance_id, DROP COLUMN beat_number, DROP COLUMN interval_seconds, DROP COLUMN split_brain_at,
          DROP COLUMN split_brain_with, DROP COLUMN workers, DROP COLUMN desired_commit, DROP COLUMN desired_branch;
    """)
