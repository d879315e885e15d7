"""`corporation env`: the variables with which a process joins the running stack when it is started by hand."""

import os
import shlex
from enum import StrEnum
from typing import Annotated

import typer

from corporation.cli import exits
from corporation.cli.connection import JsonOption, StateOption, state_folder
from corporation.cli.exits import Refusal
from corporation.cli.output import say, say_json, warn
from corporation.embedded.stack_environment import Stack, from_facts, inherited_from, variables_of
from corporation.embedded.stack_state import StateFolder


class Role(StrEnum):
    """Whose environment is wanted."""

    factory = "factory"
    hq = "hq"


_PROCESS = {Role.factory: "factory-worker", Role.hq: "engine"}


def env(
    role: Annotated[
        Role, typer.Option(help="factory: `celery -A factory_tasks worker …`; hq: HQ's processes.")
    ] = Role.factory,
    as_json: JsonOption = False,
    state: StateOption = None,
) -> None:
    """Print `export NAME='value'` lines; use them as: eval "$(corporation env)"."""
    folder = state_folder(state)
    variables = variables_of(_PROCESS[role], stack_in(folder))
    if not folder.is_held():
        warn(f"The stack in {folder.path} does not run at the moment; start it with `corporation up`")
    if as_json:
        say_json(variables)
        return
    for name, value in sorted(variables.items()):
        say(f"export {name}={_quoted(value)}")


def stack_in(folder: StateFolder) -> Stack:
    """The stack whose facts are kept in `folder`; refuses (78) when none was ever started there."""
    facts = folder.read_facts()
    stack = from_facts(folder.path, facts, inherited_from(os.environ)) if facts is not None else None
    if stack is None:
        raise Refusal(
            exits.CONFIG, f"There is no stack in {folder.path}; run `corporation up` in another terminal first"
        )
    return stack


def _quoted(value: str) -> str:
    quoted = shlex.quote(value)
    return quoted if quoted.startswith("'") else f"'{quoted}'"
