"""`corporation factories`: HQ's fleet as people look at it, and what they do to one of its factories."""

import os
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any, Final

import typer

from corporation.cli import exits
from corporation.cli.client import HqClient, Json
from corporation.cli.connection import find_connection, state_folder
from corporation.cli.exits import Refusal
from corporation.cli.factories_control import MOST_FACTORIES, drain, pause, resume
from corporation.cli.factory_access import quarantine, release, remove, rename
from corporation.cli.options import JsonOption, StateOption
from corporation.cli.output import say, say_fields, say_json, say_table, working
from corporation.cli.time_words import how_long

LEGEND: Final = "lights: P process, C consumer, W work; a dot is well, the letter is not, ? is not known"
_WHAT: Final = "Look at HQ's factories; pause, drain, resume, rename, quarantine or remove one."
app = typer.Typer(help=f"{_WHAT}\n\nIn the list, {LEGEND}.", invoke_without_command=True)
for command in (pause, drain, resume, rename, quarantine, release, remove):
    app.command()(command)


class Status(StrEnum):
    """What a factory is called, as the list shows it."""

    online = "online"
    paused = "paused"
    draining = "draining"
    stale = "stale"
    offline = "offline"
    quarantined = "quarantined"


COLUMNS: Final = ("factory", "status", "heard", "by", "busy", "queued", "lights", "version", "labels", "note")
LIGHTS: Final = ("process", "consumer", "work")
WORKING_LABELS: Final = ("vp_coder", "vp_general", "tutorial_bootstrap_consumer")
SHORT_COMMIT: Final = 7
MOST_EVENTS: Final = 10
"""As many as HQ tells at once."""


@app.callback()
def list_(
    context: typer.Context,
    status: Annotated[Status | None, typer.Option(help="Only those that are called so.", case_sensitive=False)] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most this many.")] = 200,
    as_json: JsonOption = False,
    state: StateOption = None,
) -> None:
    """List HQ's factories, last heard of first: how each is, what it does, and what is wrong with it."""
    if context.invoked_subcommand is not None:
        return
    with HqClient(find_connection(os.environ, state_folder(state))) as client, working("Asking HQ"):
        answer = _listed(client, status, limit)
    if as_json:
        say_json(answer)
        return
    rows: list[Json] = answer.get("registrations", [])
    if not rows:
        say("No factory matches; `corporation join-code` makes a line that lets one join")
        return
    say_table(COLUMNS, [row_of(row) for row in rows])
    if answer.get("count", 0) > len(rows):
        say(f"{answer['count'] - len(rows)} more; --limit shows them")
    if any(set(lights_of(row)) - {"."} for row in rows):
        say(LEGEND)
    for hint in hints_about(rows, answer.get("headquarters_factory_id")):
        say(hint)


@app.command()
def show(
    name: Annotated[str, typer.Argument(metavar="FACTORY", help="The factory's id.")],
    as_json: JsonOption = False,
    state: StateOption = None,
) -> None:
    """Show one factory: all that HQ knows of it, what it runs, and what happened to it last."""
    with HqClient(find_connection(os.environ, state_folder(state))) as client, working("Asking HQ"):
        found = client.factories(None, MOST_FACTORIES).get("registrations", [])
        row = next((one for one in found if one.get("factory_id") == name), None)
        if row is None:
            raise Refusal(exits.NO_INPUT, f"HQ knows no factory {name}; `corporation factories` lists those it knows")
        work = next((one for one in client.workload().get("factories", []) if one.get("factory_id") == name), {})
        events = client.factory_events(name, MOST_EVENTS)
    if as_json:
        say_json({"registration": row, "workload": work, "events": events})
        return
    say_fields(fields_of(row))
    for name_, light in (row.get("lights") or {}).items():
        say(f"  {name_:<9} {light.get('state'):<8} {light.get('why')}")
    for one in work.get("running", []):
        say(f"  runs {one.get('job_id')} ({one.get('mission_kind')}) for {how_long(one.get('elapsed_seconds'))}")
    for event in events:
        by = f" by {event['by']}" if event.get("by") else ""
        say(f"  {str(event.get('at'))[:19]}  {event.get('type')}{by}{_note_in(event.get('detail'))}")


def _listed(client: HqClient, status: Status | None, limit: int) -> Json:
    """HQ's answer with those that are called `status`: to HQ's routing a quarantined one has a status besides."""
    shut_out = status is Status.quarantined
    answer = client.factories(None if shut_out else status, MOST_FACTORIES if shut_out else limit)
    if status is None:
        return answer
    rows: list[Json] = answer.get("registrations", [])
    wanted = [row for row in rows if bool(row.get("quarantined")) == shut_out]
    return {**answer, "registrations": wanted[:limit], "count": answer.get("count", 0) - len(rows) + len(wanted)}


def status_of(row: Mapping[str, Any]) -> object:
    """What people call the factory: that it may not speak says more than how it was when it did."""
    return "quarantined" if row.get("quarantined") else row.get("registration_status")


def row_of(row: Mapping[str, Any]) -> list[object]:
    """The table's cells for one factory."""
    named = f"{row['factory_id']} ({row['display_name']})" if row.get("display_name") else row.get("factory_id")
    return [
        named,
        status_of(row),
        how_long(row.get("age_seconds")),
        row.get("transport"),
        f"{row.get('busy', 0)}/{row.get('slots', 0)}",
        row.get("queued", 0),
        lights_of(row),
        str(row.get("version") or "-")[:SHORT_COMMIT],
        ", ".join(labels_of(row)),
        note_of(row),
    ]


def lights_of(row: Mapping[str, Any]) -> str:
    """The three lights as letters: capital what is not right (`P` process, `C` consumer, `W` work), dot what is."""
    lights: Mapping[str, Any] = row.get("lights") or {}
    states = [(name, (lights.get(name) or {}).get("state")) for name in LIGHTS]
    return "".join({"green": ".", "red": name[0].upper()}.get(str(state), "?") for name, state in states)


def labels_of(row: Mapping[str, Any]) -> list[str]:
    """The labels that say which missions it can do."""
    labels = [str(label) for label in row.get("capabilities") or []]
    return [label for label in labels if label in WORKING_LABELS or label.startswith("kind:")]


def note_of(row: Mapping[str, Any]) -> str | None:
    """Who paused it, why and until when; or who shut it out."""
    pause_, shut = row.get("pause"), row.get("quarantine")
    given: Mapping[str, Any] = shut or pause_ or {}
    if not given:
        return None
    until = f" until {str(given['until'])[:16]}" if given.get("until") else ""
    note = f": {given['note']}" if given.get("note") else ""
    return f"by {given.get('who')}{until}{note}"


def hints_about(rows: Sequence[Mapping[str, Any]], headquarters: str | None) -> list[str]:
    """What deserves a look, one line each, with what to do."""
    hints: list[str] = []
    for row in rows:
        name = row.get("factory_id")
        if row.get("split_brain"):
            hints.append(f"{name}: two processes use this name; join one of the machines again under another one")
        if status_of(row) == "offline" and row.get("age_seconds") is not None:
            hints.append(f"{name} is offline; on its machine: `corporation factory status`, then `… factory up`")
        reds = [light for light in LIGHTS[1:] if ((row.get("lights") or {}).get(light) or {}).get("state") == "red"]
        hints += [f"{name}: {(row['lights'][light] or {}).get('why')}" for light in reds]
    versions = {str(row.get("version")) for row in rows if row.get("version") and row.get("factory_id") != headquarters}
    if len(versions) > 1:
        shown = ", ".join(sorted(version[:SHORT_COMMIT] for version in versions))
        hints.append(f"Factories run different versions: {shown}")
    return hints


def fields_of(row: Mapping[str, Any]) -> dict[str, object]:
    """The lines of `show`."""
    return {
        "factory": row.get("factory_id"),
        "called": row.get("display_name"),
        "status": status_of(row),
        "note": note_of(row),
        "heard": f"{how_long(row.get('age_seconds'))} ago" if row.get("age_seconds") is not None else "never",
        "role": f"{row.get('factory_role')}, {row.get('deployment_profile')}",
        "missions": row.get("transport"),
        "redis user": redis_user_of(row),
        "slots": f"{row.get('busy', 0)} of {row.get('slots', 0)} busy, {row.get('queued', 0)} queued",
        "queues": ", ".join(map(str, row.get("queues") or [])) or None,
        "labels": ", ".join(map(str, row.get("capabilities") or [])) or None,
        "version": row.get("version"),
        "latency": f"{row['heartbeat_latency_ms']} ms" if row.get("heartbeat_latency_ms") is not None else None,
        "since": str(row.get("first_seen_at"))[:19],
    }


def redis_user_of(row: Mapping[str, Any]) -> str | None:
    """The broker's user that HQ made for this factory, and what is still to come of it; None without one."""
    user = row.get("redis_user") or {}
    wishes = {
        "shut out": user.get("enabled") is False,
        "not in Redis yet": user.get("applied") is False,
        "a new password is asked for": user.get("rotation_asked_at"),
        "two passwords for now": user.get("previous_until"),
        f"{user.get('refused_commands')} commands refused": user.get("refused_commands"),
    }
    words = [str(user["name"]), *(word for word, true in wishes.items() if true)] if user else []
    return ", ".join(words) or None


def _note_in(detail: object) -> str:
    note = detail.get("note") if isinstance(detail, dict) else None
    return f" ({note})" if note else ""
