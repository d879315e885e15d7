"""HQ's engine and API measure and read what lies with a factory, each as its own user, and are refused nothing."""

import json
from collections.abc import Iterator
from functools import partial
from uuid import uuid4

import pytest
import redis
from redis_servers import KINDS, fresh_server, make_user, refusals

from corporation.missions.queues import TakenBack, Whereabouts
from corporation.settings import load_settings
from corporation.trust.redis_profiles import HqUser, hq_rules, user_of_hq
from factory_tasks.broker import CeleryBroker
from factory_tasks.queue_look import MOST_ENTRIES


@pytest.fixture(scope="module", params=KINDS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with fresh_server(request.param, tmp_path_factory.mktemp("looked-into")) as url:
        yield url


@pytest.mark.parametrize("role", [HqUser.engine, HqUser.api])
def test_hq_looks_into_a_queue_and_takes_back_what_lies_there(server: str, role: HqUser) -> None:
    lying, taken = str(uuid4()), str(uuid4())
    with redis.Redis.from_url(server) as admin:
        own = make_user(admin, server, user_of_hq(role), partial(hq_rules, role))
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
