"""The ledger (missions, attempts, events, outbox, log, factories) and the mailbox; every invariant is a constraint."""

from alembic import op

revision = "0001"
down_revision = None

LEDGER = """
CREATE SCHEMA corporation;

CREATE TABLE corporation.missions (
  id                bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  job_id            text NOT NULL UNIQUE CHECK (length(job_id) BETWEEN 1 AND 300),
  idempotency_key   text NOT NULL UNIQUE CHECK (length(idempotency_key) BETWEEN 1 AND 500),
  mission_kind      text NOT NULL CHECK (mission_kind <> ''),
  requested_kind    text NOT NULL,
  source            text NOT NULL CHECK (source IN
                      ('redis_bridge', 'rest', 'ops', 'dashboard', 'telegram', 'csi', 'agent', 'replay')),
  target_factory_id text CHECK (target_factory_id <> ''),
  priority          bigint NOT NULL,                                   -- as the publisher wrote it (S-11)
  broker_priority   smallint NOT NULL CHECK (broker_priority BETWEEN 0 AND 9),
  timeout_seconds   bigint NOT NULL CHECK (timeout_seconds >= 1),
  max_retries       bigint NOT NULL CHECK (max_retries >= 0),
  attempts_total    bigint NOT NULL CHECK (attempts_total >= 1),       -- how many may be made here (S-27)
  attempts_before   bigint NOT NULL DEFAULT 0 CHECK (attempts_before >= 0),  -- used elsewhere: `_retry_count`
  envelope          json NOT NULL,                                     -- json, not jsonb: numbers stay as written
  body_digest       bytea NOT NULL,                                    -- SHA-256 of the body of S-17

  state             text NOT NULL DEFAULT 'waiting' CHECK (state IN
                      ('waiting', 'queued', 'claimed', 'running', 'succeeded', 'failed', 'timed_out', 'cancelled')),
  state_reason      text DEFAULT 'behind_others',                      -- a code of H-29 while waiting
  attempt           integer NOT NULL DEFAULT 0 CHECK (attempt >= 0),
  attempt_id        uuid,                                              -- the current attempt, while there is one
  factory_id        text,                                              -- who holds it, or held it last
  event_seq         integer NOT NULL DEFAULT 0,
  result            json,
  error             text,
  created_at        timestamptz NOT NULL DEFAULT now(),
  updated_at        timestamptz NOT NULL DEFAULT now(),
  started_at        timestamptz,
  finished_at       timestamptz,
  deadline_at       timestamptz,
  next_attempt_at   timestamptz,
  result_published_at timestamptz,

  CONSTRAINT final_has_an_end CHECK
    ((state IN ('succeeded', 'failed', 'timed_out', 'cancelled')) = (finished_at IS NOT NULL)),
  CONSTRAINT live_has_an_attempt CHECK ((state IN ('queued', 'claimed', 'running')) <= (attempt_id IS NOT NULL)),
  CONSTRAINT waiting_has_a_reason CHECK (state <> 'waiting' OR coalesce(state_reason, '') <> ''),
  CONSTRAINT waiting_has_no_attempt CHECK (state <> 'waiting' OR attempt_id IS NULL),
  CONSTRAINT success_has_no_error CHECK (state <> 'succeeded' OR error IS NULL),
  CONSTRAINT failure_has_an_error CHECK
    (state NOT IN ('failed', 'timed_out', 'cancelled') OR coalesce(error, '') <> ''),
  CONSTRAINT attempts_are_bounded CHECK (attempt <= attempts_total)
);
CREATE INDEX missions_newest ON corporation.missions (created_at DESC, job_id);
CREATE INDEX missions_to_dispatch ON corporation.missions (broker_priority, created_at, id) WHERE state = 'waiting';
CREATE INDEX missions_by_state ON corporation.missions (state, created_at DESC)
  WHERE state IN ('waiting', 'queued', 'claimed', 'running');
CREATE UNIQUE INDEX missions_by_attempt ON corporation.missions (attempt_id) WHERE attempt_id IS NOT NULL;
CREATE INDEX missions_past_deadline ON corporation.missions (deadline_at) WHERE state = 'waiting';

CREATE FUNCTION corporation.refuse_change_of_a_final_mission() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF (NEW.state, NEW.attempt, NEW.error, NEW.result::text, NEW.finished_at)
     IS DISTINCT FROM (OLD.state, OLD.attempt, OLD.error, OLD.result::text, OLD.finished_at) THEN
    RAISE EXCEPTION 'mission % is final: %', OLD.job_id, OLD.state USING ERRCODE = 'integrity_constraint_violation';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER a_final_mission_never_changes BEFORE UPDATE ON corporation.missions FOR EACH ROW
  WHEN (OLD.finished_at IS NOT NULL) EXECUTE FUNCTION corporation.refuse_change_of_a_final_mission();

CREATE TABLE corporation.mission_aliases (                             -- other job_ids for one key (S-18)
  job_id     text PRIMARY KEY CHECK (length(job_id) BETWEEN 1 AND 300),
  mission_id bigint NOT NULL REFERENCES corporation.missions
);
CREATE INDEX mission_aliases_of ON corporation.mission_aliases (mission_id);

CREATE TABLE corporation.attempts (
  id               uuid PRIMARY KEY,                                   -- the Celery task id
  mission_id       bigint NOT NULL REFERENCES corporation.missions,
  number           integer NOT NULL CHECK (number >= 1),
  factory_id       text NOT NULL,
  queue            text NOT NULL,
  state            text NOT NULL DEFAULT 'queued' CHECK (state IN
                     ('queued', 'claimed', 'running', 'succeeded', 'failed', 'timed_out', 'cancelled', 'lost')),
  lease_expires_at timestamptz NOT NULL,
  created_at       timestamptz NOT NULL DEFAULT now(),
  claimed_at       timestamptz,
  started_at       timestamptz,
  finished_at      timestamptz,
  progress         json,
  outcome          json,                                               -- as reported; of a late report, the evidence
  error            text,
  CONSTRAINT attempt_numbers_are_unique UNIQUE (mission_id, number),
  CONSTRAINT ended_has_an_end CHECK ((state IN ('queued', 'claimed', 'running')) = (finished_at IS NULL))
);
CREATE UNIQUE INDEX one_live_attempt_per_mission ON corporation.attempts (mission_id)
  WHERE state IN ('queued', 'claimed', 'running');
CREATE INDEX attempts_live ON corporation.attempts (factory_id, lease_expires_at)
  WHERE state IN ('queued', 'claimed', 'running');
CREATE INDEX attempts_ended ON corporation.attempts (finished_at) WHERE finished_at IS NOT NULL;

CREATE TABLE corporation.mission_events (
  mission_id bigint NOT NULL REFERENCES corporation.missions,
  seq        integer NOT NULL CHECK (seq >= 1),
  at         timestamptz NOT NULL DEFAULT now(),
  type       text NOT NULL CHECK (type IN
    ('imported', 'published', 'duplicate', 'conflict', 'unknown_kind', 'retry_count_ignored', 'routed', 'waiting',
     'queued', 'claimed', 'started', 'progress', 'retry_scheduled', 'attempt_lost', 'late_result', 'cancel_requested',
     'succeeded', 'failed', 'timed_out', 'cancelled', 'dead_lettered', 'result_published', 'replayed')),
  attempt    integer,
  factory_id text,
  detail     json NOT NULL DEFAULT '{}',
  PRIMARY KEY (mission_id, seq)
);
-- The second final event of a mission is refused here, whatever the code above thinks (invariants I1, I2).
CREATE UNIQUE INDEX one_final_event_per_mission ON corporation.mission_events (mission_id)
  WHERE type IN ('succeeded', 'failed', 'timed_out', 'cancelled');

CREATE FUNCTION corporation.refuse_change_of_history() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'events are never changed' USING ERRCODE = 'integrity_constraint_violation';
END $$;
CREATE TRIGGER events_are_append_only BEFORE UPDATE ON corporation.mission_events
  FOR EACH ROW EXECUTE FUNCTION corporation.refuse_change_of_history();

CREATE TABLE corporation.outbox (
  id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  topic      text NOT NULL CHECK (topic IN ('attempt')),
  attempt_id uuid NOT NULL UNIQUE REFERENCES corporation.attempts,
  created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE corporation.mission_log (
  mission_id bigint NOT NULL REFERENCES corporation.missions,
  attempt    integer NOT NULL CHECK (attempt >= 1),
  number     integer NOT NULL CHECK (number >= 1),
  at         timestamptz NOT NULL DEFAULT now(),
  line       text NOT NULL CHECK (length(line) <= 8192),
  PRIMARY KEY (mission_id, attempt, number)
);

CREATE TABLE corporation.factories (
  factory_id          text PRIMARY KEY CHECK (btrim(factory_id) <> '' AND length(factory_id) <= 200),
  -- Its name inside queues and keys; two factories with one such name would take each other's missions (S-24).
  slug                text NOT NULL UNIQUE GENERATED ALWAYS AS
                        (regexp_replace(factory_id, '[^A-Za-z0-9:_-]+', '-', 'g')) STORED,
  factory_role        text NOT NULL DEFAULT 'LOCAL_WORKER',
  deployment_profile  text NOT NULL DEFAULT 'local_workstation',
  source              text NOT NULL CHECK (source IN
                        ('gateway_startup', 'api_registration', 'api_control', 'enrolment')),
  registration_status text NOT NULL DEFAULT 'online' CHECK (registration_status IN
                        ('online', 'paused', 'draining', 'stale', 'offline')),
  heartbeat_latency_ms double precision CHECK (heartbeat_latency_ms >= 0),
  capabilities        json NOT NULL DEFAULT '[]',
  metadata            json NOT NULL DEFAULT '{}',
  slots               integer NOT NULL DEFAULT 0 CHECK (slots >= 0),
  queues              json NOT NULL DEFAULT '[]',
  version             text,
  paused              boolean NOT NULL DEFAULT false,
  first_seen_at       timestamptz NOT NULL DEFAULT now(),
  last_seen_at        timestamptz NOT NULL DEFAULT now(),
  updated_at          timestamptz NOT NULL DEFAULT now()
);
"""

MAILBOX = """
CREATE SCHEMA mailbox;

-- Celery's extended result table. HQ inserts the row with the attempt; a worker fills it once. (Roles that
-- hold a factory to its own rows are not here yet.)
CREATE TABLE mailbox.celery_taskmeta (
  id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  task_id      varchar(155) NOT NULL UNIQUE,
  status       varchar(50) NOT NULL DEFAULT 'PENDING' CHECK (status IN
                 ('PENDING', 'STARTED', 'RETRY', 'SUCCESS', 'FAILURE', 'REVOKED')),
  result       bytea CONSTRAINT result_not_pickle CHECK (octet_length(result) = 0 OR get_byte(result, 0) <> 128)
                     CONSTRAINT result_size CHECK (octet_length(result) <= 1048576),
  date_done    timestamp,
  traceback    text CONSTRAINT traceback_size CHECK (length(traceback) <= 65536),
  children     bytea CONSTRAINT no_children CHECK (children IS NULL),
  name         varchar(155),
  args         bytea,
  kwargs       bytea,
  worker       varchar(155),
  retries      integer,
  queue        varchar(155),
  stamps       bytea,
  factory      text NOT NULL,
  collected_at timestamptz
);
CREATE INDEX mailbox_to_collect ON mailbox.celery_taskmeta (id)
  WHERE collected_at IS NULL AND status IN ('SUCCESS', 'FAILURE', 'REVOKED');

CREATE FUNCTION mailbox.wake_the_collector() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_notify('corporation_collect', '');
  RETURN NULL;
END $$;
CREATE TRIGGER a_report_wakes_the_collector AFTER UPDATE OF status ON mailbox.celery_taskmeta
  FOR EACH STATEMENT EXECUTE FUNCTION mailbox.wake_the_collector();
"""


def upgrade() -> None:
    """Create both schemas."""
    op.execute(LEDGER)
    op.execute(MAILBOX)


def downgrade() -> None:
    """Remove both schemas and all that is in them."""
    op.execute("DROP SCHEMA mailbox CASCADE")
    op.execute("DROP SCHEMA corporation CASCADE")
