"""`corporation streams replay-dlq`: dead letters run again, after a look at what that would be."""

import os
from dataclasses import dataclass, field
from typing import Annotated, Literal

import typer

from corporation.cli import exits
from corporation.cli.client import HqClient, Json
from corporation.cli.connection import find_connection, state_folder
from corporation.cli.exits import Refusal
from corporation.cli.one_letter import find
from corporation.cli.options import JsonOption, StateOption
from corporation.cli.output import say, say_json, say_table, working

Cause = Literal["conflict", "failed", "timed_out"]
PAGE = 200


@dataclass
class Done:
    """What became of the letters: the missions that run again, and why others do not."""

    replayed: list[Json] = field(default_factory=list[Json])
    refused: list[Json] = field(default_factory=list[Json])


def replay_dlq(
    letters: Annotated[list[str] | None, typer.Argument(metavar="[DLQ_ID]...", help="As `dl-12`.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every open dead letter that holds an order.")] = False,
    cause: Annotated[Cause | None, typer.Option(help="Only of this cause.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be run again, and do nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: JsonOption = False,
    state: StateOption = None,
) -> None:
    """Run dead letters again under new job_ids, as they were; a letter that was replayed gives the same mission.

    A malformed one holds no order: `corporation dead-letters replay DLQ_ID --envelope FILE` gives it one.
    """
    if every == bool(letters):
        raise Refusal(exits.USAGE, "Name dead letters, or say --all; `corporation dead-letters list` shows them")
    with HqClient(find_connection(os.environ, state_folder(state))) as client:
        with working("Asking HQ"):
            chosen = _all_open(client, cause) if every else _named(client, letters or [], cause)
        if not as_json:
            _say_chosen(chosen)
        if dry_run or not chosen:
            _end_without(chosen, as_json=as_json)
            return
        if not yes and not typer.confirm(f"Run {len(chosen)} again?", err=True):
            raise Refusal(exits.FAILED, "Nothing was run again")
        _replay(client, chosen, as_json=as_json)


def _all_open(client: HqClient, cause: Cause | None) -> list[Json]:
    """The oldest first, as their missions were asked for."""
    found: list[Json] = []
    cursor: str | None = None
    while True:
        page, cursor = client.dead_letters({"limit": PAGE, "cursor": cursor})
        found += [one for one in page if one["cause"] != "malformed" and cause in (None, one["cause"])]
        if not cursor:
            return found[::-1]


def _named(client: HqClient, letters: list[str], cause: Cause | None) -> list[Json]:
    chosen = [find(client, letter) for letter in dict.fromkeys(letters)]
    if bad := [one["dlq_id"] for one in chosen if one["cause"] == "malformed" and one["status"] == "open"]:
        advice = "write one: corporation dead-letters replay DLQ_ID --envelope FILE"
        raise Refusal(exits.DATA, f"{', '.join(bad)} holds no order that could be run again; {advice}")
    if gone := [one["dlq_id"] for one in chosen if one["status"] == "discarded"]:
        raise Refusal(exits.DATA, f"{', '.join(gone)} was discarded for good; publish its mission anew instead")
    return [one for one in chosen if cause in (None, one["cause"])]


def _say_chosen(chosen: list[Json]) -> None:
    if not chosen:
        say("No open dead letter holds an order; nothing to run again")
        return
    rows = [[one["dlq_id"], one["job_id"], one["cause"], str(one["failure_error"])[:80]] for one in chosen]
    say_table(("dead letter", "job", "cause", "why"), rows)


def _end_without(chosen: list[Json], *, as_json: bool) -> None:
    if as_json:
        say_json({"replayed": [], "would_replay": [one["dlq_id"] for one in chosen]})
    elif chosen:
        say(f"{len(chosen)} would be run again; nothing was")


def _replay(client: HqClient, chosen: list[Json], *, as_json: bool) -> None:
    """Each in turn; one that HQ does not take is no reason to leave out those behind it."""
    done = Done()
    try:
        for letter in chosen:
            _replay_one(client, str(letter["dlq_id"]), done, as_json=as_json)
    finally:
        if as_json:
            say_json({"replayed": done.replayed, "refused": done.refused})
    if done.refused:
        why = "\n".join(f"{one['dlq_id']}: {one['why']}" for one in done.refused)
        raise Refusal(exits.DATA, f"{len(done.refused)} of {len(chosen)} do not run again\n{why}")


def _replay_one(client: HqClient, dlq_id: str, done: Done, *, as_json: bool) -> None:
    try:
        job_id = client.replay_dead_letter(dlq_id).get("job_id")
    except Refusal as refusal:
        if refusal.exit_code != exits.DATA:
            raise
        done.refused.append({"dlq_id": dlq_id, "why": str(refusal)})
        return
    done.replayed.append({"dlq_id": dlq_id, "job_id": job_id})
    if not as_json:
        say(f"{dlq_id}  runs again as {job_id}")
