"""HQ's engine measures and reads what lies with a factory as its own user, and is refused nothing; the API is."""

import json
from collections.abc import Iterator
from functools import partial
from uuid import uuid4

import pytest
import redis
from redis.exceptions import NoPermissionError
from redis_servers import KINDS, forget_refusals, fresh_server, make_user, refusals

from corporation.delegation.keys import keys_of
from corporation.missions.queues import TakenBack, Whereabouts
from corporation.settings import load_settings
from corporation.trust.redis_profiles import HqUser, hq_rules, user_of_hq
from factory_tasks.broker import CeleryBroker
from factory_tasks.queue_look import MOST_ENTRIES
from hq_api.metrics import read_broker
from hq_api.stream_counts import StreamCounting

FORBIDDEN = (
    "LRANGE factory.desk-7 0 -1",
    "LREM factory.desk-7 0 x",
    "RPOP factory.desk-7",
    "LLEN desk-7.control",
    "MEMORY USAGE factory.desk-7",
    "HSCAN unacked:desk-7 0",
    "HLEN unacked:desk-7",
    "GET corporation:incarnation",
    "INFO",
    "XRANGE {missions} - +",
    "XREAD STREAMS {missions} 0",
    "XINFO STREAM {missions}",
    "XLEN {missions}:results",
    "XLEN ua:missions:dlq",
)


@pytest.fixture(scope="module", params=KINDS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with fresh_server(request.param, tmp_path_factory.mktemp("looked-into")) as url:
        yield url


def test_the_engine_looks_into_a_queue_and_takes_back_what_lies_there(server: str) -> None:
    lying, taken = str(uuid4()), str(uuid4())
    with redis.Redis.from_url(server) as admin:
        own = make_user(admin, server, user_of_hq(HqUser.engine), partial(hq_rules, HqUser.engine))
        broker = CeleryBroker(load_settings({"UA_REDIS_URL": own}))
        admin.rpush("factory.desk-7", json.dumps({"headers": {"task": "mission.noop", "id": lying}}))
        admin.hset("unacked:desk-7", "tag", json.dumps([{"headers": {"id": taken}}, "", "factory.desk-7"]))
        found = broker.look_into("factory.desk-7")
        back = broker.withdraw("factory.desk-7", {lying})
        admin.rpush("factory.desk-7", *["x"] * (MOST_ENTRIES + 1))
        full = broker.look_into("factory.desk-7")
        admin.flushall()

        assert found == Whereabouts(frozenset({lying}), frozenset({taken}))
        assert back == TakenBack(frozenset({lying}), frozenset({lying}))
        assert full == Whereabouts(held=frozenset({taken}), foreign=MOST_ENTRIES + 1, whole=False)
        assert refusals(admin) == []


def test_the_api_has_counts_and_nothing_that_lies_there(server: str) -> None:
    """Not even the two entries of a stream that XINFO STREAM shows."""
    keys = keys_of(load_settings({}))
    with redis.Redis.from_url(server) as admin:
        own = make_user(admin, server, user_of_hq(HqUser.api), partial(hq_rules, HqUser.api))
        admin.rpush("factory.desk-7", "an order")
        admin.xgroup_create(keys.missions, keys.group, id="0", mkstream=True)
        admin.xadd(keys.missions, {"envelope": "an order"})
        with redis.Redis.from_url(own) as api:
            broker = read_broker(api, StreamCounting(), keys, ["desk-7"], 1_780_000_000_000)
            assert refusals(admin) == []
            for words in FORBIDDEN:
                with pytest.raises(NoPermissionError):
                    api.execute_command(*words.format(missions=keys.missions).split())
        forget_refusals(admin)
        admin.flushall()

    assert broker is not None
    assert broker.depths == {"factory.desk-7": 1}
    assert (broker.stream.length, broker.stream.lag, broker.stream.pending) == (1, 1, 0)
