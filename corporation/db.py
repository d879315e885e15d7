"""The ledger's front door: opening an engine, and bringing a database to the newest schema.

Alembic is imported where it is used: most processes never migrate, and it is a fifth of what they import for a ledger.
"""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg import errors, sql
from psycopg.abc import RV, PQGen
from psycopg.pq import TransactionStatus
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from corporation.errors import CorporationError, LedgerUnavailableError

if TYPE_CHECKING:
    from alembic.config import Config

# One number for everybody who migrates this database; it is only compared with itself.
MIGRATION_LOCK = 7_203_114_901_552

# What SQLAlchemy raises when the database is away, as opposed to when we sent it nonsense.
DATABASE_IS_AWAY = (OperationalError, InterfaceError, PoolTimeoutError)

ALIVE: dict[str, Any] = {
    "connect_timeout": 5,
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
"""How libpq notices a dead connection (seconds, the last one milliseconds): by default it would wait for hours."""

PING_SECONDS: Final = 3.0
"""How long a connection that lay in the pool has to show that its server still answers."""
GRACE_SECONDS: Final = 2.0
"""How much longer than the server we wait for the end of a statement, before we hold it for frozen."""

SCHEMAS: Final = ("corporation", "mailbox")
GRANTS: Final = (
    "GRANT USAGE ON SCHEMA {schema} TO {role}",
    # No TRUNCATE: it passes every trigger by.
    "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {role}",
    "GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA {schema} TO {role}",
    "GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA {schema} TO {role}",
    # What later migrations of the same owner make.
    "ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {role}",
    "ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT USAGE, SELECT ON SEQUENCES TO {role}",
    "ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT EXECUTE ON FUNCTIONS TO {role}",
)
"""What a role needs for all that the processes of a node do, in each of the two schemas."""

LOCKS: Final = "p.pronamespace = 'pg_catalog'::regnamespace AND p.proname ~ '^pg_(try_)?advisory_'"
"""Which rows `p` of pg_proc are the functions of advisory locks, on which one dispatcher and one migration rest."""
# Nobody but headquarters has them where a factory's role was admitted by a superuser (trust/mailbox_roles.py).
LACKING_LOCKS: Final = text(f"""
    SELECT p.oid::regprocedure::text FROM pg_proc p
     WHERE {LOCKS} AND NOT has_function_privilege(CAST(:role AS text), p.oid, 'EXECUTE')
""")  # noqa: S608
SUPERUSER: Final = text("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")


class UnknownRoleError(CorporationError):
    """A role that is to be granted the ledger does not exist; nothing was migrated, nothing granted."""

    code = "unknown_role"


class LocksReservedError(CorporationError):
    """A superuser keeps advisory locks from everybody but headquarters here, and only one can give them to more."""

    code = "locks_reserved"


class LimitedConnection(psycopg.Connection[Any]):
    """A connection that waits `limit_seconds` for an answer, and then is closed and raises OperationalError.

    The limits of the server and of TCP end nothing where its processes stand still (stopped, or starved): the machine
    goes on acknowledging what we send.
    """

    limit_seconds = PING_SECONDS

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        """As psycopg's, which everything that is asked of the server goes through."""
        try:
            return super().wait(gen, interval, self.limit_seconds if timeout is None else timeout)
        except psycopg.OperationalError as error:
            # Only when the wait was over is the server still at it.
            if error.sqlstate is None and self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                self.close()
                raise psycopg.OperationalError(f"timeout: no answer in {self.limit_seconds:g} s") from None
            raise


def open_ledger(
    url: str, pool_size: int = 5, *, check_before_use: bool = True, statement_timeout_seconds: int = 15
) -> Engine:
    """An engine on the ledger at `url` (postgresql://…); nothing connects before it is first used.

    A connection gives up connecting after 5 s, and ends a statement that runs longer than the limit, so that a sick
    database makes requests fail instead of hang; one that is frozen too. `check_before_use` costs a round trip per
    transaction, hides a database's restart from callers that do not try again by themselves, and finds a frozen one
    within three seconds.
    """
    options = f"-c statement_timeout={statement_timeout_seconds}s -c lock_timeout=10s -c timezone=UTC"
    engine = create_engine(
        sqlalchemy_url(url),
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=10,
        pool_pre_ping=check_before_use,
        pool_recycle=1800,
        connect_args={**ALIVE, "options": options, "application_name": "corporation"},
    )
    _limit_waiting(engine, statement_timeout_seconds + GRACE_SECONDS)
    return engine


def _limit_waiting(engine: Engine, seconds: float) -> None:
    """Its connections wait so long for the answer to a statement, and shorter for that to the ping of the pool."""

    @event.listens_for(engine, "do_connect")
    def connect(_dialect: Any, _record: Any, arguments: Any, options: Any) -> LimitedConnection:  # pyright: ignore[reportUnusedFunction]
        return LimitedConnection.connect(*arguments, **options)

    # The pool pings what it holds before it says that it was checked out.
    @event.listens_for(engine, "checkout")
    def begin(connection: LimitedConnection, _record: Any, _proxy: Any) -> None:  # pyright: ignore[reportUnusedFunction]
        connection.limit_seconds = seconds

    @event.listens_for(engine, "checkin")
    def end(connection: LimitedConnection | None, _record: Any) -> None:  # pyright: ignore[reportUnusedFunction]
        if connection is not None:  # one that was lost
            connection.limit_seconds = PING_SECONDS


def sqlalchemy_url(url: str) -> str:
    """`url` in the form that names the driver we use; calling it twice changes nothing."""
    return "postgresql+psycopg://" + url.partition("://")[2]


@contextmanager
def transaction(engine: Engine) -> Generator[Connection]:
    """One transaction, committed at the end of the block; an absent database is a LedgerUnavailableError."""
    try:
        with engine.begin() as connection:
            yield connection
    except DATABASE_IS_AWAY as error:
        raise LedgerUnavailableError(f"The ledger does not answer ({type(error).__name__}); try again") from error


def migrate(url: str, grant_to: Sequence[str] = ()) -> str:
    """Bring the database at `url` to the newest schema and return its revision; safe to call twice, and at once.

    Each role of `grant_to` may then use all of it, what later migrations add included, and owns none of it. Raises
    UnknownRoleError, before anything is changed, when one does not exist, and LocksReservedError when only a superuser
    could grant what one needs.
    """
    from alembic import command

    engine = create_engine(sqlalchemy_url(url), connect_args={"connect_timeout": 5})
    try:
        with engine.connect() as connection:
            connection.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": MIGRATION_LOCK})
            connection.commit()
            try:
                _refuse_unknown(connection, grant_to)
                command.upgrade(_alembic(connection), "head")
                _grant(connection, grant_to)
            finally:
                connection.rollback()
                connection.execute(text("SELECT pg_advisory_unlock(:lock)"), {"lock": MIGRATION_LOCK})
                connection.commit()
            return newest_revision()
    finally:
        engine.dispose()


def _refuse_unknown(connection: Connection, roles: Sequence[str]) -> None:
    query = text("SELECT rolname FROM pg_roles WHERE rolname = ANY(:roles)")
    known = set(connection.scalars(query, {"roles": list(roles)}))
    connection.rollback()
    if missing := [role for role in roles if role not in known]:
        create = sql.SQL("CREATE ROLE {} LOGIN PASSWORD '...'").format(sql.Identifier(missing[0])).as_string()
        raise UnknownRoleError(
            f"The database has no role {missing[0]!r}; have its administrator create it ({create}), and run this again"
        )


def _grant(connection: Connection, roles: Sequence[str]) -> None:
    """Afterwards each of `roles` has what `GRANTS` says, and may read which revision this is; safe to repeat."""
    if not roles:
        return
    _run(connection, sql.SQL("SET LOCAL lock_timeout = '2s'"))
    for role in map(sql.Identifier, roles):
        for schema in map(sql.Identifier, SCHEMAS):
            for grant in GRANTS:
                _run(connection, sql.SQL(grant).format(schema=schema, role=role))
        _run(connection, sql.SQL("GRANT SELECT ON {} TO {}").format(_version_table(connection), role))
    for role in roles:
        _grant_locks(connection, role)
    connection.commit()


def _grant_locks(connection: Connection, role: str) -> None:
    lacking = connection.scalars(LACKING_LOCKS, {"role": role}).all()
    if lacking and not connection.scalars(SUPERUSER).one():
        raise LocksReservedError(
            f"The advisory locks of this database are kept from {role!r}; have its administrator run this command once"
        )
    for function in lacking:
        grant = sql.SQL("GRANT EXECUTE ON FUNCTION {} TO {}").format(sql.SQL(function), sql.Identifier(role))
        _run(connection, grant)


def _version_table(connection: Connection) -> sql.Identifier:
    query = """
        SELECT nspname, relname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
         WHERE pg_class.oid = to_regclass('alembic_version')
    """
    schema, name = connection.execute(text(query)).one()
    return sql.Identifier(schema, name)


def _run(connection: Connection, statement: sql.Composable) -> None:
    # Without parameters a % in the name of a role is a %.
    connection.exec_driver_sql(statement.as_string(), execution_options={"no_parameters": True})


def lacks_the_right(error: BaseException) -> bool:
    """Whether the database refused a migration because this role does not own the tables."""
    return isinstance(getattr(error, "orig", None), errors.InsufficientPrivilege)


def revision(connection: Connection) -> str | None:
    """The schema revision of this database, or None when it was never migrated."""
    from alembic.runtime.migration import MigrationContext

    return MigrationContext.configure(connection, opts={"version_table_schema": None}).get_current_revision()


def newest_revision() -> str:
    """The schema revision that this code expects."""
    from alembic.script import ScriptDirectory

    head = ScriptDirectory.from_config(_alembic(None)).get_current_head()
    if head is None:
        raise RuntimeError("the package holds no migrations; install it again")
    return head


def _alembic(connection: Connection | None) -> "Config":
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    return config
