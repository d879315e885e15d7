"""What each process of a stack may see: what it needs, and nothing that is not its business."""

from pathlib import Path

import pytest

from corporation.embedded.stack_environment import (
    FACTORY_PROCESSES,
    HQ_PROCESSES,
    Stack,
    environment_of,
    from_facts,
    inherited_from,
)
from corporation.embedded.stack_plan import plan_of
from corporation.settings import load_settings

STACK = Stack(
    state=Path("/state"),
    python="/venv/bin/python",
    host="desk",
    redis_url="redis://:pw-of-redis@127.0.0.1:6379/0",
    database_url="postgresql://u:pw-of-postgres@127.0.0.1:5432/corporation",
    gateway_port=8002,
    flower_port=5555,
    ops_token="the-ops-token-which-is-long-enough",
    jwt_secret="the-signing-secret-which-is-long-enough",
    flower_password="the-flower-password",
    inherited={},
)


@pytest.mark.parametrize("process", sorted(FACTORY_PROCESSES))
def test_the_factory_sees_neither_the_ledger_variable_nor_the_signing_secret(process: str) -> None:
    environment = environment_of(process, STACK)

    assert "UA_DATABASE_URL" not in environment
    assert STACK.jwt_secret not in environment.values()


@pytest.mark.parametrize("process", sorted(HQ_PROCESSES | FACTORY_PROCESSES))
def test_every_process_gets_settings_that_load(process: str) -> None:
    settings = load_settings(environment_of(process, STACK))

    assert settings.factory_id == ("desk-hq" if process in HQ_PROCESSES else "desk")
    assert settings.mailbox_url == STACK.database_url


def test_only_what_is_allowed_is_inherited() -> None:
    environ = {"PATH": "/bin", "HOME": "/h", "AWS_SECRET_ACCESS_KEY": "x", "UA_OPS_TOKEN": "y", "LANG": ""}

    assert inherited_from(environ) == {"PATH": "/bin", "HOME": "/h"}


def test_the_keys_of_models_reach_the_factory_and_not_headquarters() -> None:
    stack = Stack(**{**vars(STACK), "inherited": {"OPENAI_API_KEY": "k", "PATH": "/bin"}})

    assert environment_of("factory-worker", stack)["OPENAI_API_KEY"] == "k"
    assert "OPENAI_API_KEY" not in environment_of("engine", stack)
    assert environment_of("engine", stack)["PATH"] == "/bin"


def test_a_person_may_tune_a_run() -> None:
    stack = Stack(**{**vars(STACK), "inherited": {"UA_HEARTBEAT_INTERVAL_SECONDS": "30", "UA_FACTORY_SLOTS": "4"}})

    assert environment_of("beat", stack)["UA_HEARTBEAT_INTERVAL_SECONDS"] == "30"
    assert environment_of("factory-worker", stack)["UA_FACTORY_SLOTS"] == "4"


def test_the_facts_of_a_stack_can_be_read_back() -> None:
    assert from_facts(STACK.state, STACK.to_facts(), {}) == STACK


@pytest.mark.parametrize("missing", ["redis_url", "ops_token", "gateway_port"])
def test_facts_that_are_not_whole_are_no_stack(missing: str) -> None:
    facts = STACK.to_facts()
    del facts[missing]

    assert from_facts(STACK.state, facts, {}) is None


def test_no_secret_is_on_a_command_line() -> None:
    secrets = (STACK.ops_token, STACK.jwt_secret, STACK.flower_password, "pw-of-redis", "pw-of-postgres")

    words = [word for plan in plan_of(STACK) for word in plan.argv]

    assert not [word for word in words for secret in secrets if secret in word]


def test_the_plan_names_every_process_once_and_needs_only_what_it_has() -> None:
    names = [plan.name for plan in plan_of(STACK)]

    assert sorted(names) == sorted(HQ_PROCESSES | FACTORY_PROCESSES)
    assert all(set(plan.needs) <= set(names) for plan in plan_of(STACK))


def test_flower_gets_its_password_through_the_environment() -> None:
    assert environment_of("flower", STACK)["FLOWER_BASIC_AUTH"] == "corporation:the-flower-password"
    assert "FLOWER_BASIC_AUTH" not in environment_of("api", STACK)
