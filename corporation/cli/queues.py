"""`corporation rebuild-queues`: after Redis lost its data, what was sent is handed out again, after a look at it."""

import os
import sys
from typing import Annotated, Any, Final

import typer

from corporation.cli import exits
from corporation.cli.client import HqClient, Json
from corporation.cli.connection import find_connection, state_folder
from corporation.cli.exits import Refusal
from corporation.cli.options import JsonOption, StateOption
from corporation.cli.output import say, say_json, say_table, working

COUNTS: Final = ("resent", "lying", "held", "orphans_removed", "foreign")


def rebuild_queues(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: JsonOption = False,
    state: StateOption = None,
) -> None:
    """Fill the queues again after Redis lost its data: each mission that was sent, that no factory received and whose
    message lies nowhere is handed out again, and messages that nobody waits for are removed.

    Safe to repeat, and while everything works. HQ's engine does the same by itself when it sees a restarted Redis.
    """
    with HqClient(find_connection(os.environ, state_folder(state))) as client:
        with working("Looking into the queues"):
            preview = client.rebuild_queues(dry_run=True)
        if not as_json:
            _say_preview(preview)
        if dry_run or not _is_work(preview):
            if as_json:
                say_json(preview)
            return
        _ask(preview, yes=yes)
        with working("Handing out again"):
            done = client.rebuild_queues(dry_run=False)
    if as_json:
        say_json(done)
    else:
        _say_done(done)


def _say_preview(preview: Json) -> None:
    queues = preview.get("queues")
    rows = [row for row in queues if isinstance(row, dict)] if isinstance(queues, list) else []
    if busy := [row for row in rows if any(row.get(name) for name in COUNTS)]:
        columns = ("queue", "lost", "lying", "taken", "orphans", "foreign")
        say_table(columns, [[row.get("queue"), *(row.get(name) for name in COUNTS)] for row in busy])
    if foreign := sum(_count(row, "foreign") for row in rows if not row.get("unread")):
        say(f"{foreign} entries are no messages of this HQ; they are left where they lie")
    if unread := [str(row.get("queue")) for row in rows if row.get("unread")]:
        say(
            f"Too full to be read, so nothing is done for it: {', '.join(unread)}; its missions go elsewhere when "
            "their leases end. Find who fills it, and empty it"
        )
    if not _is_work(preview):
        say("Nothing to do: no message is lost, and none lies there for nothing" + (" elsewhere" if unread else ""))


def _say_done(done: Json) -> None:
    say(f"Handed out again: {_count(done, 'resent')}; orphans removed: {_count(done, 'orphans_removed')}")
    if _count(done, "resent"):
        say(
            "The engine sends them within seconds: `corporation rebuild-queues --dry-run` shows where they lie then, "
            "`corporation workload` who works on them. Where they do not come, ask `corporation doctor`"
        )


def _ask(preview: Json, *, yes: bool) -> None:
    question = (
        f"Hand out {_count(preview, 'resent')} again and remove {_count(preview, 'orphans_removed')} "
        "that nobody waits for?"
    )
    if yes:
        return
    if not sys.stdin.isatty():
        raise Refusal(exits.USAGE, "Nothing was done: nobody can be asked here; say --yes, or --dry-run to only look")
    if not typer.confirm(question, err=True):
        raise Refusal(exits.FAILED, "Nothing was done")


def _is_work(preview: Json) -> bool:
    return bool(_count(preview, "resent") or _count(preview, "orphans_removed"))


def _count(counts: dict[str, Any], name: str) -> int:
    value = counts.get(name)
    return value if isinstance(value, int) else 0
