"""`corporation factory …`: the factory on this machine; here, what it would not take, read from its own spool."""

import os
import sqlite3
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any, Final

import typer

from corporation.cli import exits
from corporation.cli.connection import state_folder, with_secrets
from corporation.cli.exits import Refusal
from corporation.cli.factory_join import join
from corporation.cli.factory_running import down, up
from corporation.cli.factory_status import status
from corporation.cli.membership import kept
from corporation.cli.options import JsonOption, StateOption
from corporation.cli.output import say, say_json, say_table
from corporation.embedded.stack_environment import variables_of
from corporation.embedded.stack_facts import from_facts
from corporation.embedded.stack_shape import MISSION_WORKERS, ROLES, Shape
from corporation.embedded.stack_state import StateFolder
from corporation.federation.refused_messages import RefusedMessage, RefusedMessages
from corporation.roles import FactoryRole
from corporation.settings import Settings, load_settings

app = typer.Typer(help="Make this machine a factory of an HQ, run it, and look at it.", no_args_is_help=True)

COLUMNS: Final = ("at (UTC)", "queue", "reason", "attempt", "bytes", "why")
EXPIRED: Final = "expired"
WIDEST: Final = 100
"""Characters of a reason's words in the table; `--json` has all of it, and the start of the message."""


app.command()(join)
app.command()(up)
app.command()(down)
app.command()(status)


@app.command()
def refused(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most this many.")] = 20,
    as_json: JsonOption = False,
    state: StateOption = None,
) -> None:
    """Show the messages that this factory refused, newest first, and how many there ever were, by reason.

    A worker drops what it cannot read safely, keeps the first 4 KiB of it, and goes on; one that came too late is only
    counted (`expired`). HQ decides what becomes of the mission, if it was one.
    """
    settings = load_settings(_variables(with_secrets(os.environ), state_folder(state), named=state is not None))
    kept, counts = _read(settings, limit)
    if as_json:
        say_json({"refused": [_as_json(one) for one in kept], "counts": counts, "total": sum(counts.values())})
        return
    if not counts:
        say(f"{settings.factory_id} never refused a message")
        return
    if kept:
        say_table(COLUMNS, [_row(one) for one in kept])
        say("")
    say(f"Refused so far: {', '.join(f'{reason} {count}' for reason, count in counts.items())}")
    if EXPIRED in counts:
        say(f"What is {EXPIRED} came after its time; it is counted, not kept")


def _variables(environ: Mapping[str, str], folder: StateFolder, *, named: bool) -> dict[str, str]:
    """`environ` with those of the mission workers of `folder`: of the factory that joined there, or of its stack.

    A folder that was `named` wins over what `environ` says: `corporation env` may have filled that for another node.
    """
    given = {name: value for name, value in environ.items() if value}
    own = _own(folder, given)
    return given | own if named else own | given


def _own(folder: StateFolder, given: Mapping[str, str]) -> dict[str, str]:
    if (membership := kept(folder)) is not None:
        spool = {"FACTORY_ROLE": FactoryRole.LOCAL_WORKER.value, "UA_VP_DB_PATH": str(folder.spool("factory"))}
        return {**membership.environment(given), **spool}
    facts = folder.read_facts()
    stack = from_facts(folder.path, facts, {}) if facts else None
    if stack is None:
        return {}
    role = FactoryRole.LOCAL_WORKER if stack.shape is Shape.WHOLE else ROLES[stack.shape]
    return variables_of(MISSION_WORKERS[role], stack)


def _read(settings: Settings, limit: int) -> tuple[list[RefusedMessage], dict[str, int]]:
    """What the spool holds; refuses when there is no spool (66), or none that can be read (74)."""
    path = settings.spool_path.absolute()
    if not path.exists():
        raise Refusal(
            exits.NO_INPUT,
            f"There is no spool at {path}: no worker of {settings.factory_id} ever ran here; "
            "set UA_VP_DB_PATH to the factory's spool, or --state to the folder of its stack",
        )
    try:
        messages = RefusedMessages(path, settings.sqlite_busy_timeout_ms)
        return messages.newest(limit), messages.counts()
    except (sqlite3.Error, PermissionError) as error:
        raise Refusal(
            exits.IO, f"The spool at {path} cannot be read ({error}); run this as the user of the factory's worker"
        ) from None


def _row(one: RefusedMessage) -> list[Any]:
    return [one.at[:19], one.queue, one.reason, one.attempt_id, one.size, one.why[:WIDEST]]


def _as_json(one: RefusedMessage) -> dict[str, Any]:
    fields = asdict(one)
    start = fields.pop("start")
    return {**fields, "start_base64": b64encode(start).decode()}
