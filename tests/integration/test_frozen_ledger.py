"""A database that stands still is noticed in seconds, by who asks it and by who asked it already."""

from collections.abc import Iterator
from threading import Timer

import pytest
from frozen_server import frozen
from sqlalchemy import Engine, text

from corporation import clock, db
from corporation.db import PING_SECONDS, transaction
from corporation.embedded.server_process import Server
from corporation.errors import LedgerUnavailableError

ONE = text("SELECT 1")


@pytest.fixture
def ledger(empty_database_url: str) -> Iterator[Engine]:
    engine = db.open_ledger(empty_database_url, pool_size=1, statement_timeout_seconds=1)
    with transaction(engine) as connection:
        connection.execute(ONE)
    yield engine
    engine.dispose()


def test_a_connection_of_the_pool_shows_within_ten_seconds_that_its_server_is_frozen(
    ledger: Engine, postgres: Server
) -> None:
    began = clock.monotonic()
    with (
        frozen(postgres.pid),
        pytest.raises(LedgerUnavailableError, match="OperationalError"),
        transaction(ledger) as connection,
    ):
        connection.execute(ONE)

    # A ping, and then the five seconds in which a new connection is looked for.
    assert PING_SECONDS <= clock.monotonic() - began < 10
    with transaction(ledger) as connection:
        assert connection.execute(ONE).scalar_one() == 1


def test_a_statement_that_is_underway_when_its_server_freezes_is_given_up(ledger: Engine, postgres: Server) -> None:
    began = clock.monotonic()
    with (
        pytest.raises(LedgerUnavailableError),
        transaction(ledger) as connection,
        frozen(postgres.pid),
    ):
        connection.execute(ONE)

    assert clock.monotonic() - began < 10
    with transaction(ledger) as connection:
        assert connection.execute(ONE).scalar_one() == 1


def test_the_servers_own_limit_comes_first_and_costs_no_connection(ledger: Engine) -> None:
    with transaction(ledger) as connection:
        before = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
    with pytest.raises(LedgerUnavailableError, match="OperationalError"), transaction(ledger) as connection:
        connection.execute(text("SELECT pg_sleep(30)"))
    with transaction(ledger) as connection:
        assert connection.execute(text("SELECT pg_backend_pid()")).scalar_one() == before


def test_a_server_that_freezes_for_a_moment_costs_nothing(ledger: Engine, postgres: Server) -> None:
    with frozen(postgres.pid) as resume:
        timer = Timer(0.5, resume)
        timer.start()
        with transaction(ledger) as connection:
            assert connection.execute(ONE).scalar_one() == 1
        timer.join()
