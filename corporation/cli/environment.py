"""`corporation env`: the variables with which a process joins the running stack when it is started by hand."""

import os
import shlex
from enum import StrEnum
from typing import Annotated, Final

import typer

from corporation.cli import exits
from corporation.cli.connection import state_folder, with_secrets
from corporation.cli.exits import Refusal
from corporation.cli.membership import Membership, kept, state_words
from corporation.cli.options import JsonOption, StateOption
from corporation.cli.output import say, say_json, warn
from corporation.embedded.stack_environment import Stack, inherited_from, operators_variables, variables_of
from corporation.embedded.stack_facts import from_facts, with_given
from corporation.embedded.stack_shape import MISSION_WORKERS, Shape
from corporation.embedded.stack_state import StateFolder


class Role(StrEnum):
    """Whose environment is wanted."""

    factory = "factory"
    worker = "worker"
    hq = "hq"
    standalone = "standalone"


_PROCESSES: Final = {
    Role.factory: ("factory-worker", (Shape.WHOLE, Shape.HQ, Shape.WORKER)),
    Role.worker: ("factory-worker", (Shape.WHOLE, Shape.HQ, Shape.WORKER)),
    Role.hq: ("api", (Shape.WHOLE, Shape.HQ)),
    Role.standalone: ("api", (Shape.STANDALONE,)),
}
"""Whose variables a role's are, and the stacks that have such a node; an HQ's stack knows a factory that may join."""

_ROLE_HELP: Final = (
    "factory (or worker): `celery -A factory_tasks worker …`; hq or standalone: that node's processes. "
    "Without it the factory's, or those of a standalone stack."
)


def env(
    role: Annotated[Role | None, typer.Option(help=_ROLE_HELP)] = None,
    as_json: JsonOption = False,
    state: StateOption = None,
) -> None:
    """Print `export NAME='value'` lines; use them as: eval "$(corporation env)".

    In the folder of a factory that has joined an HQ they are that factory's, its credential and HQ's keys included.
    """
    folder = state_folder(state)
    membership = kept(folder)
    variables = _variables(stack_in(folder), role)
    if membership is not None:
        variables = membership.environment(variables)
    if not folder.is_held():
        what = "stack" if membership is None else f"factory {membership.factory_id}"
        warn(f"The {what} in {folder.path} does not run at the moment; start it with {_start_of(folder, membership)}")
    if as_json:
        say_json(variables)
        return
    for name, value in sorted(variables.items()):
        say(f"export {name}={_quoted(value)}")


def _variables(stack: Stack, role: Role | None) -> dict[str, str]:
    wanted = role or (Role.standalone if stack.shape is Shape.STANDALONE else Role.factory)
    process, shapes = _PROCESSES[wanted]
    if stack.shape not in shapes:
        refusal = f"The stack in {stack.state} is {stack.shape} and has no {wanted}; leave --role out"
        raise Refusal(exits.CONFIG, refusal)
    # A factory's are the factory's; HQ's are for a person, who does what several processes do.
    return variables_of(process, stack) if process in MISSION_WORKERS.values() else operators_variables(process, stack)


def stack_in(folder: StateFolder) -> Stack:
    """The stack whose facts are kept in `folder`; refuses (78) when none was ever started there."""
    facts = folder.read_facts()
    if facts is not None:
        environ = with_secrets(os.environ)
        if stack := from_facts(folder.path, facts, inherited_from(environ)):
            return with_given(stack, environ)
    what = f"There is no stack in {folder.path}"
    start = _start_of(folder, membership := kept(folder))
    if membership is not None:
        what = f"The factory {membership.factory_id} never ran from {folder.path}"
    raise Refusal(exits.CONFIG, f"{what}; run {start} in another terminal first")


def _start_of(folder: StateFolder, membership: Membership | None) -> str:
    """The command that starts what this folder is of."""
    return "`corporation up`" if membership is None else f"`corporation factory up{state_words(folder)}`"


def _quoted(value: str) -> str:
    quoted = shlex.quote(value)
    return quoted if quoted.startswith("'") else f"'{quoted}'"
