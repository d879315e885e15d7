"""Roles of PostgreSQL for factories that open the mailbox themselves: HQ's own workers and those of its trust zone.

A factory that joined with a code needs none: it reports over HTTPS. What such a role may do is said by the grants here
and by the policies of migration 0011: read the rows of its factory, fill the unfinished ones, and nothing else.
"""

from typing import Final, LiteralString

from psycopg import errors, sql
from sqlalchemy import Connection, text
from sqlalchemy.exc import ProgrammingError

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
"""A worker's process and its children have one each; a factory that needs more is given more by hand."""
LIMITS: Final = (
    ("statement_timeout", "15s"),
    ("lock_timeout", "10s"),
    ("idle_in_transaction_session_timeout", "10s"),
    ("search_path", "mailbox"),
)

# Whoever may delete rows, or passes row security by, is HQ or more (migration 0011).
TOO_STRONG = text("""
    SELECT rolsuper OR rolbypassrls OR has_table_privilege(rolname, 'mailbox.celery_taskmeta', 'DELETE')
           OR has_schema_privilege(rolname, 'corporation', 'USAGE')
      FROM pg_roles WHERE rolname = :role
""")
NOTE = text("""
    INSERT INTO mailbox.factory_roles (role_name, factory_id, shut_out)
    VALUES (:role, :factory_id, EXISTS (SELECT FROM corporation.factory_access
                                         WHERE factory_id = :factory_id AND quarantined_at IS NOT NULL))
    ON CONFLICT (role_name) DO UPDATE SET factory_id = excluded.factory_id, shut_out = excluded.shut_out, since = now()
""")
FORGET = text("DELETE FROM mailbox.factory_roles WHERE role_name = :role")
OWNED = text("""
    SELECT pg_has_role(current_user, datdba, 'USAGE') FROM pg_database WHERE datname = current_database()
""")


class UnusableRoleError(CorporationError):
    """The role does not exist, or may do more than a factory's may; nothing was granted."""

    code = "unusable_role"


def admit(connection: Connection, role_name: str, factory_id: str) -> bool:
    """`role_name` may read and fill the mailbox rows of `factory_id`, and nothing else of what we have.

    For the owner of the tables, in a transaction of its own. Safe to call twice; another factory id moves the role.
    False when this role may not set limits (connections, time) for another one: then they stay what they are. Raises
    UnusableRoleError.
    """
    too_strong = connection.execute(TOO_STRONG, {"role": role_name}).scalar()
    role = sql.Identifier(role_name)
    if too_strong is None:
        create = sql.SQL("CREATE ROLE {} LOGIN PASSWORD '...'").format(role).as_string()
        raise UnusableRoleError(f"The database has no role {role_name!r}; have its administrator create it ({create})")
    if too_strong:
        raise UnusableRoleError(
            f"The role {role_name!r} may do more than a factory's role may (it is a superuser, or has rights of HQ's); "
            "create another one for the factory"
        )
    _run(connection, sql.SQL("GRANT USAGE ON SCHEMA mailbox TO {}").format(role))
    for right, columns in RIGHTS:
        named = sql.SQL(", ").join(map(sql.Identifier, columns))
        grant = sql.SQL("GRANT {} ({}) ON mailbox.celery_taskmeta TO {}")
        _run(connection, grant.format(sql.SQL(right), named, role))
    _run(connection, sql.SQL("GRANT SELECT ON mailbox.factory_roles TO {}").format(role))
    connection.execute(NOTE, {"role": role_name, "factory_id": factory_id})
    _take_temporary_tables(connection)
    return _limit(connection, role)


def dismiss(connection: Connection, role_name: str) -> None:
    """`role_name` sees nothing of the mailbox any more; the role itself stays. Safe to call twice."""
    connection.execute(FORGET, {"role": role_name})
    role = sql.Identifier(role_name)
    _run(connection, sql.SQL("REVOKE ALL ON ALL TABLES IN SCHEMA mailbox FROM {}").format(role))
    for right, columns in RIGHTS:
        named = sql.SQL(", ").join(map(sql.Identifier, columns))
        revoke = sql.SQL("REVOKE {} ({}) ON mailbox.celery_taskmeta FROM {}")
        _run(connection, revoke.format(sql.SQL(right), named, role))
    _run(connection, sql.SQL("REVOKE USAGE ON SCHEMA mailbox FROM {}").format(role))


def _take_temporary_tables(connection: Connection) -> None:
    """Nobody makes temporary tables here; none of our processes does."""
    if connection.execute(OWNED).scalar_one():
        database = sql.Identifier(str(connection.execute(text("SELECT current_database()")).scalar_one()))
        _run(connection, sql.SQL("REVOKE TEMPORARY ON DATABASE {} FROM PUBLIC").format(database))


def _limit(connection: Connection, role: sql.Identifier) -> bool:
    try:
        with connection.begin_nested():
            _run(connection, sql.SQL("ALTER ROLE {} CONNECTION LIMIT {}").format(role, sql.Literal(CONNECTIONS)))
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
