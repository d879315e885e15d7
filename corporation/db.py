"""The ledger's front door: opening an engine, and bringing a database to the newest schema."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from corporation.errors import LedgerUnavailableError

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


def open_ledger(
    url: str, pool_size: int = 5, *, check_before_use: bool = True, statement_timeout_seconds: int = 15
) -> Engine:
    """An engine on the ledger at `url` (postgresql://…); nothing connects before it is first used.

    A connection gives up connecting after 5 s, and ends a statement that runs longer than the limit, so that a sick
    database makes requests fail instead of hang. `check_before_use` costs a round trip per transaction and hides a
    database's restart from callers that do not try again by themselves.
    """
    options = f"-c statement_timeout={statement_timeout_seconds}s -c lock_timeout=10s -c timezone=UTC"
    return create_engine(
        sqlalchemy_url(url),
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=10,
        pool_pre_ping=check_before_use,
        pool_recycle=1800,
        connect_args={**ALIVE, "options": options, "application_name": "corporation"},
    )


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


def migrate(url: str) -> str:
    """Bring the database at `url` to the newest schema and return its revision; safe to call twice, and at once."""
    engine = create_engine(sqlalchemy_url(url), connect_args={"connect_timeout": 5})
    try:
        with engine.connect() as connection:
            connection.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": MIGRATION_LOCK})
            connection.commit()
            try:
                command.upgrade(_alembic(connection), "head")
            finally:
                connection.rollback()
                connection.execute(text("SELECT pg_advisory_unlock(:lock)"), {"lock": MIGRATION_LOCK})
                connection.commit()
            return newest_revision()
    finally:
        engine.dispose()


def revision(connection: Connection) -> str | None:
    """The schema revision of this database, or None when it was never migrated."""
    return MigrationContext.configure(connection, opts={"version_table_schema": None}).get_current_revision()


def newest_revision() -> str:
    """The schema revision that this code expects."""
    head = ScriptDirectory.from_config(_alembic(None)).get_current_head()
    if head is None:
        raise RuntimeError("the package holds no migrations; install it again")
    return head


def _alembic(connection: Connection | None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    return config
