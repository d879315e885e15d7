"""The labels a node says of itself: none for a thing that does not work (contract fleet §6, F-18)."""

import itertools

import pytest

from corporation.factories.labels import earned_among, factory_labels, headquarters_labels
from corporation.roles import (
    DelegationMode,
    Executors,
    FactoryRole,
    FactoryRuntimePolicy,
    GatewayMode,
    Overrides,
    build_factory_runtime_policy,
)

HQ = build_factory_runtime_policy(FactoryRole.HEADQUARTERS)
WORKER = build_factory_runtime_policy(FactoryRole.LOCAL_WORKER)
STANDALONE = build_factory_runtime_policy(FactoryRole.STANDALONE_NODE)
EVERY_KIND = ("kind:weekly_report", "tutorial_bootstrap_consumer", "vp_coder", "vp_general")


def without_coder(role: FactoryRole) -> FactoryRuntimePolicy:
    return build_factory_runtime_policy(role, executors=Executors(coder=False))


def test_headquarters_says_its_labels_sorted_and_once() -> None:
    assert headquarters_labels(HQ, ["vp_coder", "vp_coder"], True, "ZAI") == [
        "agentmail:on",
        "csi_ingest:on",
        "delegation_mode:publish_and_listen",
        "delegation_redis",
        "gateway_full",
        "heartbeat_scope:global",
        "llm_override:ZAI",
        "telegram_poll",
        "ui",
        "vp_coder",
    ]


def test_a_factory_says_its_labels_in_the_order_of_the_contract() -> None:
    assert factory_labels(WORKER, EVERY_KIND, True, "OLLAMA") == [
        "delegation_redis",
        "vp_coder",
        "vp_general",
        "tutorial_bootstrap_consumer",
        "gateway_mode:health_only",
        "delegation_mode:listen_only",
        "heartbeat_scope:local",
        "csi_ingest:off",
        "llm_override:OLLAMA",
        "kind:weekly_report",
    ]


def test_the_pages_and_telegram_stand_between_ingest_and_the_override() -> None:
    overrides = Overrides(delegation_mode=DelegationMode.LISTEN_ONLY, standalone_telegram_poll=True)
    policy = build_factory_runtime_policy(FactoryRole.STANDALONE_NODE, overrides)

    assert factory_labels(policy, (), True, "ZAI")[-4:] == ["csi_ingest:on", "ui", "telegram_poll", "llm_override:ZAI"]


@pytest.mark.parametrize("role", FactoryRole)
def test_a_coder_that_is_off_is_never_said_whatever_a_worker_can_do(role: FactoryRole) -> None:
    """F-18."""
    policy = without_coder(role)

    assert "vp_coder" not in factory_labels(policy, EVERY_KIND, True, None)
    assert "vp_coder" not in headquarters_labels(policy, EVERY_KIND, True, None)


def test_a_coder_that_no_worker_runs_is_not_said() -> None:
    """F-18: routing would send missions there."""
    assert "vp_coder" not in headquarters_labels(HQ, (), True, None)
    assert "vp_coder" not in factory_labels(WORKER, (), True, None)


def test_a_broker_that_does_not_answer_is_not_said() -> None:
    """F-18."""
    assert "delegation_redis" not in headquarters_labels(HQ, EVERY_KIND, False, None)
    assert "delegation_redis" not in factory_labels(WORKER, EVERY_KIND, False, None)


def test_a_node_without_delegation_says_neither_the_broker_nor_kinds() -> None:
    """F-18."""
    labels = factory_labels(STANDALONE, EVERY_KIND, True, None)

    assert labels == ["gateway_mode:full", "delegation_mode:disabled", "heartbeat_scope:local", "csi_ingest:on", "ui"]


def test_pages_behind_a_closed_gateway_are_not_said() -> None:
    """F-18."""
    policy = build_factory_runtime_policy(FactoryRole.HEADQUARTERS, Overrides(gateway_mode=GatewayMode.HEALTH_ONLY))
    labels = headquarters_labels(policy, (), True, None)

    assert "ui" not in labels
    assert "gateway_health_only" in labels


def test_what_is_switched_off_says_off() -> None:
    overrides = Overrides(enable_csi_ingest=False, enable_agentmail=False, enable_telegram_poll=False, start_ui=False)
    labels = headquarters_labels(build_factory_runtime_policy(FactoryRole.HEADQUARTERS, overrides), (), False, None)

    assert labels == [
        "agentmail:off",
        "csi_ingest:off",
        "delegation_mode:publish_and_listen",
        "gateway_full",
        "heartbeat_scope:global",
    ]


def test_headquarters_leaves_strangers_scripts_and_general_missions_to_its_factories() -> None:
    labels = headquarters_labels(HQ, EVERY_KIND, True, None)

    assert set(earned_among(labels)) == {"vp_coder", "kind:weekly_report"}


def test_what_workers_earn_can_be_told_from_the_rest_of_a_row() -> None:
    labels = factory_labels(WORKER, EVERY_KIND, True, "ZAI")

    assert sorted(earned_among(labels)) == sorted(EVERY_KIND)
    assert factory_labels(WORKER, earned_among(labels), True, "ZAI") == labels


def test_no_label_is_said_twice_on_any_node() -> None:
    for policy, connected, override in itertools.product((HQ, WORKER, STANDALONE), (True, False), (None, "ZAI")):
        for labels in (
            factory_labels(policy, (*EVERY_KIND, *EVERY_KIND), connected, override),
            headquarters_labels(policy, (*EVERY_KIND, *EVERY_KIND), connected, override),
        ):
            assert len(labels) == len(set(labels))
