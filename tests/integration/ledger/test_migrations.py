"""A database comes to the newest schema once, however often and by how many it is brought there."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import psycopg
import pytest
from alembic import command
from sqlalchemy import create_engine, inspect

from corporation import db
from corporation.errors import LedgerUnavailableError

TABLES = {
    "attempts",
    "factories",
    "mission_aliases",
    "mission_events",
    "mission_log",
    "missions",
    "outbox",
    "queue_rebuilds",
}


def tables(url: str, schema: str) -> set[str]:
    engine = create_engine(db.sqlalchemy_url(url))
    try:
        return set(inspect(engine).get_table_names(schema=schema))
    finally:
        engine.dispose()


def stored_revision(url: str) -> str | None:
    engine = db.open_ledger(url)
    try:
        with engine.connect() as connection:
            return db.revision(connection)
    finally:
        engine.dispose()


def test_an_empty_database_gets_every_table(empty_database_url: str) -> None:
    assert stored_revision(empty_database_url) is None
    assert db.migrate(empty_database_url) == db.newest_revision() == stored_revision(empty_database_url)
    assert tables(empty_database_url, "corporation") >= TABLES
    assert tables(empty_database_url, "mailbox") == {"celery_taskmeta", "factory_roles"}


def test_migrating_again_changes_nothing_and_keeps_what_is_stored(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute("INSERT INTO corporation.factories (factory_id, source) VALUES ('desk-7', 'enrolment')")
    db.migrate(database_url)

    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT factory_id FROM corporation.factories").fetchall() == [("desk-7",)]


def test_many_who_migrate_at_once_all_succeed(empty_database_url: str) -> None:
    together = Barrier(5)

    def migrate(_: int) -> str:
        together.wait(10)
        return db.migrate(empty_database_url)

    with ThreadPoolExecutor(5) as pool:
        assert set(pool.map(migrate, range(5))) == {db.newest_revision()}


def test_the_way_back_removes_everything_and_the_way_forth_brings_it_again(database_url: str) -> None:
    engine = create_engine(db.sqlalchemy_url(database_url))
    with engine.connect() as connection:
        command.downgrade(db._alembic(connection), "base")  # pyright: ignore[reportPrivateUsage]
    engine.dispose()

    assert tables(database_url, "corporation") == tables(database_url, "mailbox") == set()
    db.migrate(database_url)
    assert tables(database_url, "corporation") >= TABLES


def test_a_migration_that_fails_lets_the_next_one_in(database_url: str, empty_database_url: str) -> None:
    with psycopg.connect(empty_database_url) as connection:
        connection.execute("CREATE SCHEMA mailbox")  # stands in the way

    with pytest.raises(Exception, match="already exists"):
        db.migrate(empty_database_url)
    assert tables(empty_database_url, "corporation") == set()

    with psycopg.connect(empty_database_url) as connection:
        connection.execute("DROP SCHEMA mailbox")
    assert db.migrate(empty_database_url) == db.newest_revision()


def test_a_ledger_that_is_not_there_is_said_to_be_unavailable() -> None:
    engine = db.open_ledger("postgresql://nobody:hush@127.0.0.1:1/nowhere")

    with pytest.raises(LedgerUnavailableError) as caught, db.transaction(engine):
        pass
    assert "hush" not in str(caught.value)


def test_a_statement_that_runs_too_long_is_ended(database_url: str) -> None:
    engine = db.open_ledger(database_url, statement_timeout_seconds=1)

    with pytest.raises(LedgerUnavailableError), db.transaction(engine) as connection:
        connection.exec_driver_sql("SELECT pg_sleep(30)")
    engine.dispose()


def test_an_error_in_a_transaction_takes_back_all_of_it(database_url: str) -> None:
    engine = db.open_ledger(database_url)

    def write_and_fail() -> None:
        with db.transaction(engine) as connection:
            connection.exec_driver_sql(
                "INSERT INTO corporation.factories (factory_id, source) VALUES ('a', 'enrolment')"
            )
            raise KeyError

    with pytest.raises(KeyError):
        write_and_fail()
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT 1 FROM corporation.factories").first() is None
    engine.dispose()
