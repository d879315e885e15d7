"""What each process of a stack may see: what it needs, and nothing that is not its business."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from canary import secret

from corporation.embedded.stack_environment import (
    LOADS_NO_SECRETS,
    Stack,
    environment_of,
    inherited_from,
    operators_variables,
    variables_of,
)
from corporation.embedded.stack_plan import plan_of
from corporation.embedded.stack_shape import ROLES, Shape, role_of
from corporation.roles import FactoryRole
from corporation.settings import load_settings

MODEL_KEYS = {name: secret(name) for name in ("ANTHROPIC_API_KEY", "OPENAI_API_KEY", "ZAI_API_KEY", "XAI_API_KEY")}
TELEGRAM = {"TELEGRAM_BOT_TOKEN": secret("bot"), "TELEGRAM_ALLOWED_USER_IDS": "7"}
LAUNCHER = {
    **MODEL_KEYS,
    **TELEGRAM,
    "PATH": "/bin",
    "UA_INTERNAL_API_TOKEN": secret("internal"),
    "UA_CAPABILITY_GATEWAY_MODE": "full",
    "UA_DEPLOYMENT_PROFILE": "vps",
}
STACK = Stack(
    state=Path("/state"),
    python="/venv/bin/python",
    host="desk",
    redis_url="redis://:pw-of-redis@127.0.0.1:6379/0",
    database_url="postgresql://u:pw-of-postgres@127.0.0.1:5432/corporation",
    gateway_port=8002,
    flower_port=5555,
    ops_token=secret("ops"),
    jwt_secret=secret("jwt"),
    flower_password=secret("flower"),
    inherited={},
    factory_credential=secret("credential"),
)
GREETINGS = """
from corporation.missions.outcomes import Done, Outcome
from factory_tasks.handlers import Mission, handles


@handles("greet")
def greet(mission: Mission) -> Outcome:
    return Done({"said": mission.task})
"""
LOAD = """
from factory_tasks.app import app
from factory_tasks.handlers import registered
from factory_tasks.node import node

app.loader.import_default_modules()
print(*registered(node().settings.policy))
"""
"""What `celery -A factory_tasks worker` does first, and the kinds that it would take."""
FACTORY = ("factory-worker", "pull", "control", "beat")
USERS = ("corporation_engine", "corporation_api", "corporation_flower", "f_desk", "f_desk-hq", "f_desk-node")
OWN_SERVERS = replace(
    STACK,
    redis_passwords={user: secret(f"redis-{user}") for user in USERS},
    mailbox_url="postgresql://f_desk:pw-of-mailbox@127.0.0.1:5432/corporation",
    mission_signing_key=secret("signing"),
    mission_key="its-public-half",
)
"""A stack that started Valkey and PostgreSQL itself."""


def stack_of(shape: Shape, **changes: object) -> Stack:
    far = {} if ROLES[shape] is FactoryRole.HEADQUARTERS else {"hq_given": "https://hq.example"}
    return replace(STACK, shape=shape, inherited=inherited_from(LAUNCHER), **(far | changes))


CASES = [(shape, process) for shape in Shape for process in stack_of(shape).running]


def seen_by(value: str, shape: Shape) -> set[str]:
    stack = stack_of(shape)
    return {process for process in stack.running if value in environment_of(process, stack).values()}


@pytest.mark.parametrize("process", FACTORY)
def test_the_factory_sees_neither_the_ledger_variable_nor_the_signing_secret(process: str) -> None:
    environment = environment_of(process, STACK)

    assert "UA_DATABASE_URL" not in environment
    assert STACK.jwt_secret not in environment.values()


@pytest.mark.parametrize("shape", [Shape.WHOLE, Shape.WORKER])
def test_a_factory_proves_itself_with_its_own_credential_and_never_sees_the_operators_token(shape: Shape) -> None:
    """H-21"""
    stack = stack_of(shape)

    for process in FACTORY:
        assert variables_of(process, stack)["UA_FACTORY_CREDENTIAL"] == STACK.factory_credential
        assert STACK.ops_token not in environment_of(process, stack).values()


def test_a_worker_without_a_credential_uses_the_token_it_was_given() -> None:
    stack = stack_of(Shape.WORKER, factory_credential="")

    assert variables_of("beat", stack)["UA_OPS_TOKEN"] == STACK.ops_token


@pytest.mark.parametrize("shape", [Shape.WHOLE, Shape.HQ, Shape.STANDALONE])
def test_the_signing_secret_is_the_apis_alone(shape: Shape) -> None:
    assert seen_by(STACK.jwt_secret, shape) == {"api"}
    assert seen_by(LAUNCHER["UA_INTERNAL_API_TOKEN"], shape) == {"api"}


@pytest.mark.parametrize("shape", [Shape.WHOLE, Shape.HQ, Shape.STANDALONE])
def test_the_telegram_token_is_the_pollers_alone(shape: Shape) -> None:
    assert seen_by(TELEGRAM["TELEGRAM_BOT_TOKEN"], shape) == {"telegram"}


@pytest.mark.parametrize(
    ("shape", "holders"),
    [
        (Shape.WHOLE, set(FACTORY)),
        (Shape.HQ, set[str]()),
        (Shape.WORKER, set(FACTORY)),
        (Shape.STANDALONE, {"node-worker"}),
    ],
)
def test_the_keys_of_models_are_only_where_agents_run_and_never_at_headquarters(
    shape: Shape, holders: set[str]
) -> None:
    for key in MODEL_KEYS.values():
        assert seen_by(key, shape) == holders


@pytest.mark.parametrize(("shape", "process"), CASES)
def test_every_process_gets_settings_that_load_and_knows_what_it_is(shape: Shape, process: str) -> None:
    settings = load_settings(environment_of(process, stack_of(shape)))

    assert settings.role is role_of(process, shape)
    assert (
        settings.factory_id
        == {"HEADQUARTERS": "desk-hq", "LOCAL_WORKER": "desk", "STANDALONE_NODE": "desk-node"}[settings.role]
    )
    assert settings.deployment_profile == "vps"


@pytest.mark.parametrize(("shape", "process"), CASES)
def test_no_process_loads_secrets_again_and_none_is_refused_for_it(shape: Shape, process: str) -> None:
    assert LOADS_NO_SECRETS.items() <= environment_of(process, stack_of(shape)).items()


@pytest.mark.parametrize("process", FACTORY)
def test_the_overrides_of_a_whole_stack_are_headquarters_own(process: str) -> None:
    whole, worker = stack_of(Shape.WHOLE), stack_of(Shape.WORKER)

    assert "UA_CAPABILITY_GATEWAY_MODE" not in environment_of(process, whole)
    assert environment_of("api", whole)["UA_CAPABILITY_GATEWAY_MODE"] == "full"
    assert environment_of(process, worker)["UA_CAPABILITY_GATEWAY_MODE"] == "full"


@pytest.mark.parametrize("process", ["factory-worker", "control", "beat"])
def test_a_factory_beside_its_headquarters_has_its_mailbox(process: str) -> None:
    assert load_settings(environment_of(process, STACK)).mailbox_url == STACK.database_url


def test_what_asks_over_https_knows_no_mailbox() -> None:
    assert load_settings(environment_of("pull", STACK)).mailbox_url is None
    assert environment_of("pull", STACK)["UA_VP_DB_PATH"] == environment_of("factory-worker", STACK)["UA_VP_DB_PATH"]


def test_a_factory_that_was_told_of_no_server_but_hq_has_no_address_of_one() -> None:
    stack = stack_of(Shape.WORKER, redis_url="", database_url="", processes=("pull",))
    [pull] = plan_of(stack)
    seen = environment_of("pull", stack)

    assert "--standby" not in pull.argv
    assert not {"UA_REDIS_URL", "UA_RESULT_BACKEND_URL", "UA_DATABASE_URL"} & seen.keys()


@pytest.mark.parametrize(
    ("shape", "users"),
    [
        (
            Shape.WHOLE,
            {
                "api": "corporation_api",
                "engine": "corporation_engine",
                "hq-worker": "f_desk-hq",
                "telegram": None,
                "flower": "corporation_flower",
                **dict.fromkeys(FACTORY, "f_desk"),
            },
        ),
        (Shape.HQ, {"hq-worker": "f_desk-hq", "control": "f_desk-hq", "beat": "f_desk-hq"}),
        (Shape.STANDALONE, {"api": "corporation_api", "node-worker": "f_desk-node", "control": "f_desk-node"}),
    ],
)
def test_at_our_own_redis_each_process_is_its_own_user(shape: Shape, users: dict[str, str | None]) -> None:
    stack = replace(OWN_SERVERS, shape=shape)
    for process, user in users.items():
        url = environment_of(process, stack).get("UA_REDIS_URL")
        password = OWN_SERVERS.redis_passwords.get(user or "")

        assert url == (f"redis://{user}:{password}@127.0.0.1:6379/0" if user else None), process


@pytest.mark.parametrize("shape", [Shape.WHOLE, Shape.HQ, Shape.STANDALONE])
def test_no_process_is_the_operator_of_our_own_redis_but_the_engine_where_it_makes_users(shape: Shape) -> None:
    stack = replace(OWN_SERVERS, shape=shape)
    holders = [
        (process, name)
        for process in stack.running
        for name, value in environment_of(process, stack).items()
        if "pw-of-redis" in value
    ]

    assert holders == [("engine", "UA_REDIS_ADMIN_URL")]
    assert operators_variables("api", stack)["UA_REDIS_URL"] == STACK.redis_url


def test_factories_that_join_our_own_redis_are_told_no_user_of_it() -> None:
    assert environment_of("api", OWN_SERVERS)["UA_FACTORY_REDIS_URL"] == "redis://127.0.0.1:6379/0"


def test_a_redis_of_others_is_one_address_for_all_and_so_is_the_file_with_its_password() -> None:
    stack = replace(STACK, redis_password_file="/run/redis-password")
    settings = [load_settings(environment_of(process, stack)) for process in stack.running]

    assert {one.redis_url for one in settings} == {STACK.redis_url}
    assert {str(one.redis_password_file) for one in settings} == {"/run/redis-password"}


def test_a_factory_beside_headquarters_takes_from_its_own_queue_and_tells_flower_of_it() -> None:
    plans = {plan.name: plan for plan in plan_of(OWN_SERVERS)}

    assert load_settings(environment_of("factory-worker", OWN_SERVERS)).mission_queue == "factory.desk"
    assert plans["factory-worker"].address == "queue factory.desk"
    assert "--task-events" in plans["factory-worker"].argv
    assert "--task-events" not in next(plan for plan in plan_of(STACK) if plan.name == "factory-worker").argv


@pytest.mark.parametrize("shape", [Shape.WHOLE, Shape.HQ, Shape.STANDALONE])
def test_who_signs_missions_holds_the_key_and_who_runs_them_knows_its_public_half(shape: Shape) -> None:
    stack = replace(OWN_SERVERS, shape=shape, inherited={"UA_MISSION_KEYS": "the-next-one"})
    seen = {process: environment_of(process, stack) for process in stack.running}
    signing = {name for name, env in seen.items() if OWN_SERVERS.mission_signing_key in env.values()}
    judging = {name for name, env in seen.items() if env.get("UA_MISSION_KEYS") == "its-public-half,the-next-one"}

    assert signing == {"api", "engine"} & set(stack.running)
    assert judging == set(stack.running) - {"api", "engine", "beat", "telegram", "flower"}


def test_a_factory_beside_headquarters_sees_of_our_own_database_its_mailbox_alone() -> None:
    for process in ("factory-worker", "control", "beat"):
        assert load_settings(environment_of(process, OWN_SERVERS)).mailbox_url == OWN_SERVERS.mailbox_url
        assert "pw-of-postgres" not in "".join(environment_of(process, OWN_SERVERS).values())
    assert "pw-of-mailbox" not in "".join(environment_of("hq-worker", OWN_SERVERS).values())


def test_a_factory_in_quarantine_does_not_keep_its_headquarters_from_starting() -> None:
    plans = {plan.name: plan for plan in plan_of(replace(OWN_SERVERS, factory_shut_out=True))}

    assert {name for name, plan in plans.items() if plan.patient} == {"factory-worker", "control", "beat"}
    assert plans["flower"].needs == ()


def test_headquarters_api_alone_tells_a_factory_where_the_broker_is() -> None:
    public = "redis://:given@10.8.0.1:6379/0"
    named = replace(STACK, shape=Shape.HQ, inherited={"UA_FACTORY_REDIS_URL": public})

    assert environment_of("api", stack_of(Shape.HQ))["UA_FACTORY_REDIS_URL"] == STACK.redis_url
    assert environment_of("api", named)["UA_FACTORY_REDIS_URL"] == public
    assert "UA_FACTORY_REDIS_URL" not in environment_of("api", stack_of(Shape.WORKER))


def test_factories_on_one_machine_have_workers_of_different_names() -> None:
    one, two = (plan_of(stack_of(Shape.WORKER, node_name=name)) for name in ("desk-7", "desk 8"))
    names = [[plan.argv[plan.argv.index("-n") + 1] for plan in plans if "-n" in plan.argv] for plans in (one, two)]

    assert names == [["missions.desk-7@%h", "control.desk-7@%h"], ["missions.desk-8@%h", "control.desk-8@%h"]]


def test_only_what_is_allowed_is_inherited() -> None:
    environ = {"PATH": "/bin", "HOME": "/h", "AWS_SECRET_ACCESS_KEY": "x", "UA_OPS_TOKEN": "y", "LANG": ""}

    assert inherited_from(environ) == {"PATH": "/bin", "HOME": "/h"}


@pytest.mark.parametrize(
    ("shape", "loading"),
    [
        (Shape.WHOLE, set(FACTORY)),
        (Shape.HQ, {"hq-worker"}),
        (Shape.WORKER, set(FACTORY)),
        (Shape.STANDALONE, {"node-worker"}),
    ],
)
def test_where_further_kinds_lie_is_told_to_those_alone_that_load_them(shape: Shape, loading: set[str]) -> None:
    """Whoever sets it runs code of his own there: not in the processes that hold the keys of all."""
    stack = replace(stack_of(shape), inherited=inherited_from({"PYTHONPATH": "/opt/kinds"}))
    told = {name for name in stack.running if environment_of(name, stack).get("PYTHONPATH") == "/opt/kinds"}

    assert told == loading
    assert not any("PYTHONPATH" in environment_of(name, stack) for name in set(stack.running) - loading)
    assert not any("PYTHONPATH" in variables_of(name, stack) for name in stack.running)


def test_folders_of_further_kinds_are_named_from_the_root() -> None:
    """A process of a stack runs in the state folder, where the launcher's `.` is another folder."""
    here = Path.cwd()

    assert inherited_from({"PYTHONPATH": f"/opt/kinds:.::{Path('more/kinds')}:"}) == {
        "PYTHONPATH": f"/opt/kinds:{here}:{here / 'more/kinds'}"
    }


def test_a_kind_in_a_folder_of_its_own_is_loaded_by_a_worker_of_the_stack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As factory_tasks/README.md says; the folder is named as a person names it who stands beside it."""
    (tmp_path / "kinds").mkdir()
    (tmp_path / "state").mkdir()
    (tmp_path / "kinds" / "greetings.py").write_text(GREETINGS)
    monkeypatch.chdir(tmp_path)
    launcher = {"PATH": os.environ["PATH"], "PYTHONPATH": "kinds", "UA_HANDLER_MODULES": "greetings"}
    stack = replace(stack_of(Shape.WORKER), state=tmp_path / "state", inherited=inherited_from(launcher))
    environment = environment_of("factory-worker", stack)

    loaded = subprocess.run(  # the program is this Python, and what it runs stands here
        [sys.executable, "-c", LOAD], cwd=stack.state, env=environment, capture_output=True, text=True, check=False
    )

    assert "greet" in loaded.stdout.split(), loaded.stderr[-2000:]


def test_a_person_may_tune_a_run() -> None:
    stack = replace(STACK, inherited={"UA_HEARTBEAT_INTERVAL_SECONDS": "30", "UA_FACTORY_SLOTS": "4"})

    assert environment_of("beat", stack)["UA_HEARTBEAT_INTERVAL_SECONDS"] == "30"
    assert environment_of("factory-worker", stack)["UA_FACTORY_SLOTS"] == "4"


def test_a_node_may_be_named_and_its_queue_too() -> None:
    stack = stack_of(Shape.WORKER, node_name="desk-7", queue_name="gpu")
    settings = load_settings(environment_of("factory-worker", stack))
    [worker] = [plan for plan in plan_of(stack) if plan.name == "factory-worker"]

    assert (settings.factory_id, settings.mission_queue) == ("desk-7", "gpu")
    assert worker.argv[worker.argv.index("-Q") + 1] == "gpu"


def test_a_factory_that_joins_an_hq_does_not_get_the_name_of_that_hq() -> None:
    stack = stack_of(Shape.HQ, node_name="hq-east")

    assert variables_of("control", stack)["UA_FACTORY_ID"] == "hq-east"
    assert variables_of("factory-worker", stack)["UA_FACTORY_ID"] == "desk"


@pytest.mark.parametrize("shape", list(Shape))
def test_no_secret_is_on_a_command_line_or_shown_with_the_stack(shape: Shape) -> None:
    stack = stack_of(shape)
    stack = replace(OWN_SERVERS, shape=shape, inherited=stack.inherited)
    secrets = (STACK.ops_token, STACK.jwt_secret, STACK.flower_password, "pw-of-redis", "pw-of-postgres")
    secrets += ("pw-of-mailbox", OWN_SERVERS.mission_signing_key, *OWN_SERVERS.redis_passwords.values())

    words = [repr(stack), *(word for plan in plan_of(stack) for word in plan.argv)]

    assert not [word for word in words for value in (*secrets, *MODEL_KEYS.values()) if value in word]


@pytest.mark.parametrize("shape", list(Shape))
def test_the_plan_names_every_process_once_and_needs_only_what_it_has(shape: Shape) -> None:
    stack = stack_of(shape)
    names = [plan.name for plan in plan_of(stack)]

    assert sorted(names) == sorted(stack.running)
    assert all(set(plan.needs) <= set(names) for plan in plan_of(stack))


def test_only_the_processes_that_the_policy_allows_are_planned() -> None:
    assert [plan.name for plan in plan_of(replace(STACK, processes=("beat", "api")))] == ["api", "beat"]


@pytest.mark.parametrize("shape", [Shape.WHOLE, Shape.HQ, Shape.STANDALONE])
def test_flower_knows_no_database(shape: Shape) -> None:
    """It would read results as Celery does, and Celery unpickles what a factory may have written."""
    seen = environment_of("flower", replace(OWN_SERVERS, shape=shape))

    assert not [name for name, value in seen.items() if "postgresql://" in value]


def test_flower_gets_its_password_through_the_environment() -> None:
    assert environment_of("flower", STACK)["FLOWER_BASIC_AUTH"] == f"corporation:{STACK.flower_password}"
    assert "FLOWER_BASIC_AUTH" not in environment_of("api", STACK)
