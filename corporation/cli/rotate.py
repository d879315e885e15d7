"""`corporation rotate FACTORY`: a factory takes a new password for the broker while it works on."""

import os
from typing import Annotated

import typer

from corporation.cli import exits
from corporation.cli.client import HqClient
from corporation.cli.connection import find_connection, state_folder
from corporation.cli.exits import Refusal
from corporation.cli.options import JsonOption, StateOption
from corporation.cli.output import say, say_json, working


def rotate(
    name: Annotated[str, typer.Argument(metavar="FACTORY", help="The factory's id.")],
    note: Annotated[str | None, typer.Option(help="Why, in one line; `corporation audit` tells it.")] = None,
    as_json: JsonOption = False,
    state: StateOption = None,
) -> None:
    """Have a factory take a new password for Redis; nothing restarts, and nothing it does is interrupted."""
    if not name.strip():
        raise Refusal(exits.USAGE, "Name one factory; `corporation factories` lists them")
    order = {"target_factory_id": name} | ({"note": note} if note is not None else {})
    with HqClient(find_connection(os.environ, state_folder(state))) as client, working("Asking HQ"):
        answer = client.factory_order("rotate", order)
    if as_json:
        say_json(answer)
        return
    if answer.get("changed") is False:
        say(f"{name} was asked before: it fetches its new password with its next beat, or has it for a few minutes")
        return
    say(f"{name} is asked to take a new password for Redis, which it fetches with its next beat")
    say("  the old one is good for 15 minutes more, so that nothing it runs is interrupted; then it is worth nothing")
    say(f"  was the machine stolen? `corporation factories quarantine {name}` cuts it off at once")
