"""A factory's password lies in a file that may change: each new connection is made with what stands there."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import redis
from kombu import Connection
from kombu.exceptions import OperationalError
from redis.exceptions import AuthenticationError
from redis_servers import PASSWORD, make_user

import celeryconfig
from corporation.broker_link import PasswordFileError, open_link, open_own_link, user_in, why_not_connected
from corporation.settings import Settings, load_settings
from corporation.trust.redis_address import with_user
from corporation.trust.redis_profiles import factory_rules, user_of
from factory_tasks import gated_transport

USER = user_of("desk-7")


@dataclass
class Desk:
    """A factory's user, and what its processes are told of it."""

    admin: "redis.Redis"
    file: Path
    settings: Settings

    def connection(self) -> Connection:
        """As each Celery process of the factory makes it."""
        gated_transport.install()
        configured = celeryconfig.configuration(self.settings)
        options = configured["broker_transport_options"]
        return Connection(configured["broker_url"], transport_options=options)

    def change(self, password: str) -> None:
        """The server takes only this one from now on, and nobody is connected with another."""
        self.admin.execute_command("ACL", "SETUSER", USER, "resetpass", f">{password}")
        self.admin.execute_command("CLIENT", "KILL", "USER", USER)


@pytest.fixture
def desk(tmp_path: Path, redis_url: str) -> Iterator[Desk]:
    with redis.Redis.from_url(redis_url) as admin:
        make_user(admin, redis_url, USER, partial(factory_rules, "desk-7"))
        file = tmp_path / "redis-password"
        file.write_text(f"{PASSWORD}\n")
        bare = with_user(redis_url, USER, "").replace(":@", "@")
        told = {"UA_FACTORY_ID": "desk-7", "UA_REDIS_URL": bare, "UA_REDIS_PASSWORD_FILE": str(file)}
        yield Desk(admin, file, load_settings(told))
        admin.execute_command("ACL", "DELUSER", USER)


def test_both_ways_to_the_broker_read_it(desk: Desk) -> None:
    with open_own_link(desk.settings) as link, desk.connection() as connection:
        assert link.ping()
        assert connection.default_channel.client.ping()


def test_later_connections_are_made_with_the_new_one(desk: Desk) -> None:
    with open_own_link(desk.settings) as link, desk.connection() as connection:
        channel = connection.default_channel
        assert why_not_connected(link) is None

        desk.change("another")
        desk.file.write_text("another\n")

        assert why_not_connected(link) is None
        with channel.conn_or_acquire() as client:
            assert client.llen("factory.desk-7") == 0


def test_a_wrong_one_is_tried_again_with_the_next_connection(desk: Desk) -> None:
    desk.file.write_text("wrong")
    with open_own_link(desk.settings) as link:
        assert why_not_connected(link) == "AuthenticationError"
        with desk.connection() as connection, pytest.raises(OperationalError):
            connection.ensure_connection(max_retries=1, interval_start=0)

        desk.file.write_text(PASSWORD)

        assert why_not_connected(link) is None
        with desk.connection() as connection:
            assert connection.ensure_connection(max_retries=1)


@pytest.mark.parametrize("spoil", ["removed", "empty", "no text"])
def test_a_file_that_cannot_be_read_is_named_and_read_again(desk: Desk, spoil: str) -> None:
    {
        "removed": desk.file.unlink,
        "empty": lambda: desk.file.write_text("\n"),
        "no text": lambda: desk.file.write_bytes(b"\xff\xfe"),
    }[spoil]()

    with open_own_link(desk.settings) as link, desk.connection() as connection:
        with pytest.raises(PasswordFileError, match=r"no password in .*redis-password \("):
            link.ping()
        # What a worker takes for a broker that is away: it connects again, for ever.
        with pytest.raises(OperationalError, match="redis-password"):
            connection.ensure_connection(max_retries=1, interval_start=0)

        desk.file.write_text(PASSWORD)

        assert why_not_connected(link) is None
        assert connection.ensure_connection(max_retries=1)


def test_the_file_wins_over_a_password_in_the_address(desk: Desk, redis_url: str) -> None:
    with open_link(with_user(redis_url, USER, "old"), desk.file) as link:
        assert link.ping()
    with open_link(with_user(redis_url, USER, "old")) as link, pytest.raises(AuthenticationError):
        link.ping()


def test_who_connects_with_a_password_alone_is_the_default_user(tmp_path: Path, redis_url: str) -> None:
    assert user_in(redis_url) == "default"
    (file := tmp_path / "password").write_text(redis_url.partition("redis://:")[2].partition("@")[0])

    with open_link("redis://" + redis_url.rpartition("@")[2], file) as link:
        assert link.ping()


def test_the_password_is_not_shown(desk: Desk) -> None:
    with open_own_link(desk.settings) as link:
        link.ping()
        assert PASSWORD not in f"{link!r} {link.connection_pool!r} {link.connection_pool.connection_kwargs!r}"
