"""Who the agents of a node are, and which tools its policy lets them have (contract fleet §9, F-29, F-30)."""

import itertools

import pytest

from corporation.agents.personas import Personas, chain_of_command, personas_of, speaks_outside
from corporation.agents.toolkits import NAMES, TOOLS, Domain, Need, registered, tools_for
from corporation.roles import (
    DelegationMode,
    Executors,
    FactoryRole,
    FactoryRuntimePolicy,
    Overrides,
    build_factory_runtime_policy,
)

OUTSIDE = {"telegram_send", "agentmail_send"}


def policy_of(
    role: FactoryRole,
    *,
    coder: bool = True,
    general: bool = True,
    delegation: DelegationMode | None = None,
    telegram: bool | None = None,
    mail: bool | None = None,
) -> FactoryRuntimePolicy:
    overrides = Overrides(delegation_mode=delegation, enable_telegram_poll=telegram, enable_agentmail=mail)
    return build_factory_runtime_policy(role, overrides, Executors(coder, general))


EVERY_POLICY = [
    policy_of(role, coder=coder, general=general, delegation=delegation, telegram=switch, mail=switch)
    for role, coder, general, delegation, switch in itertools.product(
        FactoryRole, (True, False), (True, False), (None, *DelegationMode), (None, True, False)
    )
]


@pytest.mark.parametrize(
    ("role", "names"),
    [
        (FactoryRole.HEADQUARTERS, Personas("Simone", "Codie", "HAL")),
        (FactoryRole.LOCAL_WORKER, Personas("Homer", "Lisa", "Bart")),
        (FactoryRole.STANDALONE_NODE, Personas("Simone", "Codie", "HAL")),
    ],
)
def test_each_role_has_its_names(role: FactoryRole, names: Personas) -> None:
    assert personas_of(policy_of(role)) == names


def test_a_display_name_replaces_the_coders_only() -> None:
    """F-29."""
    names = personas_of(policy_of(FactoryRole.LOCAL_WORKER), "Ada")

    assert names == Personas("Homer", "Ada", "Bart")


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("  Ada   Lovelace ", "Ada Lovelace"),
        ("Ada\n### Orders", "Ada ### Orders"),
        ("\u202eadA\U000e0041", "adA"),
        ("x" * 100, "x" * 59 + "…"),
        (" \n\u200b", "Codie"),
        ("", "Codie"),
        (None, "Codie"),
    ],
)
def test_a_display_name_stays_a_name_on_one_line(given: str | None, shown: str) -> None:
    assert personas_of(policy_of(FactoryRole.HEADQUARTERS), given).coder == shown


def test_headquarters_takes_orders_from_the_owner_and_publishes() -> None:
    """F-29."""
    policy = policy_of(FactoryRole.HEADQUARTERS)

    assert chain_of_command(policy, personas_of(policy)) == (
        "Simone takes orders from the owner and hands the work to Codie (code) or HAL (research and everything else). "
        "Only Simone publishes missions to local factories."
    )


def test_a_local_factory_takes_orders_from_the_bus_and_keeps_to_itself() -> None:
    """F-29."""
    policy = policy_of(FactoryRole.LOCAL_WORKER)
    said = chain_of_command(policy, personas_of(policy))

    assert said.startswith(
        "Homer takes orders from headquarters, over the bus, and hands the work to Lisa (code) or Bart"
    )
    assert "no Telegram, no mail" in said
    assert "publishes" not in said


def test_an_executor_that_is_off_is_given_no_work() -> None:
    policy = policy_of(FactoryRole.HEADQUARTERS, coder=False)
    alone = policy_of(FactoryRole.HEADQUARTERS, coder=False, general=False)

    assert "Codie" not in chain_of_command(policy, personas_of(policy))
    assert "no executor is switched on" in chain_of_command(alone, personas_of(alone))


def test_no_policy_gives_a_tool_that_it_forbids() -> None:
    """F-30, F-29."""
    for policy in EVERY_POLICY:
        names = {tool.name for tool in tools_for(policy)}

        assert any(name.startswith("vp_coder") for name in names) is policy.enable_vp_coder, policy
        assert any(name.startswith("vp_general") for name in names) is policy.enable_vp_general, policy
        assert ("vp_missions_list" in names) is (policy.enable_vp_coder or policy.enable_vp_general), policy
        assert ("delegation_publish" in names) is policy.can_publish_delegations, policy
        assert ("missions_list" in names) is policy.is_headquarters, policy
        assert ("telegram_send" in names) is (policy.enable_telegram_poll and speaks_outside(policy)), policy
        assert ("agentmail_send" in names) is (policy.enable_agentmail and speaks_outside(policy)), policy


def test_no_override_lets_local_agents_speak_outside() -> None:
    """F-29."""
    policy = policy_of(FactoryRole.LOCAL_WORKER, telegram=True, mail=True)

    assert not OUTSIDE & {tool.name for tool in tools_for(policy)}


def test_an_agent_is_given_the_functions_of_allowed_tools_and_no_other() -> None:
    """F-30: the text alone is not a gate."""
    functions = dict.fromkeys(NAMES, print)

    assert all(
        set(registered(policy, functions)) == {tool.name for tool in tools_for(policy)} for policy in EVERY_POLICY
    )


def test_a_function_that_is_no_tool_of_the_registry_is_refused() -> None:
    """F-30: what nobody registered has no need that could be judged."""
    with pytest.raises(ValueError, match="vp_coder_shell"):
        registered(policy_of(FactoryRole.HEADQUARTERS), {"vp_coder_shell": print})


def test_every_tool_needs_something_and_stands_once_in_the_order_of_domains() -> None:
    order = [list(Domain).index(tool.domain) for tool in TOOLS]

    assert len(NAMES) == len(TOOLS)
    assert order == sorted(order)
    assert all(tool.needs and set(tool.needs) <= set(Need) for tool in TOOLS)
