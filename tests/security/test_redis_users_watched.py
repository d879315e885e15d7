"""What Redis refuses a factory, and a queue that swells, is told to people: once, and whatever the factory sends."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
import redis
from sqlalchemy import Engine, text
from structlog.testing import capture_logs

from corporation.broker_link import open_link
from corporation.db import open_ledger, transaction
from corporation.engine.doorkeeper import Doorkeeper
from corporation.engine.doorwatch import MOST_BYTES, MOST_ENTRIES, NEWS_SECONDS, Doorwatch, news_in
from corporation.trust import redis_users
from corporation.trust.redis_acl import MOST_READ, Acl, Refused
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
        client.config_set("proto-max-bulk-len", 8 * 1024 * 1024)
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


def huge(entries: int) -> dict[Any, Any]:
    """So many values that are too large together."""
    return {str(number): "x" * (MOST_BYTES // entries) for number in range(entries)}


def test_few_entries_that_are_huge_are_told_too(ledger: Engine, keeper: Doorkeeper, factory: redis.Redis) -> None:
    factory.hset("unacked:desk-7", mapping=huge(10))
    keeper.tick()

    assert told(ledger) == [("redis_queue_swollen", "desk-7 fills Redis")]


def test_few_huge_entries_among_many_small_ones_is_told(
    ledger: Engine, keeper: Doorkeeper, factory: redis.Redis
) -> None:
    """The server's own estimate looks at five entries."""
    small = {f"small {number}": "x" for number in range(900)}
    factory.hset("unacked:desk-7", mapping=huge(10) | small)
    keeper.tick()

    assert told(ledger) == [("redis_queue_swollen", "desk-7 fills Redis")]


def test_what_a_factory_keeps_beside_its_messages_is_watched_too(
    ledger: Engine, keeper: Doorkeeper, factory: redis.Redis, admin: redis.Redis
) -> None:
    many: dict[Any, Any] = {str(number): number for number in range(MOST_ENTRIES + 1)}
    factory.zadd("unacked:desk-7_index", many)
    admin.config_set("proto-max-bulk-len", MOST_BYTES + 1)
    factory.set("unacked:desk-7_mutex", "x" * (MOST_BYTES + 1))
    keeper.tick()

    with transaction(ledger) as connection:
        about = connection.execute(text("SELECT metadata ->> 'about' FROM corporation.notifications ORDER BY 1"))
        assert list(about.scalars()) == ["unacked:desk-7_index", "unacked:desk-7_mutex"]


def test_a_name_with_characters_that_no_text_may_have_hides_nothing(
    ledger: Engine, keeper: Doorkeeper, factory: redis.Redis
) -> None:
    """PostgreSQL stores no NUL, and a terminal obeys an escape."""
    attack(factory, "GET", b"\x00\x1b[2J\r\n\xff\xe2\x80\xae")
    attack(factory, "FLUSHALL")
    keeper.tick()

    with transaction(ledger) as connection:
        [message] = connection.execute(text("SELECT message FROM corporation.notifications")).scalars()
    assert refused_commands(ledger) == 2
    assert message.isascii()
    assert message.isprintable()


def test_what_could_not_be_told_is_told_at_the_next_look_and_the_rest_at_once(
    ledger: Engine, keeper: Doorkeeper, factory: redis.Redis
) -> None:
    factory.rpush("factory.desk-7", *["x"] * (MOST_ENTRIES + 1))
    attack(factory, "FLUSHALL")
    with transaction(ledger) as connection:
        connection.execute(
            text("""
            ALTER TABLE corporation.notifications ADD CONSTRAINT broken CHECK (kind <> 'redis_command_refused')
        """)
        )
    keeper.tick()

    assert (told(ledger), refused_commands(ledger)) == ([("redis_queue_swollen", "desk-7 fills Redis")], 0)

    with transaction(ledger) as connection:
        connection.execute(text("ALTER TABLE corporation.notifications DROP CONSTRAINT broken"))
    keeper.tick()

    assert [kind for kind, _ in told(ledger)] == ["redis_queue_swollen", "redis_command_refused"]
    assert refused_commands(ledger) == 1


def test_users_are_made_so_although_nothing_can_be_told(
    ledger: Engine, keeper: Doorkeeper, factory: redis.Redis, admin: redis.Redis
) -> None:
    attack(factory, "FLUSHALL")
    with transaction(ledger) as connection:
        redis_users.issue(connection, "desk-8", "f_desk-8", PASSWORD)
        connection.execute(text("ALTER TABLE corporation.notifications RENAME TO elsewhere"))
    keeper.tick()
    with transaction(ledger) as connection:
        connection.execute(text("ALTER TABLE corporation.elsewhere RENAME TO notifications"))

    assert "f_desk-8" in admin.acl_users()


def test_huge_names_are_read_once_and_forgotten(
    ledger: Engine, keeper: Doorkeeper, factory: redis.Redis, admin: redis.Redis
) -> None:
    """The server keeps each refused name whole, and answers with all of them at every look."""
    for letter in "abc":
        attack(factory, "GET", letter * 4_000_000)
    keeper.tick()
    before: Any = admin.info("stats")
    keeper.tick()
    after: Any = admin.info("stats")

    assert after["total_net_output_bytes"] - before["total_net_output_bytes"] < 100_000
    assert ("redis_refusals_huge", "Names that Redis refused are huge") in told(ledger)
    assert refused_commands(ledger) == 3
    attack(factory, "GET", "d")
    keeper.tick()
    assert refused_commands(ledger) == 4, "what is refused afterwards is counted on"


def test_a_log_that_is_not_answered_in_time_is_emptied_and_told(
    ledger: Engine, keeper: Doorkeeper, factory: redis.Redis, admin: redis.Redis
) -> None:
    attack(factory, "GET", "d")

    def too_late() -> Any:
        raise redis.TimeoutError("Timeout reading from socket")

    keeper.acl.read_log = too_late
    keeper.tick()
    assert told(ledger) == [], "a server may be slow for a moment"
    keeper.tick()

    assert told(ledger) == [("redis_refusals_huge", "Names that Redis refused are huge")]
    assert admin.execute_command("ACL", "LOG") == []


def test_a_watch_that_fails_ends_no_turn_of_the_doorkeeper(ledger: Engine, keeper: Doorkeeper) -> None:
    def fails() -> Any:
        raise ValueError("an answer that nobody expected")

    keeper.acl.read_log = fails
    with capture_logs() as logs:
        assert keeper.tick() is False

    assert [line["event"] for line in logs] == ["doorwatch_failed"]


def test_more_than_is_read_of_what_was_refused_is_told(
    ledger: Engine, keeper: Doorkeeper, factory: redis.Redis, admin: redis.Redis
) -> None:
    """Noise that pushes out what should not be seen is seen itself."""
    attack(factory, "FLUSHALL")
    keeper.tick()
    for number in range(MOST_READ + 1):
        with pytest.raises(redis.AuthenticationError):
            admin.execute_command("AUTH", f"stranger-{number}", "x")
    keeper.tick()
    keeper.tick()

    assert [kind for kind, _ in told(ledger)] == ["redis_command_refused", "redis_refusals_missed"]


def test_a_decoy_that_is_seen_at_every_look_hides_nothing(
    ledger: Engine, keeper: Doorkeeper, factory: redis.Redis, admin: redis.Redis
) -> None:
    """What is repeated stays the newest entry and is known; what it pushes out of the server's log is not."""

    def knock(name: str) -> None:
        with pytest.raises(redis.AuthenticationError):
            admin.execute_command("AUTH", name, "x")

    knock("decoy")
    keeper.tick()
    attack(factory, "FLUSHALL")
    for number in range(MOST_READ):
        knock(f"stranger-{number}")
        if number % 5 == 0:
            knock("decoy")
    keeper.tick()

    assert [kind for kind, _ in told(ledger)] == ["redis_refusals_missed"]


def test_what_lies_deep_in_the_log_is_read_too(
    ledger: Engine, keeper: Doorkeeper, factory: redis.Redis, admin: redis.Redis
) -> None:
    attack(factory, "FLUSHALL")
    for number in range(40):
        with pytest.raises(redis.AuthenticationError):
            admin.execute_command("AUTH", f"stranger-{number}", "x")
    keeper.tick()

    assert refused_commands(ledger) == 1


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
