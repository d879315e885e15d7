"""What a stack writes down for its next run: all it needs, and nothing secret that somebody else keeps."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from canary import secret, shows

from corporation.embedded.stack_environment import Stack
from corporation.embedded.stack_facts import facts_of, from_facts, given_secrets, with_given
from corporation.embedded.stack_shape import Shape
from corporation.shown_address import shown, without_password

STACK = Stack(
    state=Path("/state"),
    python="/venv/bin/python",
    host="desk",
    redis_url="redis://:own@127.0.0.1:6379/0",
    database_url="postgresql://u:own@127.0.0.1:5432/corporation",
    gateway_port=8002,
    flower_port=5555,
    ops_token="made-here",
    jwt_secret="made-here-too",
    flower_password="and-this",
    inherited={},
    factory_credential="issued-here",
    redis_passwords={"corporation_api": "made-here-for-the-api"},
    mailbox_url="postgresql://f_desk:own@127.0.0.1:5432/corporation",
    mission_signing_key="made-here-as-well",
    mission_key="public",
)
REDIS = f"redis://:{secret('facts-redis')}@10.8.0.1:6379/0"
DATABASE = f"postgresql://ledger:{secret('facts-database')}@10.8.0.1/ledger"
HQ = f"https://proxy:{secret('facts-hq')}@hq.example"


@pytest.mark.parametrize("shape", list(Shape))
def test_the_facts_of_a_stack_can_be_read_back(shape: Shape) -> None:
    stack = replace(STACK, shape=shape, hq_given="https://hq.example", node_name="n")

    assert from_facts(stack.state, facts_of(stack, {}), {}) == stack


def test_facts_of_an_older_version_are_a_whole_stack() -> None:
    newer = (
        *("shape", "factory_credential", "node_name", "queue_name", "hq_given", "redis_passwords"),
        *("redis_password_file", "mailbox_url", "mission_signing_key", "mission_key"),
    )
    facts = {name: value for name, value in facts_of(STACK, {}).items() if name not in newer}

    assert from_facts(STACK.state, facts, {}) == replace(
        STACK, factory_credential="", redis_passwords={}, mailbox_url="", mission_signing_key="", mission_key=""
    )


def test_passwords_that_are_no_table_are_no_stack() -> None:
    assert from_facts(STACK.state, facts_of(STACK, {}) | {"redis_passwords": "x"}, {}) is None


@pytest.mark.parametrize("missing", ["redis_url", "ops_token", "gateway_port"])
def test_facts_that_are_not_whole_are_no_stack(missing: str) -> None:
    facts = facts_of(STACK, {})
    del facts[missing]

    assert from_facts(STACK.state, facts, {}) is None


def test_a_signing_key_that_the_environment_gave_is_not_written_down() -> None:
    environ = {"UA_MISSION_SIGNING_KEY": secret("facts-signing")}
    facts = facts_of(replace(STACK, mission_signing_key=secret("facts-signing")), environ)
    kept = from_facts(STACK.state, facts, {})

    assert not shows(json.dumps(facts))
    assert kept
    assert with_given(kept, environ).mission_signing_key == secret("facts-signing")


def test_a_secret_that_the_environment_gave_is_taken_from_there_again() -> None:
    kept_out = replace(STACK, ops_token="")
    environ = {"UA_OPS_TOKEN": secret("given"), "UA_OPS_JWT_SECRET": secret("other")}

    stack = with_given(kept_out, environ)

    assert given_secrets(environ) == {"ops_token": secret("given"), "jwt_secret": secret("other")}
    assert (stack.ops_token, stack.jwt_secret) == (secret("given"), STACK.jwt_secret)


@pytest.mark.parametrize(
    ("shape", "redis", "database"),
    [
        (Shape.HQ, {"UA_REDIS_URL": REDIS}, {"UA_DATABASE_URL": DATABASE}),
        (
            Shape.STANDALONE,
            {"UA_REDIS_HOST": "10.8.0.1", "REDIS_PASSWORD": secret("facts-redis")},
            {"DATABASE_URL": DATABASE},
        ),
        (Shape.WORKER, {"UA_REDIS_URL": REDIS}, {"UA_RESULT_BACKEND_URL": DATABASE}),
    ],
)
def test_given_passwords_are_not_written_down_and_are_taken_from_the_environment_again(
    shape: Shape, redis: dict[str, str], database: dict[str, str]
) -> None:
    """E-4"""
    environ = {**redis, **database, "UA_OPS_TOKEN": secret("facts-ops"), "UA_HQ_BASE_URL": HQ}
    hq = "" if shape is Shape.HQ else HQ
    stack = replace(
        STACK, shape=shape, redis_url=REDIS, database_url=DATABASE, hq_given=hq, ops_token=secret("facts-ops")
    )

    facts = facts_of(stack, environ)
    kept = from_facts(stack.state, facts, {})

    assert not shows(json.dumps(facts))
    assert facts["redis_url"] == "redis://10.8.0.1:6379/0"
    assert kept
    assert with_given(kept, environ) == stack


def test_the_passwords_of_our_own_servers_are_kept_since_nobody_else_has_them() -> None:
    facts = facts_of(STACK, {"UA_OPS_TOKEN": "t"})

    assert (facts["redis_url"], facts["database_url"]) == (STACK.redis_url, STACK.database_url)
    assert facts["ops_token"] == STACK.ops_token


def test_the_password_of_another_server_is_not_put_into_an_address() -> None:
    kept = replace(STACK, redis_url=without_password(REDIS))

    assert with_given(kept, {"UA_REDIS_URL": "redis://:pw@10.8.0.2:6379/0"}) == kept


@pytest.mark.parametrize("environ", [{}, {"UA_REDIS_HOST": "h", "UA_REDIS_PORT": "x"}, {"UA_REDIS_URL": "redis://[x"}])
def test_an_environment_that_gives_no_address_completes_nothing(environ: dict[str, str]) -> None:
    assert with_given(STACK, environ) == STACK


@pytest.mark.parametrize(
    ("address", "seen", "kept"),
    [
        ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
        ("redis://:pw@[::1]:1/0", "redis://:***@[::1]:1/0", "redis://[::1]:1/0"),
        ("postgresql://u:p@ss@h/db", "postgresql://u:***@h/db", "postgresql://u@h/db"),
        ("postgresql://u:p\nss@h/db", "postgresql://u:***@h/db", "postgresql://u@h/db"),
        ("postgresql:///db?host=/run", "postgresql:///db?host=/run", "postgresql:///db?host=/run"),
        ("postgresql://u:12/secret@h/db", "an address that cannot be read", ""),
        ("postgresql://u:[secret@h/db", "an address that cannot be read", ""),
        ("postgresql://u:1?secret@h/db", "an address that cannot be read", ""),
        ("secret@h", "an address that cannot be read", ""),
        ("", "", ""),
    ],
)
def test_an_address_is_shown_and_kept_without_its_password_and_an_odd_one_not_at_all(
    address: str, seen: str, kept: str
) -> None:
    assert (shown(address), without_password(address), without_password(kept)) == (seen, kept, kept)
