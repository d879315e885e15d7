"""The matrix of contract env §2 against running processes: what each role's components do, cell by cell."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from canary import secret
from fake_telegram import FakeTelegram
from role_node import Node

HQ, WORKER, STANDALONE = ROLES = "HEADQUARTERS", "LOCAL_WORKER", "STANDALONE_NODE"
FLEET = "/api/v1/missions"
BOT_TOKEN = f"4712:{secret('telegram')}"
ORDER = {"payload": {"task": "t"}}
Nodes = dict[str, Node]


@pytest.fixture(scope="module", autouse=True)
def _meanwhile(beating: dict[str, str]) -> None:  # pyright: ignore[reportUnusedFunction]
    """The first beats are on their way while the other tests run."""


def publish(node: Node) -> int:
    headers = {"x-ua-ops-token": node.environment("api")["UA_OPS_TOKEN"]}
    return httpx.post(node.url + "/api/v1/delegation/publish", json=ORDER, headers=headers, timeout=20).status_code


@pytest.mark.parametrize(
    ("role", "status"),
    [
        (HQ, {"/": 200, "/api/v1/version": 200, FLEET: 200, "/openapi.json": 200, "/api/v1/factory/capabilities": 200}),
        (
            WORKER,
            {"/": 403, "/api/v1/version": 403, FLEET: 403, "/openapi.json": 403, "/api/v1/factory/capabilities": 403},
        ),
        (
            STANDALONE,
            {"/": 200, "/api/v1/version": 200, FLEET: 403, "/openapi.json": 200, "/api/v1/factory/capabilities": 200},
        ),
    ],
)
def test_the_gateway_shows_all_or_its_health_only(nodes: Nodes, role: str, status: dict[str, int]) -> None:
    for path in ("/api/v1/health", "/api/v1/hooks/readyz"):
        assert nodes[role].get(path, None).status_code == 200
    assert {path: nodes[role].get(path).status_code for path in status} == status


@pytest.mark.parametrize(("role", "status"), [(HQ, 202), (WORKER, 403), (STANDALONE, 403)])
def test_missions_are_published_at_headquarters_only(nodes: Nodes, role: str, status: int) -> None:
    assert publish(nodes[role]) == status


@pytest.mark.parametrize(("role", "page", "menu"), [(HQ, 200, True), (WORKER, 403, False), (STANDALONE, 200, False)])
def test_the_ui_and_its_entry_for_the_fleet(nodes: Nodes, role: str, page: int, menu: bool) -> None:
    answer = nodes[role].get("/dashboard")

    assert answer.status_code == page
    assert ("/dashboard/corporation" in answer.text) is menu
    assert nodes[role].get("/dashboard/corporation").status_code == (200 if menu else 403)


@pytest.mark.parametrize("role", ROLES)
def test_telegram_is_polled_where_the_policy_says_so(nodes: Nodes, role: str, wait_until: Callable[..., Any]) -> None:
    node = nodes[role]
    with FakeTelegram(BOT_TOKEN) as telegram:
        node.more = telegram_variables(telegram)
        if role == HQ:
            node.start("telegram")
            wait_until(lambda: telegram.calls["getUpdates"], 20, "the poller asks for updates")
            assert node.end("telegram") == 0
        else:
            status, said = node.refusal("telegram")
            assert (status, role in said) == (78, True)
            assert not telegram.calls


def test_telegram_on_a_standalone_node_is_switched_on_by_its_own_variable(
    nodes: Nodes, wait_until: Callable[..., Any]
) -> None:
    node = nodes[STANDALONE]
    with FakeTelegram(BOT_TOKEN) as telegram:
        node.more = {**telegram_variables(telegram), "UA_STANDALONE_ENABLE_TELEGRAM_POLL": "yes"}
        node.start("telegram")
        wait_until(lambda: telegram.calls["getUpdates"], 20, "the poller asks for updates")
        assert node.end("telegram") == 0


def test_nothing_makes_a_worker_poll_telegram(nodes: Nodes) -> None:
    """E-7 with a running process."""
    node = nodes[WORKER]
    with FakeTelegram(BOT_TOKEN) as telegram:
        node.more = {**telegram_variables(telegram), "UA_CAPABILITY_TELEGRAM_POLL": "1"}
        assert node.refusal("telegram")[0] == 78
        assert not telegram.calls


def telegram_variables(telegram: FakeTelegram) -> dict[str, str]:
    return {
        "TELEGRAM_BOT_TOKEN": telegram.token,
        "TELEGRAM_ALLOWED_USER_IDS": "4711",
        "UA_TELEGRAM_API_URL": telegram.url,
    }


@pytest.mark.parametrize("role", ROLES)
def test_the_engine_routes_missions_at_headquarters_only(nodes: Nodes, role: str) -> None:
    node = nodes[role]
    node.more = {}
    if role == HQ:
        node.start("engine")
        assert node.end("engine") == 0
    else:
        status, said = node.refusal("engine")
        assert (status, role in said) == (78, True)


@pytest.mark.parametrize("role", ROLES)
def test_mission_workers_listen_unless_delegation_is_disabled(nodes: Nodes, role: str) -> None:
    node = nodes[role]
    node.more = {}
    if role == STANDALONE:
        status, said = node.refusal("missions")
        assert status == 78
        assert "delegation mode is disabled" in said
    else:
        node.start("missions")
        node.end("missions")


@pytest.mark.parametrize("role", [HQ, WORKER])
@pytest.mark.parametrize(("switch", "on"), [("1", True), ("0", False)])
def test_the_coders_switch_decides_what_a_worker_registers_and_what_its_node_advertises(
    nodes: Nodes,
    role: str,
    switch: str,
    on: bool,
    labels_of: Callable[[str], list[str]],
    wait_until: Callable[..., Any],
) -> None:
    node = nodes[role]
    node.hq_url = nodes[HQ].url
    node.more = {"ENABLE_VP_CODER": switch, "UA_FACTORY_ID": f"{role.lower()}-coder-{switch}"}
    node.start("missions")

    labels = wait_until(lambda: labels_of(node.more["UA_FACTORY_ID"]), 30, "the worker's first beat")
    assert ("vp_coder" in labels, "kind:greet" in labels) == (on, True)
    assert ("mission.coding_task" in node.log("missions").rpartition("[tasks]")[2]) is on
    node.end("missions")


@pytest.mark.parametrize(
    ("role", "expected"),
    [
        (HQ, {"delegation_mode:publish_and_listen", "heartbeat_scope:global", "csi_ingest:on", "gateway_full", "ui"}),
        (
            WORKER,
            {"delegation_mode:listen_only", "heartbeat_scope:local", "csi_ingest:off", "gateway_mode:health_only"},
        ),
    ],
)
def test_a_beat_says_what_the_node_is(
    beating: dict[str, str],
    role: str,
    expected: set[str],
    labels_of: Callable[[str], list[str]],
    wait_until: Callable[..., Any],
) -> None:
    """Heartbeat scope, delegation and CSI ingest as HQ hears them; the beat is a Celery beat job."""
    labels = wait_until(lambda: labels_of(beating[role]), 60, "a beat by Celery")

    assert expected <= set(labels)
    assert "delegation_redis" in labels


def test_headquarters_registers_itself_and_a_standalone_node_does_not(
    nodes: Nodes, labels_of: Callable[[str], list[str]], wait_until: Callable[..., Any]
) -> None:
    """Heartbeat scope: global watches the fleet's registry, local keeps to itself."""
    assert wait_until(lambda: labels_of(nodes[HQ].factory_id), 20, "HQ in its own registry")
    assert not labels_of(nodes[STANDALONE].factory_id)


@pytest.mark.parametrize(("role", "ingest"), [(HQ, True), (STANDALONE, True)])
def test_csi_ingest_and_mail_are_told_as_the_policy_says(nodes: Nodes, role: str, ingest: bool) -> None:
    factory = nodes[role].get("/api/v1/factory/capabilities").json()["factory"]

    assert (factory["enable_csi_ingest"], factory["enable_agentmail"]) == (ingest, ingest)


def test_a_worker_says_aloud_that_it_ignores_the_ledger(nodes: Nodes) -> None:
    """E-7: the address of HQ's database is in its environment, and of no use there."""
    assert "UA_DATABASE_URL is ignored" in nodes[WORKER].log("api")
    assert nodes[WORKER].get("/api/v1/health", None).json()["db_status"] == "disconnected"
