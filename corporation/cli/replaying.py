"""`corporation streams replay-dlq`: dead letters run again, after a look at what that would be."""

import json
import os
from typing import Annotated

import typer

from corporation.cli import exits
from corporation.cli.client import HqClient, Json
from corporation.cli.connection import JsonOption, StateOption, find_connection, state_folder
from corporation.cli.exits import Refusal
from corporation.cli.output import say, say_json, say_table, working

PAGE = 200


def replay_dlq(
    letters: Annotated[list[str] | None, typer.Argument(metavar="[DLQ_ID]...", help="As `dl-12`.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every open dead letter that holds an order.")] = False,
    cause: Annotated[str | None, typer.Option(help="Only of this cause: conflict, failed or timed_out.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be run again, and do nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: JsonOption = False,
    state: StateOption = None,
) -> None:
    """Run dead letters again under new job_ids, as they were; a letter that was replayed gives the same mission.

    A malformed one holds no order: send one to POST /api/v1/dlq/{dlq_id}/replay.
    """
    if every == bool(letters):
        raise Refusal(exits.USAGE, "Name dead letters, or say --all; `corporation streams tail dlq` shows them")
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


def _all_open(client: HqClient, cause: str | None) -> list[Json]:
    found: list[Json] = []
    cursor: str | None = None
    while True:
        page, cursor = client.dead_letters({"limit": PAGE, "cursor": cursor})
        found += page
        if not cursor:
            return _with_an_order(found, cause)


def _named(client: HqClient, letters: list[str], cause: str | None) -> list[Json]:
    known = {one["dlq_id"]: one for one in _pages(client)}
    if missing := [letter for letter in letters if letter not in known]:
        raise Refusal(exits.NO_INPUT, f"No dead letter is called {', '.join(missing)}; `corporation streams tail dlq`")
    chosen = [known[letter] for letter in dict.fromkeys(letters)]
    if bad := [one["dlq_id"] for one in chosen if one["cause"] == "malformed"]:
        advice = "send one to POST /api/v1/dlq/{dlq_id}/replay"
        raise Refusal(exits.DATA, f"{', '.join(bad)} holds no order that could be run again; {advice}")
    return _with_an_order(chosen, cause)


def _pages(client: HqClient) -> list[Json]:
    found: list[Json] = []
    cursor: str | None = None
    while True:
        page, cursor = client.dead_letters({"status": "all", "limit": PAGE, "cursor": cursor})
        found += page
        if not cursor:
            return found


def _with_an_order(letters: list[Json], cause: str | None) -> list[Json]:
    return [one for one in letters if one["cause"] != "malformed" and cause in (None, one["cause"])]


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
    done: list[Json] = []
    try:
        for letter in chosen:
            answer = client.replay_dead_letter(str(letter["dlq_id"]))
            done.append({"dlq_id": letter["dlq_id"], "job_id": answer.get("job_id")})
            if not as_json:
                say(f"{letter['dlq_id']}  runs again as {answer.get('job_id')}")
    finally:
        if as_json:
            say(json.dumps({"replayed": done}))
