"""Trust between machines: the users of the broker, one a factory, and a log of every privileged act."""

from alembic import op

revision = "0010"
down_revision = "0009"

AUDIT = """
-- Who did what to whom, from where and why. Nothing in it is a secret, and nothing of it is ever changed or removed by
-- the role that the processes log in as.
CREATE TABLE corporation.audit_log (
  id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at      timestamptz NOT NULL DEFAULT now(),
  actor   text NOT NULL CHECK (length(actor) BETWEEN 1 AND 300),
  action  text NOT NULL CHECK (action ~ '^[a-z_]+([.][a-z_]+)*$' AND length(action) <= 100),
  target  text CHECK (length(target) BETWEEN 1 AND 300),
  origin  text NOT NULL CHECK (length(origin) BETWEEN 1 AND 300),
  note    text CHECK (length(note) BETWEEN 1 AND 1000),
  outcome text NOT NULL DEFAULT 'done' CHECK (outcome IN ('done', 'unchanged', 'refused')),
  detail  json NOT NULL DEFAULT '{}'
);
CREATE INDEX audit_log_by_time ON corporation.audit_log (at DESC, id DESC);
CREATE INDEX audit_log_by_target ON corporation.audit_log (target, id DESC);

CREATE FUNCTION corporation.refuse_change_of_audit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'what was done stays written down' USING ERRCODE = 'integrity_constraint_violation';
END $$;
CREATE TRIGGER audit_log_is_append_only BEFORE UPDATE OR DELETE ON corporation.audit_log
  FOR EACH ROW EXECUTE FUNCTION corporation.refuse_change_of_audit();
"""

REDIS_USERS = """
-- What the broker's users are to be; the engine's doorkeeper makes them so. Passwords are known here by their SHA-256
-- alone, which is what Redis keeps too.
CREATE TABLE corporation.redis_users (
  factory_id      text PRIMARY KEY CHECK (btrim(factory_id) <> '' AND length(factory_id) <= 200),
  user_name       text NOT NULL UNIQUE CHECK (user_name ~ '^f_[A-Za-z0-9:_-]+$'),
  password_sha256 text CHECK (password_sha256 ~ '^[0-9a-f]{64}$'),
  -- The password before it, which opens the door beside it until this moment, and until the new one has opened it too.
  previous_sha256 text CHECK (previous_sha256 ~ '^[0-9a-f]{64}$'),
  previous_until  timestamptz,
  -- False for one that somebody else makes (`corporation up`, an administrator): it is only let in and shut out here.
  made_here       boolean NOT NULL DEFAULT true,
  enabled         boolean NOT NULL DEFAULT true,                        -- false while its factory is in quarantine
  removed_at      timestamptz,                                          -- from then on the broker has no such user
  -- Connections of before the last change are to be closed: what they showed is worth nothing any more.
  cut             boolean NOT NULL DEFAULT false,
  rotation_asked_at timestamptz,
  changed_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
  applied_change  timestamptz,                                          -- the change that the broker follows
  applied_at      timestamptz,                                          -- since when
  refused_commands bigint NOT NULL DEFAULT 0 CHECK (refused_commands >= 0),
  CONSTRAINT who_makes_a_user_knows_its_password CHECK (made_here = (password_sha256 IS NOT NULL)),
  CONSTRAINT a_previous_password_ends CHECK ((previous_sha256 IS NULL) = (previous_until IS NULL)),
  CONSTRAINT an_applied_change_has_a_time CHECK ((applied_change IS NULL) = (applied_at IS NULL))
);

CREATE FUNCTION corporation.wake_the_doorkeeper() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_notify('corporation_redis_users', '');
  RETURN NULL;
END $$;
CREATE TRIGGER a_change_wakes_the_doorkeeper
  AFTER INSERT OR DELETE OR UPDATE OF password_sha256, previous_sha256, enabled, removed_at ON corporation.redis_users
  FOR EACH STATEMENT EXECUTE FUNCTION corporation.wake_the_doorkeeper();
"""


# A factory that is ended on purpose says so with its last beat.
STOPPED = """
ALTER TABLE corporation.factory_events DROP CONSTRAINT factory_events_type_check;
ALTER TABLE corporation.factory_events ADD CONSTRAINT factory_events_type_check CHECK (type IN
  ('enrolled', 'online', 'stale', 'offline', 'stopped', 'paused', 'draining', 'resumed', 'quarantined', 'released',
   'renamed', 'removed', 'split_brain', 'restart_asked'));
"""


def upgrade() -> None:
    op.execute(AUDIT)
    op.execute(REDIS_USERS)
    op.execute(STOPPED)


def downgrade() -> None:
    """The log of privileged acts is lost, no factory has a user of its own, and who took its leave is forgotten."""
    op.execute("""
        DELETE FROM corporation.factory_events WHERE type = 'stopped';
        ALTER TABLE corporation.factory_events DROP CONSTRAINT factory_events_type_check;
        ALTER TABLE corporation.factory_events ADD CONSTRAINT factory_events_type_check CHECK (type IN
          ('enrolled', 'online', 'stale', 'offline', 'paused', 'draining', 'resumed', 'quarantined', 'released',
           'renamed', 'removed', 'split_brain', 'restart_asked'));
        DROP TABLE corporation.redis_users;
        DROP FUNCTION corporation.wake_the_doorkeeper();
        DROP TABLE corporation.audit_log;
        DROP FUNCTION corporation.refuse_change_of_audit();
    """)
