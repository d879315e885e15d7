"""`corporation join-code`: at HQ, the one line that makes another machine a factory."""

import os
import shlex
from typing import Annotated, Final

import typer

from corporation.cli import checkout
from corporation.cli.client import HqClient, Json
from corporation.cli.connection import find_connection, state_folder
from corporation.cli.options import JsonOption, StateOption
from corporation.cli.output import say, say_json, warn, working

CLONE: Final = "corporation"
PLACEHOLDER: Final = "GIT_URL"
TTL_SECONDS: Final = 900
LOOPBACK: Final = ("127.0.0.1", "localhost", "[::1]")

For = Annotated[str | None, typer.Option("--factory-id", help="Only this factory may join with it, again or anew.")]
Ttl = Annotated[int, typer.Option("--ttl", min=1, max=604_800, metavar="SECONDS", help="How long the code is good.")]


def join_code(
    factory_id: For = None, ttl: Ttl = TTL_SECONDS, as_json: JsonOption = False, state: StateOption = None
) -> None:
    """Print the line to paste on a fresh machine: it joins this HQ as a factory, and starts. It works once."""
    connection = find_connection(os.environ, state_folder(state))
    with HqClient(connection) as client, working("Asking HQ"):
        answer = client.factory_order("join-codes", {"factory_id": factory_id, "ttl_seconds": ttl})
    remote = checkout.remote()
    line = command(connection.base_url, str(answer.get("join_code", "")), remote)
    if as_json:
        say_json(answer | {"command": line, "hq_base_url": connection.base_url})
        return
    say(line)
    for hint in hints(connection.base_url, remote, answer):
        warn(hint)


def command(hq_url: str, code: str, remote: str) -> str:
    """The one line; without a `remote` to clone from it is for a machine that has this project already.

    A folder of this machine is no place that another one can clone from: a word stands for what must be put there.
    """
    words = (shlex.quote(hq_url), shlex.quote(code))
    if not remote:
        return " ".join(("ops/join", *words))
    if checkout.is_of_this_machine(remote):
        remote = PLACEHOLDER
    return f"git clone {shlex.quote(remote)} {CLONE} && {CLONE}/ops/join {' '.join(words)}"


def hints(hq_url: str, remote: str, answer: Json) -> list[str]:
    """What somebody who pastes the line must know, one line each."""
    until = str(answer.get("expires_at", ""))[:19].replace("T", " ")
    found = [f"It works once, until {until} UTC; whoever has it can join. The factory itself: `corporation factories`"]
    if not remote:
        found.append("This checkout has no remote to clone from: copy the project to that machine, and run it in there")
    elif checkout.is_of_this_machine(remote):
        found.append(
            f"This checkout was cloned from a folder of this machine: put an address in place of {PLACEHOLDER}, from "
            "which the other one can clone; or copy the project there, and run from `ops/join` on in it"
        )
    if any(hq_url.split("://")[-1].split("/")[0].startswith(host) for host in LOOPBACK):
        found.append(
            f"{hq_url} is reached from this machine only; for another one set UA_HQ_BASE_URL to HQ's public address"
        )
    return found
