"""A terminal that was given `corporation env` starts the very same stack again; what is somebody else's stays his."""

from dataclasses import replace
from pathlib import Path

import pytest

from corporation.embedded.server_folder import write_private
from corporation.embedded.stack_environment import Stack, operators_variables, variables_of
from corporation.embedded.stack_facts import facts_of
from corporation.embedded.stack_handout import note_about, without_handout
from corporation.embedded.stack_shape import Shape
from corporation.embedded.stack_state import StateFolder

OPERATOR, APPLICATION, FACTORY = "of-the-operator", "of-headquarters", "of-the-factory"


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    """One that ran from this folder with servers of its own, and has ended."""
    folder = StateFolder(tmp_path / "state")
    folder.prepare()
    for name, password in (("valkey/password", OPERATOR), ("postgres/application-password", APPLICATION)):
        write_private(folder.path / name, password)
    write_private(folder.path / "postgres/factory-password", FACTORY)
    stack = Stack(
        folder.path, "python", "desk", f"redis://:{OPERATOR}@127.0.0.1:6379/0",
        f"postgresql://corporation_hq:{APPLICATION}@127.0.0.1:5432/corporation", 8002, 5555, "ops", "jwt", "flower",
        inherited={}, mailbox_url=f"postgresql://f_desk:{FACTORY}@127.0.0.1:5432/corporation",
        factory_credential="own", mission_signing_key="key", mission_key="public",
    )  # fmt: skip
    folder.write_facts(facts_of(stack, {}))
    return stack


@pytest.mark.parametrize("process", ["api", "factory-worker"])
def test_what_this_folder_gave_out_is_left_out(stack: Stack, process: str) -> None:
    given = operators_variables(process, stack) if process == "api" else variables_of(process, stack)
    left, own = without_handout(given | {"PATH": "/bin", "UA_FACTORY_SLOTS": "7"}, stack.folder)

    assert left == {"PATH": "/bin", "UA_FACTORY_SLOTS": "7"}
    assert own[0] == "UA_REDIS_URL"
    assert {"FACTORY_ROLE", "UA_FACTORY_ID"} <= set(own)
    assert note_about(own).startswith("UA_REDIS_URL, ")
    assert "more are what `corporation env` gave this terminal" in note_about(own)


def test_an_address_of_before_the_ports_changed_is_still_ours(stack: Stack) -> None:
    given = operators_variables("api", replace(stack, redis_url=f"redis://:{OPERATOR}@127.0.0.1:16379/0"))

    assert "UA_REDIS_URL" not in without_handout(given, stack.folder)[0]


def test_what_was_changed_since_is_wanted(stack: Stack) -> None:
    given = operators_variables("api", stack) | {"UA_GATEWAY_PORT": "9000"}

    assert without_handout(given, stack.folder)[0] == {"UA_GATEWAY_PORT": "9000"}


@pytest.mark.parametrize(
    "url", ["redis://:another@127.0.0.1:6379/0", "redis://127.0.0.1:6379/0", "redis://[", "redis://:@h/0"]
)
def test_an_address_that_is_not_ours_stays_and_all_else_with_it(stack: Stack, url: str) -> None:
    given = {"FACTORY_ROLE": "HEADQUARTERS", "UA_REDIS_URL": url, "UA_OPS_TOKEN": "ops"}

    assert without_handout(given, stack.folder) == (given, [])


def test_a_folder_in_which_nothing_ever_ran_gave_nothing_out(tmp_path: Path) -> None:
    given = {"UA_REDIS_URL": f"redis://:{OPERATOR}@127.0.0.1:6379/0"}

    assert without_handout(given, StateFolder(tmp_path / "new")) == (given, [])
    assert note_about([]) == ""


@pytest.mark.parametrize("shape", Shape)
def test_stacks_of_all_shapes_give_out_something(stack: Stack, shape: Shape) -> None:
    stack.folder.write_facts(facts_of(replace(stack, shape=shape, hq_given="http://127.0.0.1:1"), {}))
    left, _ = without_handout({"UA_REDIS_URL": stack.redis_url, "UA_GATEWAY_PORT": "8002"}, stack.folder)

    assert "UA_REDIS_URL" not in left
