"""The open addresses: well or not, ready or not, which version, and nothing else (contract http §12)."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import httpx
import pytest
from canary import secret
from served_api import Api, served, settings_for

HEALTH, READY, VERSION = "/api/v1/health", "/api/v1/hooks/readyz", "/api/v1/version"
NODES = {
    "headquarters": {},
    "worker": {"FACTORY_ROLE": "LOCAL_WORKER"},
    "standalone": {"FACTORY_ROLE": "STANDALONE_NODE"},
}
each_node = pytest.mark.parametrize("changes", NODES.values(), ids=NODES.keys())


def test_health_shows_redis_but_lets_the_ledger_decide(api: Api) -> None:
    """H-5."""
    answer = httpx.get(api.url + HEALTH)

    body = answer.json()
    assert answer.status_code == 200
    assert (body["status"], body["db_status"], body["redis_status"]) == ("healthy", "connected", "disconnected")
    assert datetime.fromisoformat(body["timestamp"]).utcoffset() is not None


def test_health_is_503_without_a_ledger_and_tells_no_address() -> None:
    """H-4."""
    password = secret("database")
    with served(settings_for(f"postgresql://nobody:{password}@127.0.0.1:1/none")) as api:
        answer = httpx.get(api.url + HEALTH)

    assert answer.status_code == 503
    assert (answer.json()["status"], answer.json()["db_status"]) == ("unhealthy", "disconnected")
    assert password not in answer.text


def test_health_is_503_on_a_ledger_that_was_never_migrated(api: Api, wait_until: Callable[..., None]) -> None:
    wait_until(lambda: api.sql("SELECT 1 FROM corporation.factories"))  # headquarters has registered itself
    api.sql("ALTER SCHEMA corporation RENAME TO elsewhere")

    answer = httpx.get(api.url + HEALTH)

    assert (answer.status_code, answer.json()["db_status"]) == (503, "error")


@each_node
def test_every_node_shows_its_health_to_everybody(database_url: str, changes: dict[str, str]) -> None:
    """The keys are those of contract http §12, on each of the three nodes."""
    with served(settings_for(database_url, **changes)) as node:
        health, ready = httpx.get(node.url + HEALTH), httpx.get(node.url + READY)
        head = httpx.head(node.url + HEALTH)

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


def test_a_worker_has_no_ledger_to_lose(database_url: str) -> None:
    """E-7: one that is set is not opened."""
    with served(settings_for(database_url, FACTORY_ROLE="LOCAL_WORKER")) as worker:
        body = httpx.get(worker.url + HEALTH).json()

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
    database_url: str, word: str, profile: str, allowlist: bool, access: str
) -> None:
    with served(settings_for(database_url, UA_DEPLOYMENT_PROFILE=word)) as api:
        shown: dict[str, Any] = httpx.get(api.url + HEALTH).json()["deployment_profile"]

    assert shown.pop("notes")
    assert shown == {
        "profile": profile,
        "allowlist_required": allowlist,
        "ops_token_required": True,
        "remote_access": access,
    }


def test_the_first_page_and_the_version_are_open(api: Api) -> None:
    root = httpx.get(api.url + "/").json()

    assert (root["name"], root["status"]) == ("corporation", "running")
    assert set(httpx.get(api.url + VERSION).json()) == {"commit", "branch", "started_at"}


def test_a_worker_tells_no_version_even_on_a_full_surface(database_url: str) -> None:
    changes = {"FACTORY_ROLE": "LOCAL_WORKER", "UA_CAPABILITY_GATEWAY_MODE": "full"}
    with served(settings_for(database_url, **changes)) as worker:
        answer = worker.ops.get(VERSION)

    assert (answer.status_code, "LOCAL_WORKER" in answer.text) == (403, True)
