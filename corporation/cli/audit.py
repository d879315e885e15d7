"""`corporation audit`: who did what to whom, from where and why."""

import os
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

import typer

from corporation import clock
from corporation.cli import exits
from corporation.cli.client import HqClient, Json
from corporation.cli.connection import find_connection, state_folder
from corporation.cli.exits import Refusal
from corporation.cli.factories_control import seconds_of
from corporation.cli.options import JsonOption, StateOption
from corporation.cli.output import say, say_json, say_table, working

COLUMNS: Final = ("when (UTC)", "who", "did", "to", "from", "why", "outcome")
MOST: Final = 10_000
PAGE: Final = 200
NO_MOMENT: Final = "--since takes 90m, 24h or 7d, or a date such as 2026-06-01"

Since = Annotated[str | None, typer.Option(metavar="TIME", help="From 90m, 24h or 7d ago, or from a date, on.")]
Limit = Annotated[int, typer.Option(min=1, max=MOST, help="At most so many, the latest.")]
Actor = Annotated[str | None, typer.Option("--actor", "--by", help="Only what this one did.")]
Action = Annotated[
    str | None, typer.Option(help="Only this: `factory.quarantine`, or `factory` for all that begins so.")
]
Target = Annotated[str | None, typer.Option("--target", "--to", help="Only what was done to this.")]


def audit(
    since: Since = None,
    action: Action = None,
    actor: Actor = None,
    target: Target = None,
    limit: Limit = 50,
    as_json: JsonOption = False,
    state: StateOption = None,
) -> None:
    """Show the privileged acts that HQ has written down: the latest ones, the newest last."""
    asked = {"since": _moment(since), "action": action, "actor": actor, "target": target}
    with HqClient(find_connection(os.environ, state_folder(state))) as client, working("Asking HQ"):
        acts = _acts(client, {name: value for name, value in asked.items() if value}, limit)
    if as_json:
        say_json({"acts": acts})
    elif acts:
        say_table(COLUMNS, [_row(act) for act in reversed(acts)])
    else:
        say("Nothing that was written down matches")


def _acts(client: HqClient, asked: dict[str, str], limit: int) -> list[Json]:
    """The newest first, over as many pages as it takes."""
    acts: list[Json] = []
    before: Any = None
    while len(acts) < limit:
        page = {**asked, "limit": str(min(PAGE, limit - len(acts)))} | ({"before": str(before)} if before else {})
        answer = client.audit(page)
        acts += answer["acts"]
        before = answer.get("next_before")
        if before is None:
            break
    return acts


def _moment(since: str | None) -> str | None:
    """The moment that is meant, in ISO-8601; refuses (64) what is neither a length of time nor a date."""
    if since is None:
        return None
    try:
        moment = datetime.fromisoformat(since)
    except ValueError:
        return clock.iso(clock.utc_now() - timedelta(seconds=_seconds(since)))
    try:
        return clock.iso(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
    except OverflowError:  # at the end of the calendar, in another zone beyond it
        raise Refusal(exits.USAGE, NO_MOMENT) from None


def _seconds(since: str) -> int:
    try:
        return seconds_of(since)
    except Refusal:
        raise Refusal(exits.USAGE, NO_MOMENT) from None


def _row(act: Json) -> list[object]:
    return [
        str(act.get("at", ""))[:19].replace("T", " "),
        act.get("actor"),
        act.get("action"),
        act.get("target"),
        act.get("origin"),
        act.get("note"),
        act.get("outcome"),
    ]
