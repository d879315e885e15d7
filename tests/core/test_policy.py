"""The role-to-behaviour matrix of contract env §2, cell by cell, and what overrides may and may not change."""

from typing import Any

import pytest

from corporation.errors import SettingsError
from corporation.factories.permissions import permits
from corporation.oddities import alarms_about
from corporation.roles import FactoryRole, FactoryRuntimePolicy, build_factory_runtime_policy
from corporation.settings import load_settings

HQ, WORKER, STANDALONE = "HEADQUARTERS", "LOCAL_WORKER", "STANDALONE_NODE"

# As the contract writes it; `env` means UA_STANDALONE_ENABLE_TELEGRAM_POLL decides, and it says no by itself.
MATRIX = {
    "gateway_mode": {HQ: "full", WORKER: "health_only", STANDALONE: "full"},
    "start_ui": {HQ: True, WORKER: False, STANDALONE: True},
    "enable_telegram_poll": {HQ: True, WORKER: False, STANDALONE: False},
    "heartbeat_scope": {HQ: "global", WORKER: "local", STANDALONE: "local"},
    "delegation_mode": {HQ: "publish_and_listen", WORKER: "listen_only", STANDALONE: "disabled"},
    "enable_csi_ingest": {HQ: True, WORKER: False, STANDALONE: True},
    "enable_agentmail": {HQ: True, WORKER: False, STANDALONE: True},
    "can_publish_delegations": {HQ: True, WORKER: False, STANDALONE: False},
    "can_listen_delegations": {HQ: True, WORKER: True, STANDALONE: False},
    "runs_engine": {HQ: True, WORKER: False, STANDALONE: False},
    "opens_ledger": {HQ: True, WORKER: False, STANDALONE: True},
    "shows_corporation_view": {HQ: True, WORKER: False, STANDALONE: False},
}
CELLS = [(role, field, value) for field, row in MATRIX.items() for role, value in row.items()]


def policy(role: str, **environ: str) -> FactoryRuntimePolicy:
    return load_settings({"FACTORY_ROLE": role, **environ}).policy


@pytest.mark.parametrize(("role", "field", "value"), CELLS)
def test_each_cell_of_the_matrix_is_as_the_contract_says(role: str, field: str, value: Any) -> None:
    assert getattr(policy(role), field) == value
    assert getattr(build_factory_runtime_policy(FactoryRole[role]), field) == value


@pytest.mark.parametrize("role", [HQ, WORKER, STANDALONE])
def test_the_role_is_read_in_any_case_and_kept_in_the_policy(role: str) -> None:
    assert policy(f"  {role.lower()} ").factory_role is FactoryRole[role]


@pytest.mark.parametrize("word", ["BOSS", "HQ", "HEADQUARTERS,LOCAL_WORKER", "0"])
def test_a_role_that_is_none_is_the_least_powerful_one_and_an_alarm(word: str) -> None:
    environ = {"FACTORY_ROLE": word}
    settings = load_settings(environ)

    assert settings.policy == build_factory_runtime_policy(FactoryRole.LOCAL_WORKER)
    assert "FACTORY_ROLE" in alarms_about(environ, settings)[0]
    assert "HEADQUARTERS, LOCAL_WORKER, STANDALONE_NODE" in alarms_about(environ, settings)[0]


OVERRIDES = [
    ("UA_CAPABILITY_GATEWAY_MODE", "Health_Only ", "gateway_mode", "health_only"),
    ("UA_CAPABILITY_GATEWAY_MODE", "full", "gateway_mode", "full"),
    ("UA_CAPABILITY_START_UI", "off", "start_ui", False),
    ("UA_CAPABILITY_START_UI", "YES", "start_ui", True),
    ("UA_CAPABILITY_TELEGRAM_POLL", "0", "enable_telegram_poll", False),
    ("UA_CAPABILITY_HEARTBEAT_SCOPE", "LOCAL", "heartbeat_scope", "local"),
    ("UA_CAPABILITY_HEARTBEAT_SCOPE", "global", "heartbeat_scope", "global"),
    ("UA_CAPABILITY_DELEGATION_MODE", "disabled", "delegation_mode", "disabled"),
    ("UA_CAPABILITY_DELEGATION_MODE", "listen_only", "delegation_mode", "listen_only"),
    ("UA_CAPABILITY_CSI_INGEST", "on", "enable_csi_ingest", True),
    ("UA_CAPABILITY_CSI_INGEST", "no", "enable_csi_ingest", False),
    ("UA_CAPABILITY_AGENTMAIL", "no", "enable_agentmail", False),
]


@pytest.mark.parametrize(("name", "word", "field", "value"), OVERRIDES)
def test_an_override_changes_its_own_field_and_no_other(name: str, word: str, field: str, value: Any) -> None:
    """E-6."""
    for role in (HQ, WORKER, STANDALONE):
        plain, changed = policy(role), policy(role, **{name: word})

        assert getattr(changed, field) == value
        fields = FactoryRuntimePolicy.__dataclass_fields__
        assert {one for one in fields if getattr(plain, one) != getattr(changed, one)} <= {field}


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("UA_CAPABILITY_GATEWAY_MODE", ["full", "health_only"]),
        ("UA_CAPABILITY_HEARTBEAT_SCOPE", ["global", "local"]),
        ("UA_CAPABILITY_DELEGATION_MODE", ["publish_and_listen", "listen_only", "disabled"]),
    ],
)
def test_an_override_that_is_no_choice_refuses_the_start_and_names_what_is_allowed(
    name: str, allowed: list[str]
) -> None:
    with pytest.raises(SettingsError) as refused:
        policy(WORKER, **{name: "everything"})

    [problem] = refused.value.problems
    assert problem.startswith(name)
    assert all(f"'{word}'" in problem for word in [*allowed, "everything"])


@pytest.mark.parametrize("name", ["START_UI", "TELEGRAM_POLL", "CSI_INGEST", "AGENTMAIL"])
def test_a_flag_that_says_nothing_leaves_the_role_its_own_value(name: str) -> None:
    """E-2."""
    for role in (HQ, WORKER, STANDALONE):
        for word in ("", "  ", "perhaps", "yes please"):
            assert policy(role, **{f"UA_CAPABILITY_{name}": word}) == policy(role)


def test_telegram_on_a_standalone_node_is_the_environments_choice() -> None:
    assert policy(STANDALONE, UA_STANDALONE_ENABLE_TELEGRAM_POLL="1").enable_telegram_poll
    assert not policy(
        STANDALONE, UA_STANDALONE_ENABLE_TELEGRAM_POLL="1", UA_CAPABILITY_TELEGRAM_POLL="0"
    ).enable_telegram_poll
    assert not policy(WORKER, UA_STANDALONE_ENABLE_TELEGRAM_POLL="1").enable_telegram_poll
    assert policy(HQ, UA_STANDALONE_ENABLE_TELEGRAM_POLL="0").enable_telegram_poll


def test_nothing_makes_a_worker_poll_telegram_publish_or_open_the_ledger() -> None:
    """E-7, and the alarm that says so."""
    environ = {
        "FACTORY_ROLE": WORKER,
        "UA_CAPABILITY_TELEGRAM_POLL": "1",
        "UA_CAPABILITY_DELEGATION_MODE": "publish_and_listen",
        "DATABASE_URL": "postgresql://u:pw@127.0.0.1/ledger",
        "UA_RESULT_BACKEND_URL": "postgresql://f:pw@127.0.0.1/mailbox",
    }
    settings = load_settings(environ)

    assert not settings.policy.enable_telegram_poll
    assert settings.policy.delegation_mode == "listen_only"
    assert settings.database_url is None
    assert settings.mailbox_url == "postgresql://f:pw@127.0.0.1/mailbox"
    assert {alarm.split()[0] for alarm in alarms_about(environ, settings)} == {
        "DATABASE_URL",
        "UA_CAPABILITY_TELEGRAM_POLL",
        "UA_CAPABILITY_DELEGATION_MODE",
    }


@pytest.mark.parametrize(
    ("environ", "coder"),
    [
        ({}, True),
        ({"ENABLE_VP_CODER": "0"}, False),
        ({"ENABLE_VP_CODER": "1", "UA_DISABLE_CODER_VP": "1", "UA_ENABLE_CODER_VP": "0"}, True),
        ({"ENABLE_VP_CODER": "junk", "UA_DISABLE_CODER_VP": "yes"}, False),
        ({"UA_DISABLE_CODER_VP": "yes", "UA_ENABLE_CODER_VP": "yes"}, False),
        ({"UA_DISABLE_CODER_VP": "no", "UA_ENABLE_CODER_VP": "no"}, False),
        ({"UA_DISABLE_CODER_VP": "no"}, True),
        ({"UA_ENABLE_CODER_VP": "off"}, False),
        ({"UA_VP_ENABLED_IDS": "vp.general.primary", "ENABLE_VP_CODER": "1"}, False),
        ({"UA_VP_ENABLED_IDS": " vp.coder.primary , "}, True),
    ],
)
def test_the_coder_is_switched_in_the_order_of_the_contract(environ: dict[str, str], coder: bool) -> None:
    """E-8."""
    assert [policy(role, **environ).enable_vp_coder for role in (HQ, WORKER, STANDALONE)] == [coder] * 3


def test_the_generalist_has_its_own_switch() -> None:
    assert policy(WORKER).enable_vp_general
    assert not policy(WORKER, ENABLE_VP_GENERAL="off").enable_vp_general
    assert not policy(WORKER, UA_VP_ENABLED_IDS="vp.coder.primary").enable_vp_general


@pytest.mark.parametrize(
    ("label", "role", "environ", "permitted"),
    [
        ("vp_coder", HQ, {}, True),
        ("vp_coder", WORKER, {}, True),
        ("vp_coder", STANDALONE, {}, False),
        ("vp_coder", STANDALONE, {"UA_CAPABILITY_DELEGATION_MODE": "listen_only"}, True),
        ("vp_coder", HQ, {"ENABLE_VP_CODER": "no"}, False),
        ("vp_coder", WORKER, {"ENABLE_VP_CODER": "no"}, False),
        ("vp_general", HQ, {}, False),
        ("vp_general", WORKER, {}, True),
        ("vp_general", WORKER, {"ENABLE_VP_GENERAL": "no"}, False),
        ("tutorial_bootstrap_consumer", HQ, {}, False),
        ("tutorial_bootstrap_consumer", WORKER, {}, True),
        ("tutorial_bootstrap_consumer", STANDALONE, {"UA_CAPABILITY_DELEGATION_MODE": "listen_only"}, False),
        ("kind:greet", HQ, {}, True),
        ("kind:greet", WORKER, {}, True),
        ("kind:greet", WORKER, {"UA_CAPABILITY_DELEGATION_MODE": "disabled"}, False),
    ],
)
def test_role_and_switches_decide_which_missions_a_node_may_be_given(
    label: str, role: str, environ: dict[str, str], permitted: bool
) -> None:
    assert permits(policy(role, **environ), label) is permitted


def test_the_snapshot_of_a_beat_is_as_the_contract_shows_it() -> None:
    assert policy(WORKER).snapshot() == {
        "factory_role": "LOCAL_WORKER",
        "gateway_mode": "health_only",
        "delegation_mode": "listen_only",
        "heartbeat_scope": "local",
        "start_ui": False,
        "enable_telegram_poll": False,
        "enable_csi_ingest": False,
        "enable_agentmail": False,
        "can_publish_delegations": False,
        "can_listen_delegations": True,
    }
