"""`corporation factories pause|drain|resume`: whether a factory takes missions, and what becomes of those it has."""

import os
import re
from typing import Annotated, Final

import typer

from corporation import clock
from corporation.cli import exits
from corporation.cli.client import HqClient, Json
from corporation.cli.connection import find_connection, state_folder
from corporation.cli.exits import Refusal
from corporation.cli.options import JsonOption, StateOption
from corporation.cli.output import say, say_json, working

POLL_SECONDS: Final = 0.5
MOST_FACTORIES: Final = 1000
LIVE: Final = "queued,claimed,running"
UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
LONGEST_SECONDS: Final = 31 * 86_400

Name = Annotated[str, typer.Argument(metavar="NAME", help="The factory's id.")]
Note = Annotated[str | None, typer.Option(help="Why, in one line; `why` and `factories` show it.")]
For = Annotated[str | None, typer.Option("--for", metavar="TIME", help="Ends by itself after 90s, 30m, 2h, 3d …")]
Wait = Annotated[
    bool, typer.Option("--wait", help="Until no mission runs there any more; Ctrl-C only ends the waiting.")
]
Expect = Annotated[bool, typer.Option("--expected", help="Also for a factory that has not registered yet.")]


def pause(
    name: Name,
    note: Note = None,
    for_: For = None,
    wait: Wait = False,
    expected: Expect = False,
    as_json: JsonOption = False,
    state: StateOption = None,
) -> None:
    """Let a factory take no missions until it is resumed. It finishes what it runs; what waits there goes elsewhere."""
    _rest("pause", name, note, for_, wait=wait, expected=expected, as_json=as_json, state=state)


def drain(
    name: Name,
    note: Note = None,
    for_: For = None,
    wait: Wait = False,
    expected: Expect = False,
    as_json: JsonOption = False,
    state: StateOption = None,
) -> None:
    """Empty a factory, as before it is moved or updated: as `pause`, and it says of itself that it is draining."""
    _rest("drain", name, note, for_, wait=wait, expected=expected, as_json=as_json, state=state)


def resume(name: Name, note: Note = None, as_json: JsonOption = False, state: StateOption = None) -> None:
    """Let a factory take missions again, whether it was paused or drained."""
    order = _order("resume", name, note, None)
    with HqClient(find_connection(os.environ, state_folder(state))) as client, working("Asking HQ"):
        rested = as_json or _rests(client, name)
        answer = client.control_factory(order)
    if as_json:
        say_json(answer)
    elif not rested:
        say(f"{name} was neither paused nor drained; it is only told again: the order is {answer.get('job_id')}")
    elif answer.get("quarantined"):
        say(f"{name} is not paused any more, but in quarantine: it takes no missions until {_released(name)}")
    else:
        say(f"{name} takes missions again, as soon as it hears of it; the order is {answer.get('job_id')}")


def seconds_of(text: str) -> int:
    """The length of time in `text`: a whole number with s, m, h or d behind it. Refuses (2) anything else."""
    found = re.fullmatch(r"\s*([0-9]{1,9})\s*([smhd])\s*", text.lower())
    seconds = int(found[1]) * UNITS[found[2]] if found else 0
    if not 1 <= seconds <= LONGEST_SECONDS:
        raise Refusal(exits.USAGE, "--for takes a time like 90s, 30m, 2h or 3d, at most 31d")
    return seconds


def _rest(
    action: str,
    name: str,
    note: str | None,
    for_: str | None,
    *,
    wait: bool,
    expected: bool,
    as_json: bool,
    state: StateOption,
) -> None:
    order = _order(action, name, note, seconds_of(for_) if for_ is not None else None)
    with HqClient(find_connection(os.environ, state_folder(state))) as client:
        with working("Asking HQ"):
            answer = client.control_factory(order, wait=expected)
        if not as_json:
            _say_what_happens(action, name, answer)
        if wait:
            _until_empty(client, name, as_json=as_json)
            answer |= {"running": 0}
    if as_json:
        say_json(answer)


def _rests(client: HqClient, name: str) -> bool:
    """Whether HQ knows of anything that `resume` could end; so also where it does not know the factory."""
    rows = client.factories(None, MOST_FACTORIES).get("registrations") or []
    row = next((one for one in rows if one.get("factory_id") == name), None)
    return row is None or bool(row.get("pause")) or row.get("registration_status") in ("paused", "draining")


def _order(action: str, name: str, note: str | None, for_seconds: int | None) -> Json:
    given = {"note": note, "for_seconds": for_seconds}
    return {"target_factory_id": _named(name), "action": action} | {
        key: value for key, value in given.items() if value is not None
    }


def _named(name: str) -> str:
    """HQ takes an empty target for every factory, which nobody means who leaves a variable unset."""
    if not name.strip():
        raise Refusal(exits.USAGE, "Name one factory; `corporation factories` lists them")
    return name


def _say_what_happens(action: str, name: str, answer: Json) -> None:
    word = "drained" if action == "drain" else "paused"
    until = answer.get("until")
    ends = f"until {str(until)[:19]} UTC" if until else f"until `corporation factories resume {name}`"
    if answer.get("quarantined"):
        say(f"{name} is in quarantine and takes nothing as it is; once it is released, it is {word} {ends}")
        say(f"  {_released(name)} lets it back in; the order is {answer.get('job_id')}")
        return
    say(f"{name} is {word} {ends}; the order is {answer.get('job_id')}")
    say(f"  runs there: {_missions(answer.get('running'))}, which it finishes")
    say(f"  waits in its queue: {_missions(answer.get('queued'))}; without a target they go to other factories,")
    say("    targeted ones wait until it is resumed, and none of them loses an attempt")


def _released(name: str) -> str:
    return f"`corporation release {name}`"


def _missions(count: object) -> str:
    return "1 mission" if count == 1 else f"{count if isinstance(count, int) else 'an unknown number of'} missions"


def _until_empty(client: HqClient, name: str, *, as_json: bool) -> None:
    """Returns when no mission is held there but orders to the factory itself."""
    with working(f"Waiting until {name} runs nothing"):
        while _held(client, name):
            clock.pause(POLL_SECONDS)
    if not as_json:
        say(f"{name} runs nothing any more")


def _held(client: HqClient, name: str) -> bool:
    cursor: str | None = None
    while True:
        page = client.missions({"state": LIVE, "factory_id": name, "limit": 200, "cursor": cursor})
        if any(not str(one.get("mission_kind", "")).startswith("system:") for one in page.missions):
            return True
        if not page.next_cursor:
            return False
        cursor = page.next_cursor
