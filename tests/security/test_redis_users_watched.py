"""What Redis refuses a factory, and a queue that swells, is told to people: once, and whatever the factory sends."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
import redis
from sqlalchemy import Engine, text

from corporation.broker_link import open_link
from corporation.db import open_ledger, transaction
from corporation.engine.doorkeeper import Doorkeeper
from corporation.engine.doorwatch import MOST_BYTES, MOST_ENTRIES, NEWS_SECONDS, Doorwatch, news_in
from corporation.trust import redis_users
from corporation.trust.redis_acl import Acl, Refused
from corporation.trust.redis_address import with_user

if TYPE_CHECKING:
    from corporation.embedded.server_process import Server

PASSWORD = f"fr_{'y' * 40}"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Server"]:
    """A Valkey of this module's own."""
    from corporation.embedded.valkey import start_valkey

    server = start_valkey(tmp_path_factory.mktemp("watched-valkey"))
    yield server
    server.stop()


@pytest.fixture
def admin(server: "Server") -> Iterator[redis.Redis]:
    with redis.Redis.from_url(server.url) as client:
        client.acl_log_reset()
        client.flushall()
        client.config_set("maxmemory", 0)
        yield client


@pytest.fixture
def ledger(database_url: str) -> Iterator[Engine]:
    engine = open_ledger(database_url, 4)
    with transaction(engine) as connection:
        redis_users.issue(connection, "desk-7", "f_desk-7", PASSWORD)
    yield engine
    engine.dispose()


@pytest.fixture
def keeper(ledger: Engine, server: "Server", admin: redis.Redis) -> Doorkeeper:
    del admin
    keeper = Doorkeeper(ledger, Acl(open_link(server.url)), Doorwatch(monotonic=iter(range(0, 10**6, 60)).__next__))
    keeper.tick()
    return keeper


@pytest.fixture
def factory(server: "Server", keeper: Doorkeeper) -> Iterator[redis.Redis]:
    """A connection of the factory's own user."""
    del keeper
    with redis.Redis.from_url(with_user(server.url, "f_desk-7", PASSWORD)) as client:
        yield client


def told(ledger: Engine) -> list[tuple[str, str]]:
    with transaction(ledger) as connection:
        rows = connection.execute(text("SELECT kind, title FROM corporation.notifications ORDER BY id"))
        return [(row.kind, row.title) for row in rows]


def refused_commands(ledger: Engine) -> int:
    with transaction(ledger) as connection:
        return int(connection.execute(text("SELECT refused_commands FROM corporation.redis_users")).scalar_one())


def attack(client: redis.Redis, *words: Any) -> None:
    with pytest.raises(redis.exceptions.NoPermissionError):
        client.execute_command(*words)


def test_a_refused_command_is_counted_and_told_once_an_hour(
    ledger: Engine, keeper: Doorkeeper, factory: redis.Redis
) -> None:
    attack(factory, "FLUSHALL")
    attack(factory, "GET", "factory.desk-8")
    keeper.tick()
    attack(factory, "GET", "factory.desk-8")
    keeper.tick()
    keeper.tick()

    assert told(ledger) == [("redis_command_refused", "Redis refused f_desk-7 a command")]
    assert refused_commands(ledger) == 3

    with transaction(ledger) as connection:
        connection.execute(text("UPDATE corporation.notifications SET at = at - interval '61 minutes'"))
    attack(factory, "SHUTDOWN")
    keeper.tick()

    assert len(told(ledger)) == 2


def test_a_factory_cannot_blind_the_watch_with_what_it_calls_itself(
    ledger: Engine, keeper: Doorkeeper, factory: redis.Redis, server: "Server"
) -> None:
    """The library's own reader of this log raises on a `=` in a client's name, and on bytes that are no text."""
    with pytest.raises(redis.AuthenticationError):
        redis.Redis.from_url(server.url).execute_command("AUTH", b"\xff\xfe=", b"\xff")
    with redis.Redis.from_url(server.url, client_name="a=b=c") as other, pytest.raises(redis.AuthenticationError):
        other.execute_command("AUTH", "f_desk-7", "wrong")
    attack(factory, "GET", b"\xff\xfe")
    keeper.tick()

    assert told(ledger) == [("redis_command_refused", "Redis refused f_desk-7 a command")]


def test_a_wrong_password_is_no_alarm(ledger: Engine, keeper: Doorkeeper, server: "Server") -> None:
    with pytest.raises(redis.AuthenticationError):
        redis.Redis.from_url(with_user(server.url, "f_desk-7", "wrong")).ping()
    keeper.tick()

    assert (told(ledger), refused_commands(ledger)) == ([], 0)


@pytest.mark.parametrize("key", ["factory.desk-7", "desk-7.control"])
def test_a_queue_that_its_factory_fills_is_told_once(
    ledger: Engine, keeper: Doorkeeper, factory: redis.Redis, key: str
) -> None:
    factory.rpush(key, *["x"] * (MOST_ENTRIES + 1))
    keeper.tick()
    keeper.tick()

    assert told(ledger) == [("redis_queue_swollen", "desk-7 fills Redis")]


def test_few_entries_that_are_huge_are_told_too(ledger: Engine, keeper: Doorkeeper, factory: redis.Redis) -> None:
    factory.hset("unacked:desk-7", "tag", "x" * (MOST_BYTES + 1))
    keeper.tick()

    assert told(ledger) == [("redis_queue_swollen", "desk-7 fills Redis")]


def test_a_redis_that_fills_up_is_told(ledger: Engine, keeper: Doorkeeper, admin: redis.Redis) -> None:
    memory: Any = admin.info("memory")
    admin.config_set("maxmemory", int(memory["used_memory"] * 1.3))
    keeper.tick()
    admin.config_set("maxmemory", 0)

    assert told(ledger) == [("redis_filling_up", "Redis is filling up")]


def refused(count: int, age_seconds: float = 1.0, key: str = "1") -> Refused:
    return Refused(key, "f_desk-7", "command", "command get", count, age_seconds)


def test_what_was_seen_is_no_news_and_what_is_old_is_somebody_elses() -> None:
    assert news_in([refused(3)], {}) == [(refused(3), 3)]
    assert news_in([refused(3)], {"1": 3}) == []
    assert news_in([refused(5)], {"1": 3}) == [(refused(5), 2)]
    assert news_in([refused(1)], {"1": 3}) == [], "the log was emptied: what it says now was counted then"
    assert news_in([refused(3, NEWS_SECONDS + 1)], {}) == []
    assert news_in([refused(2, 9.0), refused(1, 5.0)], {}) == [(refused(1, 5.0), 3)], "an older Redis has no ids"
