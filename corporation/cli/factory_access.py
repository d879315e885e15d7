"""`corporation factories rename|quarantine|release|remove`: how a factory is called, and whether it may speak."""

import os
import re
import sys
from typing import Annotated, Final

import typer

from corporation.cli import exits
from corporation.cli.client import HqClient, Json
from corporation.cli.connection import find_connection, state_folder
from corporation.cli.exits import Refusal
from corporation.cli.options import JsonOption, StateOption
from corporation.cli.output import say, say_json, working

Name = Annotated[str, typer.Argument(metavar="NAME", help="The factory's id.")]
NewName = Annotated[
    str, typer.Argument(metavar="DISPLAY_NAME", help="What people see; '' gives the id its place back.")
]
Note = Annotated[str | None, typer.Option(help="Why, in one line; `factories show` and `audit` tell it.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]

LONGEST_NAME: Final = 200
NO_NAME: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
"""What is on no line for people."""
UNKNOWN: Final = "HQ knows no factory {}; `corporation factories` lists them"


def rename(name: Name, display_name: NewName, as_json: JsonOption = False, state: StateOption = None) -> None:
    """Change what people see of a factory; its id, by which everything addresses it, stays."""
    if NO_NAME.search(display_name) or len(display_name.strip()) > LONGEST_NAME:
        raise Refusal(exits.USAGE, f"A display name is one line of at most {LONGEST_NAME} characters; nothing changed")
    answer = _order("rename", {"target_factory_id": _named(name), "display_name": display_name or None}, state)
    if as_json:
        say_json(answer)
    else:
        say(f"{name} is shown as {display_name}" if display_name.strip() else f"{name} is shown under its id again")


def quarantine(name: Name, note: Note = None, as_json: JsonOption = False, state: StateOption = None) -> None:
    """Cut a factory off at once: no token, no Redis, no mailbox; what it had is done elsewhere."""
    answer = _order("quarantine", _target(name, note), state)
    if as_json:
        say_json(answer)
        return
    if answer.get("changed") is False:
        unwritten = ", and the note was not kept" if note else ""
        say(f"{name} was in quarantine before; nothing changed{unwritten}")
        return
    say(f"{name} is in quarantine: its tokens and its credential are refused from now on")
    say("  within seconds what it runs and what waits in its queue is taken from it, and goes elsewhere if it may")
    say("  its user of Redis, if it has one, is shut out within seconds")
    if answer.get("shared_redis_password", True):  # an older HQ does not say
        say(
            "  HQ tells all factories one password for Redis (UA_FACTORY_REDIS_URL): change that too, it still knows it"
        )
    say(f"  `corporation release {name}` lets it back in; `corporation audit --target {name}` says who did what")


def release(name: Name, note: Note = None, as_json: JsonOption = False, state: StateOption = None) -> None:
    """Let a factory out of quarantine; the credential it has counts again."""
    answer = _order("release", _target(name, note), state)
    if as_json:
        say_json(answer)
    elif answer.get("changed") is False:
        say(f"{name} was not in quarantine; nothing changed")
    else:
        say(f"{name} is out of quarantine and may beat again")


def remove(name: Name, yes: Yes = False, as_json: JsonOption = False, state: StateOption = None) -> None:
    """Forget a factory and end its credential; it comes back only by joining again. Its missions keep their history."""
    _named(name)
    if not yes:
        _ask(name)
    with HqClient(find_connection(os.environ, state_folder(state))) as client, working("Asking HQ"):
        answer = client.remove_factory(name)
    if as_json:
        say_json(answer)
        return
    if not answer.get("deleted"):
        raise Refusal(exits.NO_INPUT, UNKNOWN.format(name))
    say(f"{name} is forgotten and its credential is worth nothing")
    say(f"  `corporation join-code --factory-id {name}` lets it join again")


def _ask(name: str) -> None:
    if not sys.stdin.isatty():
        raise Refusal(exits.USAGE, f"Nothing was changed: say --yes to forget {name}, since nobody can be asked here")
    if not typer.confirm(f"Forget {name} and end its credential?"):
        raise Refusal(exits.FAILED, "Nothing was changed")


def _order(what: str, body: Json, state: StateOption) -> Json:
    with HqClient(find_connection(os.environ, state_folder(state))) as client, working("Asking HQ"):
        return client.factory_order(what, body)


def _target(name: str, note: str | None) -> Json:
    return {"target_factory_id": _named(name)} | ({"note": note} if note is not None else {})


def _named(name: str) -> str:
    if not name.strip():
        raise Refusal(exits.USAGE, "Name one factory; `corporation factories` lists them")
    return name
