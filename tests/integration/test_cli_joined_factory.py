"""What commands say in the folder of a factory that has joined: whose it is, what it needs, and who runs there."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from warm_starts import WarmStarts

from corporation.cli.membership import Membership, joined, keep
from corporation.embedded.stack_environment import Stack
from corporation.embedded.stack_facts import facts_of
from corporation.embedded.stack_shape import Shape
from corporation.embedded.stack_state import StateFolder

Run = Callable[..., subprocess.CompletedProcess[str]]
KEYS = ("Kw8Ww7H9xdaPf2JneQ57NtXgJ4OzuUPK2jvppJbs4tc=",)
MEMBERSHIP = Membership(
    "desk-7",
    "http://127.0.0.1:3",
    "fc_the-credential-of-this-test",
    redis_url="redis://f_desk-7:fr_of-this-test@127.0.0.1:6379/0",
    factory_queue="factory.desk-7",
    heartbeat_interval_seconds=15,
    mission_keys=KEYS,
)


@pytest.fixture
def folder(tmp_path: Path) -> StateFolder:
    """The folder of desk-7, which has joined and was never started."""
    folder = StateFolder(tmp_path / "desk")
    folder.prepare()
    keep(folder, MEMBERSHIP)
    return folder


@pytest.fixture
def ran(folder: StateFolder) -> StateFolder:
    """The same after a run, in which its broker was another one than now."""
    stack = Stack(
        state=folder.path, python=sys.executable, host="desk", redis_url="redis://f_older@127.0.0.1:2/0",
        database_url="", gateway_port=1, flower_port=2, ops_token="", jwt_secret="", flower_password="p", inherited={},
        shape=Shape.WORKER, node_name="desk-7", queue_name="factory.desk-7", hq_given="http://127.0.0.1:3",
    )  # fmt: skip
    folder.write_facts(facts_of(stack, {}))
    return folder


@pytest.fixture
def run(warm: WarmStarts) -> Run:
    """Runs a command on the folder of a factory, without its imports."""

    def asked(*arguments: str, folder: StateFolder, **given: str) -> subprocess.CompletedProcess[str]:
        words = ["-m", "corporation.cli", *arguments, "--state", str(folder.path)]
        return warm.run(words, {"PATH": os.environ["PATH"], "UA_DOTENV_PATH": os.devnull, **given})

    return asked


def test_a_worker_started_by_hand_gets_what_the_factory_proves_itself_with_and_whom_it_trusts(
    ran: StateFolder, run: Run
) -> None:
    ended = run("env", "--json", folder=ran, UA_FACTORY_CREDENTIAL="another", UA_OPS_TOKEN="of-hq")
    variables = json.loads(ended.stdout)

    assert variables["UA_FACTORY_CREDENTIAL"] == MEMBERSHIP.factory_credential
    assert variables["UA_MISSION_KEYS"] == KEYS[0]
    assert (variables["UA_FACTORY_ID"], variables["FACTORY_ROLE"]) == ("desk-7", "LOCAL_WORKER")
    assert variables["UA_REDIS_URL"] == "redis://f_desk-7@127.0.0.1:6379/0", "the password lies in its file"
    assert Path(variables["UA_REDIS_PASSWORD_FILE"]) == ran.path / "redis-password"
    assert variables["UA_VP_DB_PATH"] == str(ran.spool("factory"))
    assert "UA_OPS_TOKEN" not in variables
    assert f"`corporation factory up --state {ran.path}`" in ended.stderr


def test_a_factory_without_redis_gets_no_broker_of_an_earlier_run(ran: StateFolder, run: Run) -> None:
    keep(ran, replace(MEMBERSHIP, redis_url=""))
    variables = json.loads(run("env", "--json", folder=ran).stdout)

    assert variables["UA_DELEGATION_REDIS_ENABLED"] == "0"
    assert not {"UA_REDIS_URL", "UA_REDIS_PASSWORD_FILE"} & variables.keys()


def test_before_its_first_run_the_person_is_told_how_a_factory_is_started(folder: StateFolder, run: Run) -> None:
    ended = run("env", folder=folder)

    assert ended.returncode == 78
    assert f"never ran from {folder.path}; run `corporation factory up --state {folder.path}`" in ended.stderr


def test_doctor_looks_at_a_factory_that_has_joined_and_never_ran(folder: StateFolder, run: Run) -> None:
    ended = run("doctor", folder=folder)

    assert "nothing is set up" not in ended.stdout
    assert "desk-7, LOCAL_WORKER" in ended.stdout
    assert "http://127.0.0.1:3 gives no answer" in ended.stdout


@pytest.mark.parametrize("command", [["audit"], ["quarantine", "x"], ["release", "x"], ["rotate", "x"], ["factories"]])
def test_what_is_an_operators_is_sent_to_hq(ran: StateFolder, command: list[str], run: Run) -> None:
    ended = run(*command, folder=ran)

    assert ended.returncode == 78
    assert f"{ran.path} is the folder of the factory desk-7: run this at HQ" in ended.stderr


def test_an_operator_who_has_the_token_may_stand_in_any_folder(ran: StateFolder, run: Run) -> None:
    ended = run("audit", folder=ran, UA_OPS_TOKEN="a-token-of-hq-that-is-long-enough")

    assert (ended.returncode, "is not reached" in ended.stderr) == (69, True)


def test_a_second_run_is_shown_how_to_look_at_the_first_and_how_to_end_it(folder: StateFolder, run: Run) -> None:
    with folder.held():
        ended = run("factory", "up", folder=folder)

    assert ended.returncode == 75
    assert "desk-7 runs already" in ended.stderr
    assert f"`corporation factory status --state {folder.path}` shows it" in ended.stderr
    assert f"`corporation factory down --state {folder.path}` ends it" in ended.stderr
    assert "missions list" not in ended.stderr


@pytest.mark.parametrize("url", ["redis://shared@127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"])
def test_joining_a_broker_without_a_password_leaves_none_of_before_in_use(folder: StateFolder, url: str) -> None:
    file = folder.path / "redis-password"
    file.with_name("redis-password.new").touch()
    keep(folder, replace(MEMBERSHIP, redis_url=url))

    assert not file.exists()
    assert not file.with_name("redis-password.new").exists(), "it was the earlier user's as well"
    assert "UA_REDIS_PASSWORD_FILE" not in joined(folder).environment({})
