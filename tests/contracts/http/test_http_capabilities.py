"""What a node says of itself: its policy, its broker as it is now, and what it handed over (contract http §5, F-12)."""

import os
import signal
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis
import stranger
from builders import rules
from canary import secret
from served_api import PUBLISH, Api, served, settings_for, token

from corporation.clock import monotonic, new_id
from corporation.db import transaction
from corporation.embedded.valkey import start_valkey
from corporation.missions.dispatch import dispatch_some
from corporation.missions.outbox import BrokerUnavailableError, send_some
from corporation.missions.queues import TakenBack, Whereabouts

CAPABILITIES = "/api/v1/factory/capabilities"
FACTORY_KEYS = {
    *("factory_id", "factory_role", "deployment_profile", "gateway_mode", "delegation_mode", "heartbeat_scope"),
    *("start_ui", "enable_telegram_poll", "enable_vp_coder", "llm_provider_override", "redis_delegation_enabled"),
    *("redis_stream_name", "redis_consumer_group", "enable_csi_ingest", "enable_agentmail"),
    *("can_publish_delegations", "can_listen_delegations", "updated_at"),
}
DELEGATION_KEYS = {"redis_enabled", "connected", "last_error", "last_publish_at", "published_total"}


def read(api: Api) -> dict[str, Any]:
    answer = api.ops.get(CAPABILITIES)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_the_answer_has_the_contracts_shape(shared_url: str, redis_url: str) -> None:
    changes = {
        "UA_REDIS_URL": redis_url,
        "UA_FACTORY_ID": "hq-east",
        "UA_DEPLOYMENT_PROFILE": "vps",
        "UA_DELEGATION_STREAM_NAME": "ua:missions:test",
        "UA_DELEGATION_CONSUMER_GROUP": "testers",
    }
    with served(settings_for(shared_url, **changes)) as api:
        body = read(api)

    factory = body["factory"]
    assert (set(body), set(factory)) == ({"factory", "delegation"}, FACTORY_KEYS)
    assert len(factory.pop("updated_at")) == len("2026-06-01T08:00:00.000000+00:00")
    assert factory == {
        "factory_id": "hq-east",
        "factory_role": "HEADQUARTERS",
        "deployment_profile": "vps",
        "gateway_mode": "full",
        "delegation_mode": "publish_and_listen",
        "heartbeat_scope": "global",
        "start_ui": True,
        "enable_telegram_poll": True,
        "enable_vp_coder": True,
        "llm_provider_override": None,
        "redis_delegation_enabled": True,
        "redis_stream_name": "ua:missions:test",
        "redis_consumer_group": "testers",
        "enable_csi_ingest": True,
        "enable_agentmail": True,
        "can_publish_delegations": True,
        "can_listen_delegations": True,
    }
    assert body["delegation"] == {
        "redis_enabled": True,
        "connected": True,
        "last_error": None,
        "last_publish_at": None,
        "published_total": 0,
    }


def test_overrides_and_executors_are_shown_as_they_act(shared_url: str) -> None:
    changes = {
        "FACTORY_ROLE": "STANDALONE_NODE",
        "UA_CAPABILITY_START_UI": "off",
        "UA_CAPABILITY_CSI_INGEST": "0",
        "ENABLE_VP_CODER": "no",
    }
    with served(settings_for(shared_url, **changes)) as api:
        body = read(api)

    shown = {name: body["factory"][name] for name in ("start_ui", "enable_csi_ingest", "enable_vp_coder")}
    assert shown == {"start_ui": False, "enable_csi_ingest": False, "enable_vp_coder": False}
    assert (body["factory"]["delegation_mode"], body["factory"]["can_listen_delegations"]) == ("disabled", False)
    assert (body["delegation"]["redis_enabled"], body["delegation"]["connected"]) == (False, False)


def test_the_broker_is_shown_as_it_is_now(shared_url: str, tmp_path: Path) -> None:
    """Not as it was at the start: it comes, goes, and comes back while the API runs."""
    seen: list[Any] = []
    broker = start_valkey(tmp_path)
    port = urlsplit(broker.url).port
    broker.stop()
    with served(settings_for(shared_url, UA_REDIS_URL=broker.url)) as api:
        for start in (False, True, False, True):
            running = start_valkey(tmp_path, port=port) if start else None
            body = read(api)
            seen.append((body["delegation"]["connected"], body["factory"]["redis_delegation_enabled"]))
            if running is None:
                assert body["delegation"]["last_error"] == "ConnectionError"
            else:
                assert body["delegation"]["last_error"] is None
                running.stop()

    assert seen == [(False, False), (True, True), (False, False), (True, True)]


def test_a_broker_that_restarted_between_two_looks_is_there(shared_url: str, tmp_path: Path) -> None:
    """The connection that was kept is dead, the broker is not."""
    broker = start_valkey(tmp_path)
    with served(settings_for(shared_url, UA_REDIS_URL=broker.url)) as api:
        before = read(api)["delegation"]
        broker.stop()
        broker = start_valkey(tmp_path, port=urlsplit(broker.url).port)
        after = read(api)["delegation"]
        broker.stop()

    assert [(one["connected"], one["last_error"]) for one in (before, after)] == [(True, None)] * 2


def test_a_frozen_broker_is_away_and_costs_a_look_no_more_than_its_second(shared_url: str, tmp_path: Path) -> None:
    broker = start_valkey(tmp_path)
    with served(settings_for(shared_url, UA_REDIS_URL=broker.url)) as api:
        assert read(api)["delegation"]["connected"] is True
        os.kill(broker.pid, signal.SIGSTOP)
        began = monotonic()
        frozen = read(api)
        took = monotonic() - began
        os.kill(broker.pid, signal.SIGCONT)
        thawed = read(api)
        broker.stop()

    assert (frozen["delegation"]["connected"], frozen["delegation"]["last_error"]) == (False, "TimeoutError")
    assert frozen["factory"]["redis_delegation_enabled"] is False
    assert took < 3
    assert (thawed["delegation"]["connected"], thawed["delegation"]["last_error"]) == (True, None)


def test_a_broker_that_does_not_let_us_in_any_more_is_not_connected(shared_url: str, tmp_path: Path) -> None:
    """That it listens is not enough; and once it lets us in again, the next look says so."""
    broker = start_valkey(tmp_path)
    with redis.Redis.from_url(broker.url) as admin, served(settings_for(shared_url, UA_REDIS_URL=broker.url)) as api:
        admin.acl_setuser("default", enabled=True, nopass=False, commands=["-ping"])
        shut_out = read(api)["delegation"]
        admin.acl_setuser("default", enabled=True, nopass=False, commands=["+@all"])
        let_in = read(api)["delegation"]
    broker.stop()

    assert (shut_out["connected"], shut_out["last_error"]) == (False, "NoPermissionError")
    assert (let_in["connected"], let_in["last_error"]) == (True, None)


def test_the_last_error_is_a_class_and_tells_neither_address_nor_password(shared_url: str, redis_url: str) -> None:
    """H-4."""
    password = secret("broker")
    address = urlsplit(redis_url)
    wrong = address._replace(netloc=f"corporation:{password}@{address.hostname}:{address.port}").geturl()
    with served(settings_for(shared_url, UA_REDIS_URL=wrong)) as api:
        answer = api.ops.get(CAPABILITIES)

    assert answer.json()["delegation"]["last_error"] == "AuthenticationError"
    assert password not in answer.text
    assert str(address.port) not in answer.text


def test_a_node_that_delegates_without_redis_asks_none(shared_url: str) -> None:
    """UA_DELEGATION_REDIS_ENABLED=0: everything goes over HTTPS."""
    with socket.create_server(("127.0.0.1", 0)) as redis:
        redis.setblocking(False)
        changes = {
            "UA_REDIS_URL": f"redis://127.0.0.1:{redis.getsockname()[1]}/0",
            "UA_DELEGATION_REDIS_ENABLED": "0",
        }
        with served(settings_for(shared_url, **changes)) as api:
            body = read(api)

        with pytest.raises(BlockingIOError):
            redis.accept()
    assert body["factory"]["redis_delegation_enabled"] is False
    assert (body["delegation"]["redis_enabled"], body["delegation"]["connected"]) == (False, False)
    assert body["delegation"]["last_error"] is None


class FakeBroker:
    """A broker outside our world that takes messages, or does not."""

    def __init__(self, takes: bool = True) -> None:
        self.takes = takes

    def send(self, messages: Sequence[Any]) -> None:
        if not self.takes:
            raise BrokerUnavailableError("down")

    def stop(self, messages: Sequence[Any]) -> None:
        self.send(messages)

    def echo(self, messages: Sequence[Any]) -> None:
        self.send(messages)

    def look_into(self, queue: str) -> Whereabouts:
        return Whereabouts()

    def withdraw(self, queue: str, attempt_ids: Any) -> TakenBack:
        return TakenBack()

    def incarnation(self) -> str:
        return ""


def test_what_the_broker_was_handed_is_counted_and_what_waits_for_it_is_not(api: Api) -> None:
    beat = {"factory_id": "desk-7", "capabilities": ["vp_general"], "slots": 4}
    api.ops.post("/api/v1/factory/registrations", json=beat).raise_for_status()
    missions = [{"job_id": f"j-{n}", "mission_kind": "general_task", "payload": {"task": "Tidy"}} for n in range(3)]
    api.ops.post(PUBLISH, json={"missions": missions}).raise_for_status()
    with transaction(api.engine) as connection:
        assert dispatch_some(connection, rules(), new_id) == 3
    waiting = read(api)["delegation"]

    with pytest.raises(BrokerUnavailableError), transaction(api.engine) as connection:
        send_some(connection, FakeBroker(takes=False), 2)
    refused = read(api)["delegation"]
    with transaction(api.engine) as connection:
        assert send_some(connection, FakeBroker(), 2) == 2
    sent = read(api)["delegation"]

    assert [(one["published_total"], one["last_publish_at"]) for one in (waiting, refused)] == [(0, None)] * 2
    assert sent["published_total"] == 2
    assert sent["last_publish_at"].endswith("+00:00")


def test_the_capabilities_are_for_operators(api: Api) -> None:
    assert stranger.get(api.url + CAPABILITIES).status_code == 401
    for bearer in (token("publish"), token("factory", factory_id="desk-7")):
        with api.as_token(bearer) as other:
            assert other.get(CAPABILITIES).status_code == 403


def own_row(api: Api, wait_until: Callable[..., Any]) -> Any:
    name = api.settings.factory_id
    find = "SELECT * FROM corporation.factories WHERE factory_id = :name"
    return wait_until(lambda: api.sql(find, name=name), what="headquarters' own registration")[0]


def test_headquarters_registers_itself_with_its_labels_and_its_block(
    database_url: str, redis_url: str, wait_until: Callable[..., Any]
) -> None:
    """F-12, F-18."""
    with served(settings_for(database_url, UA_REDIS_URL=redis_url)) as api:
        row = own_row(api, wait_until)

    assert row.source == "gateway_startup"
    assert {"gateway_full", "ui", "delegation_redis", "delegation_mode:publish_and_listen"} <= set(row.capabilities)
    assert row.capabilities == sorted(set(row.capabilities))
    assert row.metadata["self_registration"] is True
    assert set(row.metadata["capabilities_payload"]) == FACTORY_KEYS
    assert row.metadata["hostname"] == api.settings.host


def test_headquarters_does_not_claim_a_broker_that_is_away(database_url: str, wait_until: Callable[..., Any]) -> None:
    """F-18."""
    with served(settings_for(database_url)) as api:
        row = own_row(api, wait_until)

    assert "delegation_redis" not in row.capabilities
    assert row.metadata["capabilities_payload"]["redis_delegation_enabled"] is False


def test_what_headquarters_own_worker_earned_stays_when_the_gateway_registers(
    database_url: str, wait_until: Callable[..., Any]
) -> None:
    """Routing believes these labels; the worker's beat and the gateway's share one row."""
    settings = settings_for(database_url)
    with served(settings) as api:
        own_row(api, wait_until)
        labels = ["vp_coder", "kind:dance", "delegation_redis"]
        beat = {"factory_id": settings.factory_id, "factory_role": "HEADQUARTERS", "capabilities": labels}
        api.ops.post("/api/v1/factory/registrations", json=beat).raise_for_status()
        beats_at = own_row(api, wait_until).last_seen_at
    with served(settings) as api:
        find = "SELECT capabilities FROM corporation.factories WHERE last_seen_at > :then"
        [row] = wait_until(lambda: api.sql(find, then=beats_at))

    assert {"vp_coder", "kind:dance", "gateway_full"} <= set(row.capabilities)
    assert "delegation_redis" not in row.capabilities


@pytest.mark.parametrize(
    "changes",
    [{"FACTORY_ROLE": "STANDALONE_NODE"}, {"UA_CAPABILITY_HEARTBEAT_SCOPE": "local"}, {"FACTORY_ROLE": "LOCAL_WORKER"}],
    ids=["standalone", "local scope", "worker"],
)
def test_other_nodes_do_not_register_themselves(database_url: str, changes: dict[str, str]) -> None:
    """F-12: whoever watches only its own life is in no registry of its own."""
    with served(settings_for(database_url, **changes)) as node:
        stranger.get(node.url + "/api/v1/health").raise_for_status()
    with served(settings_for(database_url, UA_FACTORY_ID="other", UA_CAPABILITY_HEARTBEAT_SCOPE="local")) as api:
        assert api.sql("SELECT factory_id FROM corporation.factories") == []
