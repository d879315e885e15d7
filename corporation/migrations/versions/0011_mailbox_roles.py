"""A factory that opens the mailbox itself has a role of its own, which sees and fills its own rows and no others."""

from alembic import op

revision = "0011"
down_revision = "0010"

# Who may delete from the mailbox is HQ: grants say who that is, and `admit` gives a factory no such right. Both
# policies are asked of everybody, so that a role which nobody admitted is neither, and sees nothing.
ROLES = """
CREATE TABLE mailbox.factory_roles (
  role_name  name PRIMARY KEY,
  factory_id text NOT NULL CHECK (btrim(factory_id) <> '' AND length(factory_id) <= 200),
  shut_out   boolean NOT NULL DEFAULT false,                            -- its factory is in quarantine
  since      timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX factory_roles_of ON mailbox.factory_roles (factory_id);

ALTER TABLE mailbox.factory_roles ENABLE ROW LEVEL SECURITY;
ALTER TABLE mailbox.factory_roles FORCE ROW LEVEL SECURITY;
CREATE POLICY hq_all ON mailbox.factory_roles
  USING ((SELECT has_table_privilege('mailbox.factory_roles', 'DELETE')));
CREATE POLICY own_row ON mailbox.factory_roles FOR SELECT USING (role_name = current_user);

ALTER TABLE mailbox.celery_taskmeta ENABLE ROW LEVEL SECURITY;
ALTER TABLE mailbox.celery_taskmeta FORCE ROW LEVEL SECURITY;
CREATE POLICY hq_all ON mailbox.celery_taskmeta
  USING ((SELECT has_table_privilege('mailbox.celery_taskmeta', 'DELETE')));
CREATE POLICY own_select ON mailbox.celery_taskmeta FOR SELECT
  USING (factory = (SELECT r.factory_id FROM mailbox.factory_roles r
                     WHERE r.role_name = current_user AND NOT r.shut_out));
CREATE POLICY own_unfinished ON mailbox.celery_taskmeta FOR UPDATE
  USING (status NOT IN ('SUCCESS', 'FAILURE', 'REVOKED')
         AND factory = (SELECT r.factory_id FROM mailbox.factory_roles r
                         WHERE r.role_name = current_user AND NOT r.shut_out))
  WITH CHECK (status IN ('STARTED', 'RETRY', 'SUCCESS', 'FAILURE')
         AND factory = (SELECT r.factory_id FROM mailbox.factory_roles r
                         WHERE r.role_name = current_user AND NOT r.shut_out));
"""

# In the transaction of the quarantine: from its commit on the factory's role sees nothing, also over connections that
# are open already. A first row that shuts nobody out (the epoch of a factory that was just removed) opens nothing.
QUARANTINE = """
CREATE FUNCTION corporation.shut_out_of_the_mailbox() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'UPDATE' OR NEW.quarantined_at IS NOT NULL THEN
    UPDATE mailbox.factory_roles SET shut_out = (NEW.quarantined_at IS NOT NULL), since = now()
     WHERE factory_id = NEW.factory_id AND shut_out <> (NEW.quarantined_at IS NOT NULL);
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER quarantine_closes_the_mailbox AFTER INSERT OR UPDATE OF quarantined_at ON corporation.factory_access
  FOR EACH ROW EXECUTE FUNCTION corporation.shut_out_of_the_mailbox();

-- A factory that was removed has no role any more, and no release gives it one: it is admitted again or not at all.
CREATE FUNCTION corporation.close_the_mailbox_to_the_removed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  DELETE FROM mailbox.factory_roles WHERE factory_id = OLD.factory_id;
  RETURN NULL;
END $$;
CREATE TRIGGER removal_closes_the_mailbox AFTER DELETE ON corporation.factories
  FOR EACH ROW EXECUTE FUNCTION corporation.close_the_mailbox_to_the_removed();
"""


def upgrade() -> None:
    op.execute(ROLES)
    op.execute(QUARANTINE)


def downgrade() -> None:
    """Whoever was granted columns of the mailbox sees the rows of all factories again."""
    op.execute("""
        DROP TRIGGER removal_closes_the_mailbox ON corporation.factories;
        DROP FUNCTION corporation.close_the_mailbox_to_the_removed();
        DROP TRIGGER quarantine_closes_the_mailbox ON corporation.factory_access;
        DROP FUNCTION corporation.shut_out_of_the_mailbox();
        DROP POLICY own_unfinished ON mailbox.celery_taskmeta;
        DROP POLICY own_select ON mailbox.celery_taskmeta;
        DROP POLICY hq_all ON mailbox.celery_taskmeta;
        ALTER TABLE mailbox.celery_taskmeta NO FORCE ROW LEVEL SECURITY;
        ALTER TABLE mailbox.celery_taskmeta DISABLE ROW LEVEL SECURITY;
        DROP TABLE mailbox.factory_roles;
    """)
