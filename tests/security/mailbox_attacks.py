"""What a stolen factory's role of PostgreSQL may try against the mailbox, the ledger and the server.

Before factories had roles, one with a way to the mailbox logged in as HQ's own role; `before` is what that is answered.
"""

from dataclasses import dataclass
from typing import Final, LiteralString

import psycopg
from psycopg import errors

DENIED: Final = errors.InsufficientPrivilege
CHECKED: Final = errors.CheckViolation
NOTHING: Final = 0
"""The statement is allowed, and neither shows nor changes a row."""
ONE: Final = 1
"""It shows or changes one row: the factory's own."""

Answer = type[psycopg.Error] | int


@dataclass(frozen=True)
class Attack:
    """A statement; `{own}`, `{done}` and `{others}` are ids: an unfinished and a finished row of its own, another's."""

    name: str
    statement: LiteralString
    before: Answer
    now: Answer = DENIED

    def __str__(self) -> str:
        return self.name.replace(" ", "-")


ATTACKS: Final = (
    # Other factories' rows. There are two of its own and two of another's.
    Attack("read another's result", "SELECT task_id, result FROM {table} WHERE task_id = {others_done}", ONE, NOTHING),
    Attack("list all attempts", "SELECT task_id FROM {table}", 4, 2),
    Attack("count all attempts", "SELECT 1 FROM {table} HAVING count(*) > 2", ONE, NOTHING),
    Attack("see whose rows there are", "SELECT factory FROM {table}", 4),
    Attack("see what HQ collected", "SELECT collected_at FROM {table}", 4),
    Attack("select every column", "SELECT * FROM {table}", 4),
    Attack("copy the table out", "COPY {table} TO STDOUT", 4),
    Attack(
        "make an error quote another's result",  # row level security comes before what may tell
        "SELECT 1 FROM {table} WHERE convert_from(result, 'UTF8')::integer = 1 AND task_id <> {done}",
        errors.InvalidTextRepresentation,
        NOTHING,
    ),
    Attack(
        "read the statistics of results", "SELECT 1 FROM pg_stats WHERE tablename = 'celery_taskmeta'", NOTHING, NOTHING
    ),
    Attack("lock another's row", "SELECT task_id FROM {table} WHERE task_id = {others} FOR UPDATE", ONE, NOTHING),
    Attack(
        "forge another's result",
        "UPDATE {table} SET status = 'SUCCESS', result = '1' WHERE task_id = {others}",
        ONE,
        NOTHING,
    ),
    Attack(
        "rewrite another's result",
        "UPDATE {table} SET status = 'FAILURE' WHERE task_id = {others_done}",
        ONE,
        NOTHING,
    ),
    Attack("end everybody's attempts", "UPDATE {table} SET status = 'FAILURE'", 4, ONE),
    # Its own rows.
    Attack("rewrite its own success", "UPDATE {table} SET status = 'FAILURE' WHERE task_id = {done}", ONE, NOTHING),
    Attack("take its own success back", "UPDATE {table} SET status = 'STARTED' WHERE task_id = {done}", ONE, NOTHING),
    Attack("lock what HQ will collect", "SELECT task_id FROM {table} WHERE task_id = {done} FOR UPDATE", ONE, NOTHING),
    Attack("say that it was revoked", "UPDATE {table} SET status = 'REVOKED' WHERE task_id = {own}", ONE),
    Attack("say that it never began", "UPDATE {table} SET status = 'PENDING' WHERE task_id = {own}", ONE),
    Attack("a word that is no status", "UPDATE {table} SET status = 'DONE' WHERE task_id = {own}", CHECKED),
    Attack("give a row away", "UPDATE {table} SET factory = 'desk-8' WHERE task_id = {own}", ONE),
    Attack("make a row answer for another attempt", "UPDATE {table} SET task_id = 'x' WHERE task_id = {own}", ONE),
    Attack("change the order of collection", "UPDATE {table} SET id = DEFAULT WHERE task_id = {own}", ONE),
    Attack("mark as collected", "UPDATE {table} SET collected_at = now() WHERE task_id = {own}", ONE),
    Attack(
        "store a pickle",  # of protocol 2 and later, which Celery's own backend would load
        "UPDATE {table} SET status = 'SUCCESS', result = '\\x8004' WHERE task_id = {own}",
        CHECKED,
        CHECKED,
    ),
    Attack(
        "store two megabytes",
        "UPDATE {table} SET status = 'SUCCESS', result = convert_to(repeat('x', 2097152), 'UTF8')"
        " WHERE task_id = {own}",
        CHECKED,
        CHECKED,
    ),
    Attack(
        "store an endless traceback",
        "UPDATE {table} SET status = 'FAILURE', traceback = repeat('x', 65537) WHERE task_id = {own}",
        CHECKED,
        CHECKED,
    ),
    Attack(
        "store children",  # Celery would follow them
        "UPDATE {table} SET status = 'SUCCESS', children = '[]' WHERE task_id = {own}",
        CHECKED,
        CHECKED,
    ),
    # Rows that HQ did not make, and the end of rows.
    Attack("insert a result", "INSERT INTO {table} (task_id, factory, status) VALUES ('x', 'desk-7', 'SUCCESS')", ONE),
    Attack(
        "insert over another's row",
        "INSERT INTO {table} (task_id, factory) VALUES ({others}, 'desk-7')"
        " ON CONFLICT (task_id) DO UPDATE SET status = 'FAILURE'",
        ONE,
    ),
    Attack(
        "merge into another's row",
        "MERGE INTO {table} t USING (SELECT 1) s ON t.task_id = {others} WHEN MATCHED THEN DELETE",
        ONE,
    ),
    Attack("copy rows in", "COPY {table} (task_id, factory) FROM STDIN", errors.FeatureNotSupported),
    Attack("delete its own row", "DELETE FROM {table} WHERE task_id = {own}", ONE),
    Attack("truncate", "TRUNCATE {table}", DENIED),
    Attack("lock the table", "LOCK TABLE {table} IN ROW EXCLUSIVE MODE", NOTHING),
    Attack("use up the sequence", "SELECT nextval('mailbox.celery_taskmeta_id_seq')", ONE),
    Attack("turn the sequence back", "SELECT setval('mailbox.celery_taskmeta_id_seq', 1)", DENIED),
    # Who is which factory.
    Attack("see the other roles", "SELECT role_name FROM mailbox.factory_roles", 2, ONE),
    Attack("become another factory", "UPDATE mailbox.factory_roles SET factory_id = 'desk-8'", 2),
    Attack("let itself in again", "UPDATE mailbox.factory_roles SET shut_out = false", 2),
    Attack("register itself twice", "INSERT INTO mailbox.factory_roles VALUES ('x', 'desk-8')", ONE),
    Attack("end the registration", "DELETE FROM mailbox.factory_roles", 2),
    # The schema.
    Attack("make a temporary table", "CREATE TEMPORARY TABLE t (x integer)", DENIED),
    Attack("make a table", "CREATE TABLE mailbox.t (x integer)", DENIED),
    Attack("make a table elsewhere", "CREATE TABLE public.t (x integer)", DENIED),
    Attack("make a schema", "CREATE SCHEMA s", DENIED),
    Attack("make a function", "CREATE FUNCTION mailbox.f() RETURNS integer LANGUAGE sql AS 'SELECT 1'", DENIED),
    Attack(
        "make a trigger",
        "CREATE TRIGGER t AFTER UPDATE ON {table} EXECUTE FUNCTION mailbox.wake_the_collector()",
        DENIED,
    ),
    Attack("load an extension", "CREATE EXTENSION dblink", DENIED),
    Attack("switch row security off", "ALTER TABLE {table} DISABLE ROW LEVEL SECURITY", DENIED),
    Attack("switch triggers off", "ALTER TABLE {table} DISABLE TRIGGER ALL", DENIED),
    Attack("drop a policy", "DROP POLICY own_select ON {table}", DENIED),
    Attack("drop the table", "DROP TABLE {table}", DENIED),
    Attack("grant itself more", "GRANT ALL ON {table} TO {me}", NOTHING),
    Attack("publish the table", "CREATE PUBLICATION p FOR TABLE {table}", DENIED),
    # HQ's own schema.
    Attack("read missions", "SELECT 1 FROM corporation.missions", NOTHING),
    Attack("read credentials", "SELECT 1 FROM corporation.factory_credentials", NOTHING),
    Attack("read the users of the broker", "SELECT 1 FROM corporation.redis_users", NOTHING),
    Attack("end its own quarantine", "UPDATE corporation.factory_access SET quarantined_at = NULL", NOTHING),
    Attack(
        "write an order into the outbox",
        "INSERT INTO corporation.outbox (topic, factory_id) VALUES ('echo', 'x')",
        ONE,
    ),
    Attack("look into the audit log", "SELECT 1 FROM corporation.audit_log", NOTHING),
    # Somebody else.
    Attack("become HQ", "SET ROLE {hq}", NOTHING),
    Attack("become the owner", "SET ROLE {owner}", DENIED),
    Attack("become another session", "SET SESSION AUTHORIZATION {owner}", DENIED),
    Attack("become a superuser", "ALTER ROLE {me} SUPERUSER", DENIED),
    Attack("pass row security by", "ALTER ROLE {me} BYPASSRLS", DENIED),
    Attack("raise its number of connections", "ALTER ROLE {me} CONNECTION LIMIT 100", DENIED),
    Attack("make a role", "CREATE ROLE another_one", DENIED),
    Attack("join HQ", "GRANT {hq} TO {me}", DENIED),
    # The server.
    Attack("run a program", "COPY (SELECT 1) TO PROGRAM 'true'", DENIED),
    Attack("read a file", "SELECT pg_read_file('PG_VERSION')", DENIED),
    Attack("list a folder", "SELECT pg_ls_dir('.')", DENIED),
    Attack("write a file", "COPY (SELECT 1) TO '/tmp/never'", DENIED),
    Attack("import a file", "SELECT lo_import('PG_VERSION')", DENIED),
    Attack("read password hashes", "SELECT 1 FROM pg_authid", DENIED),
    Attack("end HQ's connection", "SELECT pg_terminate_backend({hq_pid})", ONE),
    Attack("cancel what HQ does", "SELECT pg_cancel_backend({hq_pid})", ONE),
    Attack(
        "watch what HQ asks",
        "SELECT 1 FROM pg_stat_activity WHERE pid = {hq_pid} AND query <> '<insufficient privilege>'",
        ONE,
        NOTHING,
    ),
    Attack("have no trigger fire", "SET session_replication_role = replica", DENIED),
    Attack("raise its temporary files", "SET temp_file_limit = -1", DENIED),
)
