"""`corporation workload`: who works on what, and what nobody has yet."""

import os
from typing import Annotated, Any, Final

import typer

from corporation import clock
from corporation.cli.client import HqClient, Json
from corporation.cli.connection import find_connection, state_folder
from corporation.cli.options import JsonOption, StateOption
from corporation.cli.output import say, say_json, say_table, working
from corporation.cli.time_words import how_long

COLUMNS: Final = ("factory", "status", "busy", "queued", "runs", "kind", "for", "progress", "last ended")
EVERY_SECONDS: Final = 2.0


def workload(
    watch: Annotated[bool, typer.Option("--watch", help="Print it again every two seconds until Ctrl-C.")] = False,
    as_json: JsonOption = False,
    state: StateOption = None,
) -> None:
    """Show what every factory runs now, and how many missions have no factory yet."""
    with HqClient(find_connection(os.environ, state_folder(state))) as client:
        while True:
            with working("Asking HQ"):
                answer = client.workload()
            _say(answer, as_json=as_json)
            if not watch:
                return
            clock.pause(EVERY_SECONDS)


def _say(answer: Json, *, as_json: bool) -> None:
    if as_json:
        say_json(answer)
        return
    rows = [row for factory in answer.get("factories", []) for row in rows_of(factory)]
    if rows:
        say_table(COLUMNS, rows)
    else:
        say("No factory has registered; `corporation join-code` makes a line that lets one join")
    left: Json = answer.get("unassigned", {})
    say(f"Waiting for a factory: {left.get('waiting', 0)}; `corporation why JOB_ID` says why one waits")


def rows_of(factory: Json) -> list[list[object]]:
    """The table's lines for one factory: one for each mission it runs, or one that says it runs none."""
    running: list[Json] = factory.get("running", [])
    last: Json = factory.get("last_completed") or {}
    ended = f"{last.get('job_id')} {last.get('status')}" if last else None
    busy = f"{len(running)}/{factory.get('slots', 0)}"
    status = "quarantined" if factory.get("quarantined") else factory.get("registration_status")
    first = [factory.get("factory_id"), status, busy, factory.get("queue_depth", 0)]
    if not running:
        return [[*first, None, None, None, None, ended]]
    blank: list[object] = ["", "", "", ""]
    return [
        [*(first if place == 0 else blank), *_cells(one), ended if place == 0 else ""]
        for place, one in enumerate(running)
    ]


def _cells(one: Json) -> list[object]:
    progress: Any = one.get("progress") or {}
    percent = f"{progress['percent']} % " if isinstance(progress, dict) and progress.get("percent") is not None else ""
    words = str(progress.get("message") or "") if isinstance(progress, dict) else ""
    return [one.get("job_id"), one.get("mission_kind"), how_long(one.get("elapsed_seconds")), f"{percent}{words}"[:60]]
