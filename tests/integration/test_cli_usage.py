"""What the command line says about itself: usage, the state folder, and the environment of a running stack."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from canary import secret, shows
from warm_starts import WarmStarts

from corporation.embedded.stack_environment import Stack, variables_of
from corporation.embedded.stack_facts import facts_of
from corporation.embedded.stack_shape import Shape
from corporation.embedded.stack_state import StateFolder

COMMAND = [sys.executable, "-m", "corporation.cli"]
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(warm: WarmStarts) -> Run:
    """Runs a command with exactly this environment and the search path, without its imports."""

    def ran(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return warm.run([*COMMAND[1:], *arguments], {"PATH": os.environ["PATH"], **environment})

    return ran


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    """The facts of a stack with a password that a careless shell would break on."""
    stack = Stack(
        state=tmp_path,
        python=sys.executable,
        host="desk",
        redis_url="redis://:it's $HOME `id`@127.0.0.1:6379/0",
        database_url="postgresql://u:p@127.0.0.1:5432/corporation",
        gateway_port=1,
        flower_port=2,
        ops_token="the-token-of-the-state-folder",
        jwt_secret="the-signing-secret-which-is-long-enough",
        flower_password="p",
        inherited={},
        factory_credential="the-credential-of-the-factory",
    )
    StateFolder(tmp_path).prepare()
    StateFolder(tmp_path).write_facts(facts_of(stack, {}))
    return stack


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [(["publsh"], "publish"), (["missions", "lst"], "list"), (["publish", "x", "--jsn"], "--json")],
)
def test_a_slip_of_the_hand_gets_the_nearest_name(arguments: list[str], hint: str, run: Run) -> None:
    ended = run(*arguments)

    assert ended.returncode == 2
    assert hint in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["factories", "pause"], "corporation factories pause"),
        (["factories", "pause", "x", "--wrong"], "corporation factories pause"),
        (["factories", "pouse"], "corporation factories"),
        (["--wrong"], "corporation"),
    ],
)
def test_wrong_use_names_the_help_of_the_command_that_was_meant(arguments: list[str], command: str, run: Run) -> None:
    assert run(*arguments).stderr.splitlines()[-1] == f"Try: {command} --help"


@pytest.mark.parametrize("option", ["--token", "--token=hunter2", "--ops-token"])
def test_a_token_on_the_command_line_is_refused_and_not_repeated(option: str, run: Run) -> None:
    ended = run("publish", "x", option, "hunter2")

    assert ended.returncode == 2
    assert "UA_OPS_TOKEN" in ended.stderr
    assert "hunter2" not in ended.stderr + ended.stdout


def test_without_a_stack_the_person_is_told_to_start_one(tmp_path: Path, run: Run) -> None:
    for command in (["env"], ["missions", "list"], ["publish", "x"]):
        ended = run(*command, "--state-dir", str(tmp_path))

        assert ended.returncode == 78
        assert "corporation up" in ended.stderr


def test_the_environment_survives_a_shell(stack: Stack, run: Run) -> None:
    printed = run("env", "--state", str(stack.state)).stdout
    script = f"set -eu\n{printed}\nexec {sys.executable} -c 'import os, json; print(json.dumps(dict(os.environ)))'"

    ended = subprocess.run(["sh", "-c", script], capture_output=True, text=True, timeout=60, check=True, env={})

    assert variables_of("factory-worker", stack).items() <= json.loads(ended.stdout).items()


@pytest.mark.parametrize(("role", "sees"), [("factory", False), ("worker", False), ("hq", True)])
def test_each_role_gets_its_own_environment(stack: Stack, role: str, sees: bool, run: Run) -> None:
    variables = json.loads(run("env", "--role", role, "--json", "--state", str(stack.state)).stdout)

    assert ("UA_DATABASE_URL" in variables) is sees
    assert ("UA_OPS_JWT_SECRET" in variables) is sees
    assert ("UA_OPS_TOKEN" in variables) is sees
    assert ("UA_FACTORY_CREDENTIAL" in variables) is not sees


def test_a_standalone_stack_has_its_own_environment_and_no_other(stack: Stack, run: Run) -> None:
    StateFolder(stack.state).write_facts(facts_of(replace(stack, shape=Shape.STANDALONE), {}))

    own = json.loads(run("env", "--json", "--state", str(stack.state)).stdout)
    other = run("env", "--role", "hq", "--state", str(stack.state))

    assert own["FACTORY_ROLE"] == "STANDALONE_NODE"
    assert other.returncode == 78
    assert "standalone" in other.stderr


def test_a_token_in_the_dotenv_file_is_a_token(stack: Stack, tmp_path: Path, run: Run) -> None:
    dotenv = tmp_path / ".env"
    dotenv.touch(0o600)
    dotenv.write_text(f"UA_OPS_TOKEN={secret('usage-dotenv')}\n")
    given = {"UA_HQ_BASE_URL": "http://127.0.0.1:3", "UA_DOTENV_PATH": str(dotenv)}

    ended = run("missions", "list", "--state-dir", str(stack.state), **given)

    assert ended.returncode == 69, ended.stderr


def test_no_command_goes_on_without_the_vault_that_its_profile_demands(stack: Stack, run: Run) -> None:
    """E-12: refused on every call."""
    for command in (["missions", "list"], ["env"], ["migrate"], ["publish", "x"]):
        ended = run(*command, "--state-dir", str(stack.state), UA_DEPLOYMENT_PROFILE="vps", UA_OPS_TOKEN="t" * 32)

        assert ended.returncode == 78, command
        assert "INFISICAL_CLIENT_ID" in ended.stderr


def test_the_token_of_the_state_folder_is_not_sent_to_another_headquarters(stack: Stack, run: Run) -> None:
    ended = run("missions", "list", "--state-dir", str(stack.state), UA_HQ_BASE_URL="http://127.0.0.1:3")

    assert ended.returncode == 78
    assert "UA_OPS_TOKEN" in ended.stderr


def test_facts_that_others_may_read_are_not_used(stack: Stack, run: Run) -> None:
    StateFolder(stack.state).facts.chmod(0o644)

    ended = run("env", "--state", str(stack.state))

    assert ended.returncode == 78
    assert "chmod 600" in ended.stderr


def test_the_version_is_a_document_when_asked() -> None:
    """Here alone the command is a fresh process."""
    ended = subprocess.run([*COMMAND, "version", "--json"], capture_output=True, text=True, timeout=60, check=True)

    assert set(json.loads(ended.stdout)) == {"version"}


def test_a_ledger_that_is_not_reached_ends_migrate_with_69_and_no_password(tmp_path: Path, run: Run) -> None:
    url = f"postgresql://u:{secret('usage-ledger')}@127.0.0.1:1/x"
    ended = run("migrate", "--state", str(tmp_path), UA_DATABASE_URL=url)

    assert ended.returncode == 69
    assert "postgresql://u:***@127.0.0.1:1/x cannot be migrated: the connection was refused" in ended.stderr
    assert not shows(ended.stderr)
    assert "Traceback" not in ended.stderr


def test_doctor_finds_nothing_wrong_where_nothing_was_set_up_and_says_what_to_run(tmp_path: Path, run: Run) -> None:
    untouched = run("doctor", "--state", str(tmp_path / "none"), UA_DOTENV_PATH=os.devnull)
    begun = run(
        "doctor",
        "--state",
        str(tmp_path / "none"),
        UA_DOTENV_PATH=os.devnull,
        UA_HQ_BASE_URL="http://127.0.0.1:1",
        UA_REDIS_URL="redis://127.0.0.1:1/0",  # or somebody's Redis at the usual port would be asked
    )

    assert (untouched.returncode, begun.returncode) == (0, 69)
    assert "nothing is set up here yet -> run `ops/run`" in untouched.stdout
    assert "WRONG" not in untouched.stdout
    assert "nothing is set up" not in begun.stdout


def test_a_wrong_choice_is_told_with_the_choices_and_nothing_else(run: Run) -> None:
    assert run("up", "--role", "boss").stderr.splitlines()[0] == (
        "Invalid value for '--role': 'boss' is not one of 'hq', 'worker', 'standalone'."
    )


def test_a_wrong_environment_is_told_by_doctor_with_78(tmp_path: Path, run: Run) -> None:
    ended = run("doctor", "--state", str(tmp_path), UA_GATEWAY_PORT="x", UA_REDIS_URLS="redis://127.0.0.1")

    assert ended.returncode == 78
    assert "UA_GATEWAY_PORT" in ended.stdout
    assert "did you mean UA_REDIS_URL" in ended.stdout
