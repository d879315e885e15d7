"""Which nodes may poll Telegram, and what they are told when something is missing (E-3, E-7)."""

import pytest
from canary import secret, shows

from corporation.settings import Settings, load_settings
from hq_api.telegram_rules import problems_with

COMPLETE = {
    "UA_DATABASE_URL": "postgresql://ledger@127.0.0.1/ledger",
    "TELEGRAM_BOT_TOKEN": f"123456:{secret('telegram')}",
    "TELEGRAM_ALLOWED_USER_IDS": "77,78",
}


def settings(**changes: str) -> Settings:
    return load_settings(COMPLETE | changes)


@pytest.mark.parametrize(
    "ours",
    [
        {},
        {"FACTORY_ROLE": "HEADQUARTERS"},
        {"FACTORY_ROLE": "STANDALONE_NODE", "UA_STANDALONE_ENABLE_TELEGRAM_POLL": "yes"},
        {"FACTORY_ROLE": "STANDALONE_NODE", "UA_CAPABILITY_TELEGRAM_POLL": "1"},
    ],
)
def test_a_complete_node_whose_policy_polls_has_no_problem(ours: dict[str, str]) -> None:
    assert problems_with(settings(**ours)) == []


@pytest.mark.parametrize(
    ("ours", "way_out"),
    [
        ({"FACTORY_ROLE": "LOCAL_WORKER"}, "no setting changes that"),
        ({"FACTORY_ROLE": "LOCAL_WORKER", "UA_CAPABILITY_TELEGRAM_POLL": "1"}, "no setting changes that"),
        ({"FACTORY_ROLE": "LOCAL_WORKER", "UA_STANDALONE_ENABLE_TELEGRAM_POLL": "1"}, "no setting changes that"),
        ({"FACTORY_ROLE": "nonsense"}, "no setting changes that"),
        ({"FACTORY_ROLE": "STANDALONE_NODE"}, "UA_STANDALONE_ENABLE_TELEGRAM_POLL"),
        ({"FACTORY_ROLE": "HEADQUARTERS", "UA_CAPABILITY_TELEGRAM_POLL": "0"}, "UA_CAPABILITY_TELEGRAM_POLL"),
    ],
)
def test_a_node_that_may_not_poll_is_told_its_role_and_the_way_out_in_one_line(
    ours: dict[str, str], way_out: str
) -> None:
    """E-7: a LOCAL_WORKER never polls, whatever else is set."""
    node = settings(**ours)

    [problem] = problems_with(node)
    assert node.policy.factory_role in problem
    assert way_out in problem


def test_all_that_is_missing_is_named_at_once() -> None:
    """E-3"""
    named = [problem.split(maxsplit=1)[0] for problem in problems_with(load_settings({}))]

    assert named == ["UA_DATABASE_URL", "TELEGRAM_BOT_TOKEN", "TELEGRAM_ALLOWED_USER_IDS"]


@pytest.mark.parametrize("slip", ["\n", "/", "?x=", " ", "#"])
def test_a_token_that_would_change_the_address_is_refused_and_not_shown(slip: str) -> None:
    [problem] = problems_with(settings(TELEGRAM_BOT_TOKEN=f"123456:{secret('telegram')}{slip}x"))

    assert problem.startswith("TELEGRAM_BOT_TOKEN:")
    assert not shows(problem)


@pytest.mark.parametrize("address", ["https://telegram.example", "http://127.0.0.1:8081", "http://[::1]:8081"])
def test_the_token_travels_encrypted_or_within_this_machine(address: str) -> None:
    assert problems_with(settings(UA_TELEGRAM_API_URL=address)) == []


@pytest.mark.parametrize("address", ["http://telegram.example", "http://10.8.0.1:8081", "http://127.0.0.1.example"])
def test_an_address_that_would_show_the_token_to_the_network_is_refused(address: str) -> None:
    [problem] = problems_with(settings(UA_TELEGRAM_API_URL=address))

    assert problem.startswith("UA_TELEGRAM_API_URL:")
