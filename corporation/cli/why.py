"""`corporation why`: one sentence about a mission, what it rests on, and what would help."""

import os
from typing import Annotated, Final

import typer

from corporation.cli.client import HqClient, Json
from corporation.cli.connection import find_connection, state_folder
from corporation.cli.options import JsonOption, StateOption
from corporation.cli.output import say, say_json, say_table, working
from corporation.missions.wording import positional

COLUMNS: Final = ("factory", "could take it", "status", "runs", "in queue", "heard of", "why not")
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
    codes = ", ".join(str(reason.get("code")) for reason in _objects(answer, "reasons")) or answer.get("failure_class")
    say(str(answer.get("sentence", "")))
    say(f"  {answer.get('job_id')} is {answer.get('state')}{f' ({codes})' if codes else ''}")
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
    running, held, heard = one.get("running", 0), one.get("held", 0), one.get("silent_seconds")
    reasons = ", ".join(str(code) for code in one.get("reasons") or [])
    return [
        one.get("factory_id"), "yes" if one.get("eligible") else "no", one.get("status"),
        f"{running} of {one.get('slots', 0)}", max(0, held - running),
        None if heard is None else f"{heard:.0f} s ago", reasons or None,
    ]  # fmt: skip


def _objects(answer: Json, name: str) -> list[Json]:
    value = answer.get(name)
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
