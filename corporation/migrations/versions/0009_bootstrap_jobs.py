"""Bootstrap jobs: what a mission that makes a repository from a tutorial run is besides, and the news of its end."""

from alembic import op

revision = "0009"
down_revision = "0008"

JOBS = """
CREATE TABLE corporation.bootstrap_jobs (
  mission_id       bigint PRIMARY KEY REFERENCES corporation.missions,
  run_path         text NOT NULL CHECK (length(run_path) BETWEEN 1 AND 1000),
  repo_name        text NOT NULL CHECK (length(repo_name) BETWEEN 1 AND 120),
  dispatch_backend text NOT NULL CHECK (dispatch_backend IN ('redis_stream', 'http_queue')),
  fallback_reason  text CHECK (length(fallback_reason) BETWEEN 1 AND 500),
  CONSTRAINT a_fallback_has_a_reason CHECK ((dispatch_backend = 'http_queue') = (fallback_reason IS NOT NULL))
);
CREATE INDEX bootstrap_jobs_of_run ON corporation.bootstrap_jobs (run_path, mission_id DESC);
CREATE INDEX bootstrap_jobs_by_name ON corporation.bootstrap_jobs (repo_name);

-- Whoever ends the mission (a worker over HTTPS, the collector, the rescuer, a deadline), the news comes with it.
-- It never holds up the end of a mission: what cannot be told is left out.
CREATE FUNCTION corporation.tell_of_an_ended_bootstrap_job() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  job corporation.bootstrap_jobs;
  done boolean := NEW.state = 'succeeded';
BEGIN
  SELECT * INTO job FROM corporation.bootstrap_jobs WHERE mission_id = NEW.id;
  IF FOUND THEN
    INSERT INTO corporation.notifications (kind, title, message, metadata) VALUES (
      CASE WHEN done THEN 'tutorial_repo_bootstrap_ready' ELSE 'tutorial_repo_bootstrap_failed' END,
      left(CASE WHEN done THEN 'Repository ready: ' ELSE 'Repository failed: ' END || job.repo_name, 500),
      left(CASE WHEN done THEN coalesce(NEW.result ->> 'repo_dir', '') ELSE right(NEW.error, 1200) END, 4000),
      json_build_object(
        'job_id', NEW.job_id, 'tutorial_run_path', job.run_path, 'repo_name', job.repo_name,
        'repo_dir', coalesce(NEW.result ->> 'repo_dir', ''),
        'status', CASE WHEN done THEN 'completed' ELSE 'failed' END,
        'error', coalesce(right(NEW.error, 1200), ''), 'execution_target', 'local', 'source', NEW.source));
  END IF;
  RETURN NULL;
EXCEPTION WHEN data_exception OR integrity_constraint_violation THEN
  RAISE WARNING 'the end of bootstrap job % was not told: %', NEW.job_id, SQLERRM;
  RETURN NULL;
END $$;
CREATE TRIGGER an_ended_bootstrap_job_is_told AFTER UPDATE ON corporation.missions FOR EACH ROW
  WHEN (NEW.finished_at IS NOT NULL AND OLD.finished_at IS NULL AND NEW.mission_kind = 'bootstrap_repo')
  EXECUTE FUNCTION corporation.tell_of_an_ended_bootstrap_job();
"""


def upgrade() -> None:
    op.execute(JOBS)


def downgrade() -> None:
    """The missions stay; that they were bootstrap jobs is forgotten."""
    op.execute("""
        DROP TRIGGER an_ended_bootstrap_job_is_told ON corporation.missions;
        DROP FUNCTION corporation.tell_of_an_ended_bootstrap_job();
        DROP TABLE corporation.bootstrap_jobs;
    """)
