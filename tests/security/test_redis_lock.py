"""The lock under which kombu sweeps: as exclusive as redis-py's, and without a script, which no factory may run."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis
from kombu import Connection
from kombu.transport import redis as kombu_redis
from kombu.utils.json import dumps
from redis_servers import KINDS, fresh_server, make_user, refusals

import celeryconfig
from corporation.settings import load_settings
from corporation.trust.redis_profiles import factory_rules, user_of
from factory_tasks import gated_transport
from factory_tasks.scriptless_lock import scriptless_lock

NAME = "unacked:desk-7_mutex"
STALE = {
    "body": "e30=",
    "headers": {"id": "1"},
    "properties": {"delivery_info": {"exchange": "", "routing_key": "factory.desk-7"}, "delivery_tag": "tag-1"},
}


class Server:
    """One server, its operator, and the address of a factory's user."""

    def __init__(self, admin: "redis.Redis", url: str) -> None:
        self.admin, self.url = admin, url


@pytest.fixture(scope="module", params=KINDS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with (
        fresh_server(request.param, Path(tmp_path_factory.mktemp("locked"))) as url,
        redis.Redis.from_url(url) as admin,
    ):
        yield Server(admin, make_user(admin, url, user_of("desk-7"), partial(factory_rules, "desk-7")))


@pytest.fixture
def client(server: Server) -> Iterator["redis.Redis"]:
    """A factory's; nothing is refused to it."""
    server.admin.flushall()
    with redis.Redis.from_url(server.url) as client:
        yield client
    assert refusals(server.admin) == []


def test_one_holds_it_at_a_time_and_then_the_next(client: "redis.Redis") -> None:
    with scriptless_lock(client, NAME, 30), pytest.raises(kombu_redis.MutexHeld), scriptless_lock(client, NAME, 30):
        pytest.fail("two hold it")
    with scriptless_lock(client, NAME, 30):
        pass

    assert client.get(NAME) is None


def test_it_ends_by_itself_when_its_holder_dies(server: Server, client: "redis.Redis") -> None:
    with scriptless_lock(client, NAME, 30):
        assert 0 < server.admin.ttl(NAME) <= 30


def test_it_is_free_after_an_error(client: "redis.Redis") -> None:
    with pytest.raises(ZeroDivisionError), scriptless_lock(client, NAME, 30):
        raise ZeroDivisionError

    assert client.get(NAME) is None


def test_who_held_it_too_long_leaves_the_next_holders_alone(server: Server, client: "redis.Redis") -> None:
    with scriptless_lock(client, NAME, 30):
        server.admin.set(NAME, "another's")

    assert client.get(NAME) == b"another's"


def test_it_changes_hands_at_the_last_moment(
    server: Server, client: "redis.Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look whose it is and its end."""
    real = redis.client.Pipeline.multi

    def late(pipe: Any) -> None:
        server.admin.set(NAME, "another's")
        real(pipe)

    monkeypatch.setattr(redis.client.Pipeline, "multi", late)
    with scriptless_lock(client, NAME, 30):
        pass

    assert client.get(NAME) == b"another's"


def test_kombu_sweeps_under_it(server: Server, client: "redis.Redis", monkeypatch: pytest.MonkeyPatch) -> None:
    """With the lock of kombu 5.7.0 itself, or under another name, the sweep would be refused to a factory."""
    gated_transport.install()
    used: list[str] = []

    def noted(redis_client: Any, name: str, expire: int) -> Any:
        used.append(name)
        return scriptless_lock(redis_client, name, expire)

    assert kombu_redis.Mutex is scriptless_lock
    monkeypatch.setattr(kombu_redis, "Mutex", noted)
    client.hset("unacked:desk-7", "tag-1", dumps([STALE, "", "factory.desk-7"]))
    client.zadd("unacked:desk-7_index", {"tag-1": 1.0})
    settings = load_settings({"UA_FACTORY_ID": "desk-7", "UA_REDIS_URL": server.url})
    options = celeryconfig.configuration(settings)["broker_transport_options"]
    with Connection(server.url, transport_options=options) as connection:
        connection.default_channel.qos.restore_visible(num=10, interval=1)

    assert used == [NAME]
    assert client.llen("factory.desk-7") == 1
    assert client.hgetall("unacked:desk-7") == {}
