"""The streams: where a mission came in, dead letters, and what the streams have still to be told."""

from alembic import op

revision = "0004"
down_revision = "0003"

STREAMS = """
ALTER TABLE corporation.missions
  ADD COLUMN stream          text,                                     -- the stream it came in by, if by one
  ADD COLUMN stream_entry_id text,
  ADD COLUMN raw_envelope    text,                                     -- the entry's text to the letter (S-23)
  ADD COLUMN parent_id       bigint REFERENCES corporation.missions,   -- the broadcast it is a part of (S-25)
  ADD COLUMN replay_of       bigint REFERENCES corporation.missions,
  ADD COLUMN place           bigint NOT NULL DEFAULT 0,                -- among those that were stored with it
  ADD COLUMN children        integer CHECK (children >= 1),            -- of a broadcast, once it was spread
  ADD CONSTRAINT an_entry_has_a_stream CHECK ((stream IS NULL) = (stream_entry_id IS NULL)),
  ADD CONSTRAINT a_child_has_a_target CHECK (parent_id IS NULL OR target_factory_id IS NOT NULL),
  ADD CONSTRAINT a_broadcast_is_never_run CHECK
    (children IS NULL OR (attempt = 0 AND target_factory_id IS NULL AND parent_id IS NULL)),
  ADD CONSTRAINT success_was_earned CHECK (state <> 'succeeded' OR attempt >= 1 OR children IS NOT NULL),
  -- A child's is `<parent>.<factory_id>`: 128 characters, a dot, and 200; a replay's is a little longer.
  DROP CONSTRAINT missions_job_id_check,
  ADD CONSTRAINT missions_job_id_check CHECK (length(job_id) BETWEEN 1 AND 400);
DROP INDEX corporation.missions_to_dispatch;
CREATE INDEX missions_to_dispatch ON corporation.missions (broker_priority, created_at, place, id)
  WHERE state = 'waiting';
CREATE INDEX missions_of_replay ON corporation.missions (replay_of) WHERE replay_of IS NOT NULL;
CREATE INDEX missions_of_parent ON corporation.missions (parent_id) WHERE parent_id IS NOT NULL;
-- Broadcasts are looked for at every tick, however many missions wait.
CREATE INDEX missions_broadcast ON corporation.missions (id)
  WHERE state = 'waiting' AND target_factory_id IS NULL AND mission_kind LIKE 'system:%';

-- The entry that made the alias: read again after a crash, it is no further duplicate.
ALTER TABLE corporation.mission_aliases
  ADD COLUMN stream          text,
  ADD COLUMN stream_entry_id text;

CREATE TABLE corporation.dead_letters (
  id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  mission_id      bigint REFERENCES corporation.missions,              -- that failed, or that has the job_id already
  job_id          text NOT NULL,                                       -- as the entry said it; empty when it said none
  cause           text NOT NULL CHECK (cause IN ('malformed', 'conflict', 'failed', 'timed_out')),
  code            text NOT NULL CHECK (code <> ''),                    -- the catalogue's word for what is wrong
  failure_error   text NOT NULL CHECK (failure_error <> ''),
  retry_count     bigint NOT NULL DEFAULT 0 CHECK (retry_count >= 0),
  raw             bytea,                                               -- the entry's envelope, or its beginning
  raw_size        bigint CHECK (raw_size >= 0),                        -- bytes of the whole
  raw_sha256      bytea CHECK (octet_length(raw_sha256) = 32),         -- of the whole, where `raw` is not
  stream          text,
  stream_entry_id text,
  status          text NOT NULL DEFAULT 'open' CHECK (status IN ('open', 'replayed', 'discarded')),
  created_at      timestamptz NOT NULL DEFAULT now(),
  published_at    timestamptz,
  resolved_at     timestamptz,
  resolved_why    text,
  replay_job_id   text,
  CONSTRAINT a_failure_has_a_mission CHECK (cause = 'malformed' OR mission_id IS NOT NULL),
  CONSTRAINT resolved_has_a_time CHECK ((status = 'open') = (resolved_at IS NULL)),
  CONSTRAINT replayed_has_a_mission CHECK ((status = 'replayed') = (replay_job_id IS NOT NULL))
);
CREATE UNIQUE INDEX one_dead_letter_per_mission ON corporation.dead_letters (mission_id)
  WHERE cause IN ('failed', 'timed_out');
CREATE UNIQUE INDEX one_dead_letter_per_entry ON corporation.dead_letters (stream, stream_entry_id)
  WHERE cause IN ('malformed', 'conflict');
CREATE INDEX dead_letters_newest ON corporation.dead_letters (id DESC) WHERE status = 'open';

-- Beside the outbox of attempts and not in it: a stream that is away must not make the sender look through its rows.
CREATE TABLE corporation.stream_outbox (
  id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  mission_id     bigint UNIQUE REFERENCES corporation.missions,        -- whose final word is to be told
  dead_letter_id bigint UNIQUE REFERENCES corporation.dead_letters,
  created_at     timestamptz NOT NULL DEFAULT now(),
  CONSTRAINT one_thing_to_tell CHECK (num_nonnulls(mission_id, dead_letter_id) = 1)
);
-- Each found without the other: a stream that takes nothing must not hold up the one that does.
CREATE INDEX results_to_tell ON corporation.stream_outbox (id) WHERE mission_id IS NOT NULL;
CREATE INDEX dead_letters_to_tell ON corporation.stream_outbox (id) WHERE dead_letter_id IS NOT NULL;

CREATE FUNCTION corporation.tell_a_dead_letter() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO corporation.stream_outbox (dead_letter_id) VALUES (NEW.id);
  PERFORM pg_notify('corporation_publish', '');
  RETURN NULL;
END $$;
CREATE TRIGGER a_dead_letter_is_told AFTER INSERT ON corporation.dead_letters
  FOR EACH ROW EXECUTE FUNCTION corporation.tell_a_dead_letter();

-- Here and not in the statements that end missions: one of them would forget it one day (S-33, S-38).
CREATE FUNCTION corporation.tell_the_end_of_a_mission() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO corporation.stream_outbox (mission_id) VALUES (NEW.id);
  IF NEW.state IN ('failed', 'timed_out') THEN
    INSERT INTO corporation.dead_letters (mission_id, job_id, cause, code, failure_error, retry_count)
    VALUES (NEW.id, NEW.job_id, NEW.state, NEW.state, NEW.error, NEW.attempts_before + NEW.attempt);
  END IF;
  PERFORM pg_notify('corporation_publish', '');
  RETURN NULL;
END $$;
CREATE TRIGGER the_end_of_a_mission_is_told AFTER UPDATE OF finished_at ON corporation.missions FOR EACH ROW
  WHEN (OLD.finished_at IS NULL AND NEW.finished_at IS NOT NULL)
  EXECUTE FUNCTION corporation.tell_the_end_of_a_mission();
"""


def upgrade() -> None:
    """Add the columns, the two tables and the triggers; missions that ended before are not told any more."""
    op.execute(STREAMS)


def downgrade() -> None:
    """Remove them; dead letters and what was not published yet are lost."""
    op.execute("DROP TRIGGER the_end_of_a_mission_is_told ON corporation.missions")
    op.execute("DROP TABLE corporation.stream_outbox, corporation.dead_letters")
    op.execute("DROP FUNCTION corporation.tell_the_end_of_a_mission(), corporation.tell_a_dead_letter()")
    op.execute("ALTER TABLE corporation.mission_aliases DROP COLUMN stream, DROP COLUMN stream_entry_id")
    op.execute("DROP INDEX corporation.missions_to_dispatch")
    op.execute("DROP INDEX corporation.missions_broadcast")
    columns = "stream", "stream_entry_id", "raw_envelope", "parent_id", "replay_of", "children", "place"
    op.execute(f"ALTER TABLE corporation.missions {', '.join(f'DROP COLUMN {column}' for column in columns)}")
    op.execute(
        "ALTER TABLE corporation.missions DROP CONSTRAINT missions_job_id_check, "
        "ADD CONSTRAINT missions_job_id_check CHECK (length(job_id) BETWEEN 1 AND 300) NOT VALID"
    )
    op.execute(
        "CREATE INDEX missions_to_dispatch ON corporation.missions (broker_priority, created_at, id) "
        "WHERE state = 'waiting'"
    )
