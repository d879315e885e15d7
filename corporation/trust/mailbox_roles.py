"""Roles of PostgreSQL for factories that open the mailbox themselves: HQ's own workers and those of its trust zone.

A factory that joined with a code needs none: it reports over HTTPS. What such a role may do is said by the grants here
and by the policies of migration 0011: read the rows of its factory, fill the unfinished ones, and nothing else.
"""

from typing import Final, LiteralString

from psycopg import errors, sql
from sqlalchemy import Connection, text
from sqlalchemy.exc import ProgrammingError

from corporation.db import LOCKS, SUPERUSER
from corporation.errors import CorporationError

READ_COLUMNS: Final = (
    *("id", "task_id", "status", "result", "date_done", "traceback", "children", "name", "args", "kwargs", "worker"),
    *("retries", "queue", "stamps"),
)
FILLED_COLUMNS: Final = tuple(name for name in READ_COLUMNS if name not in ("id", "task_id"))
RIGHTS: Final[tuple[tuple[LiteralString, tuple[str, ...]], ...]] = (
    ("SELECT", READ_COLUMNS),
    ("UPDATE", FILLED_COLUMNS),
)
CONNECTIONS: Final = 6
"""A worker's process and its children have one each, and the control worker another; a seventh is refused."""
BESIDE_THE_SLOTS: Final = 4
"""Connections of a factory's processes that run no missions; one with more than two slots gets more than six."""
LIMITS: Final = (
    ("statement_timeout", "15s"),
    ("lock_timeout", "10s"),
    ("idle_in_transaction_session_timeout", "10s"),
    ("search_path", "mailbox"),
)

# Membership counts whether or not it is inherited: a member may become the other role with one statement. The roles of
# PostgreSQL's own (pg_read_all_data, pg_signal_backend, …) reach over every table or server. Whoever may delete rows of
# the mailbox is HQ (migration 0011).
TOO_STRONG = text("""
    SELECT ARRAY(
      SELECT DISTINCT why FROM pg_roles r CROSS JOIN LATERAL (VALUES
        (r.rolsuper, '1 it is a superuser'),
        (r.rolbypassrls, '2 it passes row level security by'),
        (r.rolcreaterole OR r.rolreplication, '3 it may make roles or replicate'),
        (has_table_privilege(r.oid, 'mailbox.celery_taskmeta', 'DELETE')
         OR has_schema_privilege(r.oid, 'corporation', 'USAGE'), '4 it has rights of headquarters'),
        (r.rolname ~ '^pg_', '5 it is a member of one of the server''s own roles'),
        (has_database_privilege(r.oid, current_database(), 'CREATE')
         OR EXISTS (SELECT FROM pg_namespace n WHERE has_schema_privilege(r.oid, n.oid, 'CREATE')),
         '6 it may create things here (REVOKE CREATE ON SCHEMA public FROM PUBLIC)')
      ) AS reason(applies, why)
       WHERE applies AND pg_has_role(named.rolname, r.oid, 'MEMBER') ORDER BY why)
      FROM pg_roles named WHERE named.rolname = :role
""")
NOTE = text("""
    INSERT INTO mailbox.factory_roles (role_name, factory_id, shut_out)
    VALUES (:role, :factory_id, EXISTS (SELECT FROM corporation.factory_access
                                         WHERE factory_id = :factory_id AND quarantined_at IS NOT NULL))
    ON CONFLICT (role_name) DO UPDATE SET factory_id = excluded.factory_id, shut_out = excluded.shut_out, since = now()
""")
FORGET = text("DELETE FROM mailbox.factory_roles WHERE role_name = :role")
SLOTS = text("SELECT coalesce(max(slots), 0) FROM corporation.factories WHERE factory_id = :factory_id")
OWNED = text("""
    SELECT pg_has_role(current_user, datdba, 'USAGE') FROM pg_database WHERE datname = current_database()
""")
# Everybody has them, in a database where nobody thought of it, and only a superuser can take them away: a lock that a
# factory held would stop HQ's dispatcher, and large objects fill the disk.
RESERVE_FUNCTIONS = text(f"""
    SELECT 'REVOKE EXECUTE ON FUNCTION ' || p.oid::regprocedure || ' FROM PUBLIC' FROM pg_proc p
     WHERE ({LOCKS} OR p.pronamespace = 'pg_catalog'::regnamespace AND p.proname ~ '^(lo_|loread$|lowrite$)')
       AND has_function_privilege('public', p.oid, 'EXECUTE')
    UNION ALL
    SELECT 'GRANT EXECUTE ON FUNCTION ' || p.oid::regprocedure || ' TO ' || of_hq.name FROM pg_proc p,
           (SELECT quote_ident(rolname) FROM pg_roles
             WHERE oid IN (SELECT datdba FROM pg_database WHERE datname = current_database()
                           UNION SELECT nspowner FROM pg_namespace WHERE nspname = 'corporation')
             UNION
            SELECT quote_ident(rolname) FROM pg_namespace n, aclexplode(n.nspacl) a JOIN pg_roles r ON r.oid = a.grantee
             WHERE nspname = 'corporation' AND a.privilege_type = 'USAGE') AS of_hq(name)
     WHERE {LOCKS}
""")  # noqa: S608
TEMPORARY_FILES: Final = "256MB"


class UnusableRoleError(CorporationError):
    """The role does not exist, or may do more than a factory's may; nothing was granted."""

    code = "unusable_role"


def admit(connection: Connection, role_name: str, factory_id: str, slots: int = 0) -> bool:
    """`role_name` may read and fill the mailbox rows of `factory_id`, and nothing else of what we have.

    For the owner of the tables, in a transaction of its own. Safe to call twice: what else it had here is taken from
    it, and another factory id moves it. How many connections it may have follows from `slots`, or from what HQ heard of
    the factory. False when the owner may not set limits (connections, time) for another role: then they stay what they
    are; only a superuser can also keep advisory locks and large objects from the role, and does. Raises
    UnusableRoleError.
    """
    role = sql.Identifier(role_name)
    _refuse_unusable(connection, role_name, role)
    _take_all(connection, role)
    _run(connection, sql.SQL("GRANT USAGE ON SCHEMA mailbox TO {}").format(role))
    for right, columns in RIGHTS:
        named = sql.SQL(", ").join(map(sql.Identifier, columns))
        grant = sql.SQL("GRANT {} ({}) ON mailbox.celery_taskmeta TO {}")
        _run(connection, grant.format(sql.SQL(right), named, role))
    _run(connection, sql.SQL("GRANT SELECT ON mailbox.factory_roles TO {}").format(role))
    connection.execute(NOTE, {"role": role_name, "factory_id": factory_id})
    _take_temporary_tables(connection)
    if connection.execute(SUPERUSER).scalar_one():
        _reserve(connection, role)
    slots = max(slots, int(connection.execute(SLOTS, {"factory_id": factory_id}).scalar_one()))
    return _limit(connection, role, max(CONNECTIONS, slots + BESIDE_THE_SLOTS))


def dismiss(connection: Connection, role_name: str) -> None:
    """`role_name` sees nothing of the mailbox any more; the role itself stays. Safe to call twice."""
    connection.execute(FORGET, {"role": role_name})
    role = sql.Identifier(role_name)
    _take_all(connection, role)
    _run(connection, sql.SQL("REVOKE USAGE ON SCHEMA mailbox FROM {}").format(role))


def _refuse_unusable(connection: Connection, role_name: str, role: sql.Identifier) -> None:
    reasons = connection.execute(TOO_STRONG, {"role": role_name}).scalar()
    if reasons is None:
        create = sql.SQL("CREATE ROLE {} LOGIN PASSWORD '...'").format(role).as_string()
        raise UnusableRoleError(f"The database has no role {role_name!r}; have its administrator create it ({create})")
    if reasons:
        # The digit before each is its rank: of a superuser everything else is true as well.
        raise UnusableRoleError(
            f"The role {role_name!r} may do more than a factory's role may: {reasons[0][2:]}; "
            "change that, or create another one for the factory"
        )


def _take_all(connection: Connection, role: sql.Identifier) -> None:
    """No right on a table of the mailbox is left, those on single columns included."""
    _run(connection, sql.SQL("REVOKE ALL ON ALL TABLES IN SCHEMA mailbox FROM {}").format(role))
    _run(connection, sql.SQL("REVOKE ALL ON ALL SEQUENCES IN SCHEMA mailbox FROM {}").format(role))


def _take_temporary_tables(connection: Connection) -> None:
    """Nobody makes temporary tables here; none of our processes does."""
    if connection.execute(OWNED).scalar_one():
        database = sql.Identifier(str(connection.execute(text("SELECT current_database()")).scalar_one()))
        _run(connection, sql.SQL("REVOKE TEMPORARY ON DATABASE {} FROM PUBLIC").format(database))


def _reserve(connection: Connection, role: sql.Identifier) -> None:
    """Advisory locks are headquarters' alone, large objects nobody's, and the role fills no disk by sorting."""
    for statement in connection.scalars(RESERVE_FUNCTIONS).all():
        _run(connection, sql.SQL(statement))
    limit = sql.Literal(TEMPORARY_FILES)
    _run(connection, sql.SQL("ALTER ROLE {} SET temp_file_limit = {}").format(role, limit))


def _limit(connection: Connection, role: sql.Identifier, connections: int) -> bool:
    try:
        with connection.begin_nested():
            _run(connection, sql.SQL("ALTER ROLE {} CONNECTION LIMIT {}").format(role, sql.Literal(connections)))
            for name, value in LIMITS:
                setting = sql.SQL("ALTER ROLE {} SET {} = {}").format(role, sql.Identifier(name), sql.Literal(value))
                _run(connection, setting)
    except ProgrammingError as error:
        if not isinstance(error.orig, errors.InsufficientPrivilege):
            raise
        return False
    return True


def _run(connection: Connection, statement: sql.Composable) -> None:
    # Without parameters a % in the name of a role is a %.
    connection.exec_driver_sql(statement.as_string(), execution_options={"no_parameters": True})
