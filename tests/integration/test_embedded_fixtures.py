"""The fixtures that every other test stands on: fresh, apart from each other, and blind to the caller's environment."""

import os
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
import redis

from corporation.db import newest_revision, open_ledger, revision


@pytest.mark.parametrize("turn", [1, 2])
def test_each_test_gets_an_empty_redis(redis_url: str, turn: int) -> None:
    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0
        client.set("left behind", turn)


@pytest.mark.parametrize("turn", [1, 2])
def test_each_test_gets_an_empty_database(empty_database_url: str, turn: int) -> None:
    with psycopg.connect(empty_database_url) as connection:
        connection.execute("CREATE TABLE left_behind AS SELECT %s::int", [turn])
        tables = connection.execute(
            "SELECT count(*) FROM pg_tables WHERE schemaname !~ '^(pg_|information)'"
        ).fetchone()

    assert tables == (1,)


@pytest.mark.parametrize("turn", [1, 2])
def test_each_test_gets_a_migrated_database(database_url: str, turn: int) -> None:
    engine = open_ledger(database_url)
    with engine.begin() as connection:
        found = revision(connection)
        connection.exec_driver_sql(f"CREATE TABLE left_behind AS SELECT {turn}")
    engine.dispose()

    assert found == newest_revision()


def test_two_databases_of_one_test_are_apart(database_url: str, empty_database_url: str) -> None:
    assert database_url != empty_database_url


def test_no_test_sees_the_callers_configuration() -> None:
    ours = {name for name in os.environ if name.startswith("UA_") or name in ("DATABASE_URL", "FACTORY_ROLE")}

    # That one keeps them from reading a dotenv file that lies in the project.
    assert ours == {"UA_DOTENV_PATH"}
    assert os.environ["UA_DOTENV_PATH"] == os.devnull


def test_waiting_in_vain_says_for_what(wait_until: Callable[..., Any]) -> None:
    with pytest.raises(pytest.fail.Exception, match=r"not true within 0\.1 s: pigs fly"):
        wait_until(lambda: False, limit_seconds=0.1, what="pigs fly")


def test_waiting_gives_what_was_waited_for(wait_until: Callable[..., Any]) -> None:
    answers = iter([None, "", "here"])

    assert wait_until(lambda: next(answers)) == "here"
