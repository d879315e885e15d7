"""Which processes a node runs, and what a person reads about it: every cell, with and without overrides."""

import pytest

from corporation.embedded.stack_components import NO_REDIS, Component, TelegramFacts, components_of, left_out, row_of
from corporation.embedded.stack_shape import ROLES, Shape, parts_of, role_of, shape_of_role
from corporation.roles import (
    POLICIES,
    DelegationMode,
    Executors,
    FactoryRole,
    GatewayMode,
    Overrides,
    build_factory_runtime_policy,
)

HQ, WORKER, STANDALONE = FactoryRole.HEADQUARTERS, FactoryRole.LOCAL_WORKER, FactoryRole.STANDALONE_NODE
POLLABLE = TelegramFacts(token=True, allowed_users=True)
NOBODY = TelegramFacts()
DISABLED = Overrides(delegation_mode=DelegationMode.DISABLED)
LISTENING = Overrides(delegation_mode=DelegationMode.LISTEN_ONLY)
PUBLISHING = Overrides(delegation_mode=DelegationMode.PUBLISH_AND_LISTEN)
POLLING = Overrides(enable_telegram_poll=True)


def row_for(role: FactoryRole, overrides: Overrides | None, telegram: TelegramFacts) -> list[Component]:
    return components_of(build_factory_runtime_policy(role, overrides), shape_of_role(role), telegram)


def running(role: FactoryRole, overrides: Overrides | None, telegram: TelegramFacts) -> str:
    return " ".join(one.name for one in row_for(role, overrides, telegram) if one.on)


@pytest.mark.parametrize(
    ("role", "overrides", "telegram", "expected"),
    [
        (HQ, None, NOBODY, "api engine hq-worker control beat flower"),
        (HQ, None, POLLABLE, "api engine hq-worker control beat telegram flower"),
        (HQ, Overrides(enable_telegram_poll=False), POLLABLE, "api engine hq-worker control beat flower"),
        (HQ, DISABLED, NOBODY, "api control beat flower"),
        (HQ, LISTENING, NOBODY, "api engine hq-worker control beat flower"),
        (HQ, Overrides(gateway_mode=GatewayMode.HEALTH_ONLY), NOBODY, "api engine hq-worker control beat flower"),
        (WORKER, None, NOBODY, "api factory-worker pull control beat"),
        (WORKER, POLLING, POLLABLE, "api factory-worker pull control beat"),
        (WORKER, DISABLED, NOBODY, "api control beat"),
        (WORKER, PUBLISHING, NOBODY, "api factory-worker pull control beat"),
        (WORKER, Overrides(standalone_telegram_poll=True), POLLABLE, "api factory-worker pull control beat"),
        (STANDALONE, None, POLLABLE, "api control beat flower"),
        (STANDALONE, Overrides(standalone_telegram_poll=True), POLLABLE, "api control beat telegram flower"),
        (STANDALONE, Overrides(standalone_telegram_poll=True), NOBODY, "api control beat flower"),
        (STANDALONE, POLLING, POLLABLE, "api control beat telegram flower"),
        (STANDALONE, LISTENING, NOBODY, "api node-worker control beat flower"),
        (STANDALONE, PUBLISHING, NOBODY, "api engine node-worker control beat flower"),
    ],
)
def test_the_policy_alone_decides_which_processes_run(
    role: FactoryRole, overrides: Overrides | None, telegram: TelegramFacts, expected: str
) -> None:
    assert running(role, overrides, telegram) == expected


def test_a_whole_stack_is_an_hq_and_a_factory_whose_api_is_headquarters_own() -> None:
    rows = {role: components_of(POLICIES[role], Shape.WHOLE) for role in parts_of(Shape.WHOLE)}

    assert [one.name for one in rows[HQ] if one.on] == ["api", "engine", "hq-worker", "flower"]
    assert [one.name for one in rows[WORKER] if one.on] == ["factory-worker", "pull", "control", "beat"]


def test_a_factory_without_a_broker_only_asks_and_every_other_process_says_why_it_is_left_out() -> None:
    rows = components_of(POLICIES[WORKER], Shape.WORKER, over_redis=False)

    assert [one.name for one in rows if one.on] == ["api", "pull"]
    assert {one.name for one in rows if one.why == NO_REDIS} == {"factory-worker", "control", "beat"}


@pytest.mark.parametrize("role", [HQ, STANDALONE])
def test_only_a_factory_can_do_without_a_broker(role: FactoryRole) -> None:
    shape = shape_of_role(role)

    assert components_of(POLICIES[role], shape, over_redis=False) == components_of(POLICIES[role], shape)


@pytest.mark.parametrize("role", list(FactoryRole))
def test_executors_change_no_process(role: FactoryRole) -> None:
    policy = build_factory_runtime_policy(role, None, Executors(coder=False, general=False))

    assert components_of(policy, shape_of_role(role)) == components_of(POLICIES[role], shape_of_role(role))


@pytest.mark.parametrize("role", list(FactoryRole))
def test_what_does_not_run_says_why(role: FactoryRole) -> None:
    absent = [one for one in row_for(role, DISABLED, NOBODY) if not one.on]

    assert absent
    assert all(one.why for one in absent)


@pytest.mark.parametrize(
    ("role", "overrides", "telegram", "why"),
    [
        (HQ, None, NOBODY, "TELEGRAM_BOT_TOKEN is not set"),
        (HQ, None, TelegramFacts(token=True), "TELEGRAM_ALLOWED_USER_IDS is not set"),
        (HQ, Overrides(enable_telegram_poll=False), POLLABLE, "UA_CAPABILITY_TELEGRAM_POLL says no"),
        (WORKER, POLLING, POLLABLE, "a LOCAL_WORKER never polls"),
        (STANDALONE, None, POLLABLE, "UA_STANDALONE_ENABLE_TELEGRAM_POLL"),
    ],
)
def test_a_poller_that_is_not_started_says_what_would_start_it(
    role: FactoryRole, overrides: Overrides | None, telegram: TelegramFacts, why: str
) -> None:
    policy = build_factory_runtime_policy(role, overrides)
    line = row_of(policy, components_of(policy, shape_of_role(role), telegram))

    assert f"Telegram no ({why}" in line


def test_the_row_of_headquarters_shows_every_cell() -> None:
    policy = build_factory_runtime_policy(HQ, None, Executors(coder=False))

    assert row_of(policy, components_of(policy, Shape.HQ, POLLABLE)) == (
        "HEADQUARTERS: gateway full · UI yes · Telegram yes · heartbeat global · delegation publish_and_listen · "
        "VP coder off · VP general on · CSI ingest on · AgentMail on"
    )


@pytest.mark.parametrize(
    ("role", "overrides", "served"),
    [
        (HQ, Overrides(gateway_mode=GatewayMode.HEALTH_ONLY), "UI no (the gateway is health_only) ·"),
        (HQ, Overrides(start_ui=False), "UI no ·"),
        (WORKER, None, "UI no ·"),
        (WORKER, Overrides(start_ui=True), "UI no (the gateway is health_only) ·"),
        (WORKER, Overrides(start_ui=True, gateway_mode=GatewayMode.FULL), "UI no (a LOCAL_WORKER has no ledger) ·"),
        (STANDALONE, None, "UI yes ·"),
    ],
)
def test_the_row_shows_the_pages_that_are_served(role: FactoryRole, overrides: Overrides | None, served: str) -> None:
    policy = build_factory_runtime_policy(role, overrides)

    assert served in row_of(policy, components_of(policy, shape_of_role(role)))


def test_a_standalone_node_says_what_it_leaves_out() -> None:
    line = left_out(components_of(POLICIES[STANDALONE], Shape.STANDALONE))

    assert line.startswith("Not started: engine (delegation is disabled")
    assert "node-worker (" in line


@pytest.mark.parametrize("shape", list(Shape))
def test_each_process_of_a_stack_belongs_to_one_node(shape: Shape) -> None:
    names = [name for of in parts_of(shape).values() for name in of]

    assert len(set(names)) == len(names)
    assert all(role_of(name, shape) is role for role, of in parts_of(shape).items() for name in of)
    assert ROLES[shape] in parts_of(shape)
