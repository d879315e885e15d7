"""The open addresses: well or not, ready or not, which version, and nothing else (contract http §12)."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import httpx
import pytest
import stranger
from canary import secret
from frozen_server import frozen
from served_api import OPS_TOKEN, Api, served, settings_for

from corporation.embedded.server_process import Server

HEALTH, READY, VERSION = "/api/v1/health", "/api/v1/hooks/readyz", "/api/v1/version"
OPS = {"x-ua-ops-token": OPS_TOKEN}
NODES = {
    "headquarters": {},
    "worker": {"FACTORY_ROLE": "LOCAL_WORKER"},
    "standalone": {"FACTORY_ROLE": "STANDALONE_NODE"},
}
each_node = pytest.mark.parametrize("changes", NODES.values(), ids=NODES.keys())


def test_health_shows_redis_but_lets_the_ledger_decide(api: Api) -> None:
    """H-5."""
    answer = stranger.get(api.url + HEALTH)

    body = answer.json()
    assert answer.status_code == 200
    assert (body["status"], body["db_status"], body["redis_status"]) == ("healthy", "connected", "disconnected")
    assert datetime.fromisoformat(body["timestamp"]).utcoffset() is not None


def test_health_is_503_without_a_ledger_and_tells_no_address() -> None:
    """H-4."""
    password = secret("database")
    with served(settings_for(f"postgresql://nobody:{password}@127.0.0.1:1/none")) as api:
        answer = stranger.get(api.url + HEALTH)

    assert answer.status_code == 503
    assert (answer.json()["status"], answer.json()["db_status"]) == ("unhealthy", "disconnected")
    assert password not in answer.text


def test_health_is_503_on_a_ledger_that_was_never_migrated(empty_database_url: str) -> None:
    with served(settings_for(empty_database_url)) as api:
        answer = stranger.get(api.url + HEALTH)

    assert (answer.status_code, answer.json()["db_status"]) == (503, "error")


def test_health_answers_while_the_ledger_is_frozen_and_requests_wait_for_it(
    shared_url: str, postgres: Server, wait_until: Callable[..., Any]
) -> None:
    """H-5: neither address may wait for a thread of the pool, since all of them wait for the ledger."""
    with served(settings_for(shared_url)) as api, ThreadPoolExecutor(50) as pool:
        assert stranger.get(api.url + HEALTH).status_code == 200
        with frozen(postgres.pid):
            waiting = [pool.submit(stranger.get, f"{api.url}/api/v1/missions", headers=OPS) for _ in range(50)]
            wait_until(lambda: is_stuck(api.url + "/"), 60, "all threads of the pool to wait for the ledger")
            with stranger.client(api.url) as monitor:
                unwell = [monitor.get(HEALTH, timeout=10) for _ in range(2)]
                ready = monitor.get(READY, timeout=10)
        wait_until(lambda: stranger.get(api.url + HEALTH).status_code == 200, what="the ledger is back")
        assert {one.result().status_code for one in waiting} <= {200, 503}

    assert [(a.status_code, a.json()["status"], a.json()["db_status"]) for a in unwell] == [
        (503, "unhealthy", "disconnected")
    ] * 2
    assert (unwell[0].json()["db_error"], ready.status_code) == ("TimeoutError", 200)


def is_stuck(url: str) -> bool:
    try:
        stranger.get(url, timeout=0.5)
    except httpx.ReadTimeout:
        return True
    return False


@each_node
def test_every_node_shows_its_health_to_everybody(shared_url: str, changes: dict[str, str]) -> None:
    """The keys are those of contract http §12, on each of the three nodes."""
    with served(settings_for(shared_url, **changes)) as node:
        health, ready = stranger.get(node.url + HEALTH), stranger.get(node.url + READY)
        head = stranger.head(node.url + HEALTH)

    assert (health.status_code, ready.status_code, head.status_code, head.content) == (200, 200, 200, b"")
    assert set(health.json()) == {
        *("status", "timestamp", "version", "db_status", "db_error", "runtime_path", "runtime_tools"),
        *("deployment_profile", "redis_status"),
    }
    assert ready.json() == {
        "ready": False,
        "service_initialized": False,
        "hooks_enabled": False,
        "reason": "hooks_service_not_initialized",
    }


def test_a_worker_has_no_ledger_to_lose(shared_url: str) -> None:
    """E-7: one that is set is not opened."""
    with served(settings_for(shared_url, FACTORY_ROLE="LOCAL_WORKER")) as worker:
        body = stranger.get(worker.url + HEALTH).json()

    assert (body["status"], body["db_status"], body["db_error"]) == ("healthy", "disconnected", None)


@pytest.mark.parametrize(
    ("word", "profile", "allowlist", "access"),
    [
        ("local_workstation", "local_workstation", False, "local"),
        ("standalone_node", "standalone_node", False, "restricted"),
        ("vps", "vps", True, "restricted"),
        ("VPS ", "vps", True, "restricted"),
        ("moon", "local_workstation", False, "local"),
    ],
)
def test_the_profile_says_what_belongs_in_front_of_it(
    shared_url: str, word: str, profile: str, allowlist: bool, access: str
) -> None:
    with served(settings_for(shared_url, UA_DEPLOYMENT_PROFILE=word)) as api:
        shown: dict[str, Any] = stranger.get(api.url + HEALTH).json()["deployment_profile"]

    assert shown.pop("notes")
    assert shown == {
        "profile": profile,
        "allowlist_required": allowlist,
        "ops_token_required": True,
        "remote_access": access,
    }


def test_the_first_page_and_the_version_are_open(api: Api) -> None:
    root = stranger.get(api.url + "/").json()

    assert (root["name"], root["status"]) == ("corporation", "running")
    assert set(stranger.get(api.url + VERSION).json()) == {"commit", "branch", "started_at"}


@pytest.mark.parametrize(
    ("environ", "names"),
    [
        ({"FACTORY_ROLE": "HEADQUARTERS"}, "publish missions health version capabilities dashboard"),
        (
            {"FACTORY_ROLE": "HEADQUARTERS", "UA_CAPABILITY_DELEGATION_MODE": "listen_only"},
            "missions health version capabilities dashboard",
        ),
        ({"FACTORY_ROLE": "STANDALONE_NODE"}, "health version capabilities dashboard"),
        ({"FACTORY_ROLE": "STANDALONE_NODE", "UA_CAPABILITY_START_UI": "0"}, "health version capabilities"),
        ({"FACTORY_ROLE": "LOCAL_WORKER", "UA_CAPABILITY_GATEWAY_MODE": "full"}, "health"),
    ],
)
def test_the_first_page_lists_what_this_node_serves_and_nothing_else(
    shared_url: str, environ: dict[str, str], names: str
) -> None:
    with served(settings_for(shared_url, **environ)) as api:
        endpoints = stranger.get(api.url + "/").json()["endpoints"]
        refused = [name for name, path in endpoints.items() if api.ops.get(path).status_code == 403]

    assert (" ".join(endpoints), refused) == (names, [])


def test_a_worker_tells_no_version_even_on_a_full_surface(shared_url: str) -> None:
    changes = {"FACTORY_ROLE": "LOCAL_WORKER", "UA_CAPABILITY_GATEWAY_MODE": "full"}
    with served(settings_for(shared_url, **changes)) as worker:
        answer = worker.ops.get(VERSION)

    assert (answer.status_code, "LOCAL_WORKER" in answer.text) == (403, True)
