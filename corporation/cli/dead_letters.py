"""`corporation dead-letters list | show | replay | discard`: what could not be done, and what was decided about it."""

import json
import os
from typing import Annotated, Any, Final, Literal

import typer

from corporation.cli.client import HqClient, Json
from corporation.cli.connection import find_connection, state_folder
from corporation.cli.letters_in_bulk import discard, replay
from corporation.cli.one_letter import find
from corporation.cli.options import JsonOption, StateOption
from corporation.cli.output import say, say_fields, say_json, say_table, working

app = typer.Typer(
    help="Look at dead letters, run them again, and put them away.",
    no_args_is_help=True,
)
app.command("replay")(replay)
app.command("discard")(discard)

Status = Literal["open", "replayed", "discarded", "all"]
COLUMNS: Final = ("dead letter", "status", "cause", "job", "created (UTC)", "why")
WIDEST: Final = 100
"""Characters of an error in the table; `show` has all of it."""
LetterArgument = Annotated[str, typer.Argument(metavar="DLQ_ID", help="As `dl-12`.")]


@app.command("list")
def list_(
    status: Annotated[Status, typer.Option(help="What was decided about them.")] = "open",
    cause: Annotated[str | None, typer.Option(help="Causes, comma-separated.")] = None,
    kind: Annotated[str | None, typer.Option(help="Kinds of missions that failed, comma-separated.")] = None,
    factory: Annotated[str | None, typer.Option(help="Of a mission that failed at this factory.")] = None,
    job: Annotated[str | None, typer.Option(help="With this job_id.")] = None,
    error: Annotated[str | None, typer.Option(help="Whose reason has these words in it.")] = None,
    after: Annotated[str | None, typer.Option(help="Made after this ISO-8601 time.")] = None,
    before: Annotated[str | None, typer.Option(help="Made before this ISO-8601 time.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=200, help="At most this many.")] = 50,
    cursor: Annotated[str | None, typer.Option(help="The next page, as the last one named it.")] = None,
    as_json: JsonOption = False,
    state: StateOption = None,
) -> None:
    """List dead letters, newest first: missions that failed, and entries of the stream that were none."""
    filters: dict[str, str | int | None] = {
        "status": status, "cause": cause, "mission_kind": kind, "factory_id": factory, "job_id": job, "error": error,
        "created_after": after, "created_before": before, "limit": limit, "cursor": cursor,
    }  # fmt: skip
    with HqClient(find_connection(os.environ, state_folder(state))) as client, working("Asking HQ"):
        letters, following = client.dead_letters(filters)
    if as_json:
        say_json({"entries": letters, "next_cursor": following})
        return
    if not letters:
        narrowed = any((cause, kind, factory, job, error, after, before, cursor))
        nothing = "There is no dead letter" if status == "all" else f"No dead letter is {status}"
        say("No dead letter matches" if narrowed else nothing)
        return
    say_table(COLUMNS, [_row(letter) for letter in letters])
    if following:
        say(f"More: --cursor {following}")


@app.command()
def show(letter: LetterArgument, as_json: JsonOption = False, state: StateOption = None) -> None:
    """Show one dead letter: why it is one, what arrived, and what became of it."""
    with HqClient(find_connection(os.environ, state_folder(state))) as client, working("Asking HQ"):
        found = find(client, letter)
    if as_json:
        say_json(found)
        return
    documents = ("envelope", "raw")
    say_fields({name: value for name, value in found.items() if name not in documents})
    if found.get("envelope") is not None:
        say(f"\nOrder\n{json.dumps(found['envelope'], indent=2)}")
    if found.get("raw") is not None:
        say("\nText as it arrived")
        say(str(found["raw"]))


def _row(letter: Json) -> list[Any]:
    why = str(letter.get("failure_error", ""))[:WIDEST]
    created = str(letter.get("created_at", ""))[:19]
    return [letter.get("dlq_id"), letter.get("status"), letter.get("cause"), letter.get("job_id"), created, why]
