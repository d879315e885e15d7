"""`corporation missions list | show | watch | cancel | replay | adopt`: what became of missions, and decisions."""

import os
import shlex
from typing import Annotated, Any, Final

import typer

from corporation.cli.adopting import adopt, say_late_results
from corporation.cli.cancelling import cancel
from corporation.cli.client import HqClient, Json
from corporation.cli.connection import find_connection, state_folder
from corporation.cli.demo import an_order
from corporation.cli.options import JobArgument, JsonOption, StateDirOption, StateOption
from corporation.cli.output import say, say_fields, say_json, say_table, working
from corporation.cli.replaying_missions import replay
from corporation.cli.state_option import STATES, states_and_folder
from corporation.cli.watch import event_line, follow
from corporation.cli.why import hint

app = typer.Typer(help="Look at missions, stop them, do them again, or let a late result count.", no_args_is_help=True)
app.command("cancel")(cancel)
app.command("replay")(replay)
app.command("adopt")(adopt)

FIRST: Final = "My first mission"
COLUMNS: Final = ("job", "state", "kind", "factory", "attempt", "created (UTC)", "error or reason")
_IN_STATE_HELP: Final = f"In these states, comma-separated: {STATES}."
_STATE_HELP: Final = (
    "As --state-dir, like in every other command; if every word of it is a state of missions it is --in-state instead. "
    "Scripts say --state-dir or --in-state."
)


@app.command("list")
def list_(
    in_state: Annotated[str | None, typer.Option(metavar="STATES", help=_IN_STATE_HELP)] = None,
    kind: Annotated[str | None, typer.Option(help="Kinds, comma-separated.")] = None,
    factory: Annotated[str | None, typer.Option(help="Run by this factory.")] = None,
    target: Annotated[str | None, typer.Option(help="Meant for this factory.")] = None,
    source: Annotated[str | None, typer.Option(help="Came from: rest, dashboard, redis_bridge …")] = None,
    key: Annotated[str | None, typer.Option(help="With this idempotency key.")] = None,
    after: Annotated[str | None, typer.Option(help="Created after this ISO-8601 time.")] = None,
    before: Annotated[str | None, typer.Option(help="Created before this ISO-8601 time.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=200, help="At most this many.")] = 50,
    cursor: Annotated[str | None, typer.Option(help="The next page, as the last one named it.")] = None,
    as_json: JsonOption = False,
    state_dir: StateDirOption = None,
    state: Annotated[str | None, typer.Option(metavar="DIR|STATES", help=_STATE_HELP)] = None,
) -> None:
    """List missions, newest first; all filters can be combined."""
    states, folder = states_and_folder(state, in_state, state_dir)
    filters: dict[str, str | int | None] = {
        "state": states, "mission_kind": kind, "factory_id": factory, "target_factory_id": target, "source": source,
        "idempotency_key": key, "created_after": after, "created_before": before, "limit": limit, "cursor": cursor,
    }  # fmt: skip
    with HqClient(find_connection(os.environ, state_folder(folder))) as client, working("Asking HQ"):
        page = client.missions(filters)
    if as_json:
        say_json({"missions": page.missions, "next_cursor": page.next_cursor})
        return
    if not page.missions:
        narrowed = any(value for name, value in filters.items() if name != "limit")
        there = f" --state {shlex.quote(str(folder))}" if folder else ""
        say(
            "No mission matches"
            if narrowed
            else f"There is no mission yet; this makes one:\n  corporation {an_order(FIRST)}{there}"
        )
        return
    say_table(COLUMNS, rows_of(page.missions))
    if page.next_cursor:
        say(f"More: --cursor {page.next_cursor}")


def rows_of(missions: list[Json]) -> list[list[object]]:
    """The table's cells for `missions`, one list each."""
    return [
        [
            row.get("job_id"), row.get("state"), row.get("mission_kind"), row.get("factory_id"), row.get("attempt"),
            str(row.get("created_at", ""))[:19], row.get("error") or row.get("state_reason"),
        ]
        for row in missions
    ]  # fmt: skip


@app.command()
def show(job: JobArgument, as_json: JsonOption = False, state: StateOption = None) -> None:
    """Show one mission: what it is, its timeline, its attempts and its result."""
    with HqClient(find_connection(os.environ, state_folder(state))) as client, working("Asking HQ"):
        mission, events = client.mission(job), client.events(job)
    if as_json:
        say_json({"mission": mission, "events": events})
        return
    _show_mission(mission)
    say("\nTimeline (UTC)")
    for event in events:
        say(f"  {event_line(event)}")
    _show_attempts(mission.get("attempts") or [])
    say_late_results(mission)
    _show_result(mission.get("result"))
    hint(mission)


def _show_mission(mission: Json) -> None:
    envelope: Any = mission.get("envelope") or {}
    names = ("job_id", "state", "state_reason", "mission_kind", "priority", "source", "target_factory_id", "factory_id",
             "attempt", "attempts_left", "created_at", "started_at", "finished_at", "next_attempt_at", "deadline_at",
             "idempotency_key", "cancel_reason", "error")  # fmt: skip
    task = (envelope.get("payload") or {}).get("task")
    say_fields({"task": task} | {name: mission.get(name) for name in names})


def _show_attempts(attempts: list[Json]) -> None:
    if not attempts:
        return
    say("\nAttempts")
    say_table(
        ("attempt", "state", "factory", "started (UTC)", "finished (UTC)", "error"),
        [
            [
                row.get("attempt"), row.get("state"), row.get("factory_id"), str(row.get("started_at") or "-")[:19],
                str(row.get("finished_at") or "-")[:19], row.get("error"),
            ]
            for row in attempts
        ],
    )  # fmt: skip


def _show_result(result: Any) -> None:
    if not result:
        return
    say("\nResult")
    if isinstance(result, dict):
        say_fields({str(name): value for name, value in result.items()})
    else:
        say(f"{result}")


@app.command()
def watch(job: JobArgument, as_json: JsonOption = False, state: StateOption = None) -> None:
    """Follow a mission until it is final; exit status 0 when it succeeded, else 1."""
    with HqClient(find_connection(os.environ, state_folder(state))) as client:
        raise typer.Exit(follow(client, job, as_json=as_json))
