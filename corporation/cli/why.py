"""`corporation why`: one sentence about a mission, what it rests on, and what would help."""

import os
from typing import Annotated, Final

import typer

from corporation.cli.client import HqClient, Json
from corporation.cli.connection import find_connection, state_folder
from corporation.cli.options import JsonOption, StateOption
from corporation.cli.output import say, say_json, say_table, working
from corporation.missions.wording import OBSTACLES, REASONS, positional, running_and_queued

COLUMNS: Final = ("factory", "could take it", "status", "runs", "in queue", "heard of", "why not")
STATES: Final = {
    "running": "is running", "succeeded": "has succeeded", "failed": "has failed", "timed_out": "has timed out",
    "cancelled": "was cancelled",
}  # fmt: skip
"""A mission's state as it is said of one; any other is said with `is`."""
CLASSES: Final = {
    "lost": "lost",
    "quarantined": "quarantined",
    "stopped": "for good",
}
"""Classes of failures that say more than the state does."""
WORTH_ASKING: Final = frozenset({"waiting", "queued", "claimed", "failed", "timed_out"})
"""The states that make people ask why."""
MOST_SHOWN: Final = 20


def why(
    job: Annotated[str, typer.Argument(metavar="JOB", help="The mission's id.")],
    as_json: JsonOption = False,
    state: StateOption = None,
) -> None:
    """Say why a mission is not running, how far it is, or why it failed; and what would help."""
    with HqClient(find_connection(os.environ, state_folder(state))) as client, working("Asking HQ"):
        answer = client.explanation(job)
    if as_json:
        say_json(answer)
        return
    say(str(answer.get("sentence", "")))
    say(f"  {_standing(answer)}")
    _say_list("What is known", [str(line) for line in answer.get("evidence") or []])
    _say_list("What would help", [_advice(one) for one in _objects(answer, "help")])
    _say_candidates(_objects(answer, "candidates"))


def hint(mission: Json) -> None:
    """Print where to read more about a mission that waits or failed; nothing about any other."""
    if mission.get("state") in WORTH_ASKING:
        say(f"\nWhy: {command(str(mission.get('job_id')))}")


def command(job_id: str) -> str:
    """The command that explains this mission, ready to be copied."""
    return f"corporation why {positional(job_id)}"


def _standing(answer: Json) -> str:
    """`j-1 is waiting (no slot is free, behind others)`: the state, and the codes in words."""
    state, failure = str(answer.get("state")), str(answer.get("failure_class"))
    codes = [str(reason.get("code")) for reason in _objects(answer, "reasons")]
    # Of a mission with nobody before it this code says only that HQ or its factory has the next step.
    said = [code for code in codes if code != "behind_others" or answer.get("ahead")]
    words = [REASONS.get(code, code) for code in said] + ([CLASSES[failure]] if failure in CLASSES else [])
    why = f" ({', '.join(words)})" if words else ""
    return f"{answer.get('job_id')} {STATES.get(state, f'is {state}')}{why}"


def _advice(one: Json) -> str:
    return f"{one.get('what')}" + (f":  {one['command']}" if one.get("command") else "")


def _say_list(title: str, lines: list[str]) -> None:
    if not lines:
        return
    say(f"\n{title}")
    for line in lines:
        say(f"  - {line}")


def _say_candidates(candidates: list[Json]) -> None:
    if not candidates:
        return
    say("\nFactories")
    say_table(COLUMNS, [_row(one) for one in candidates[:MOST_SHOWN]])
    if len(candidates) > MOST_SHOWN:
        say(f"and {len(candidates) - MOST_SHOWN} more: --json")


def _row(one: Json) -> list[object]:
    slots, heard = int(one.get("slots", 0)), one.get("silent_seconds")
    running, queued = running_and_queued(int(one.get("running", 0)), int(one.get("held", 0)), slots)
    codes = [str(code) for code in one.get("reasons") or []]
    # What it says of itself is of no weight then; `corporation factories` shows it so too.
    status = "quarantined" if "quarantined" in codes else one.get("status")
    return [
        one.get("factory_id"), "yes" if one.get("eligible") else "no", status, f"{running} of {slots}", queued,
        None if heard is None else f"{heard:.0f} s ago", ", ".join(OBSTACLES.get(code, code) for code in codes) or None,
    ]  # fmt: skip


def _objects(answer: Json, name: str) -> list[Json]:
    value = answer.get(name)
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
