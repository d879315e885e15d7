"""`corporation missions adopt`: the late result of an attempt that was given up counts after all."""

import os
from typing import Annotated

import typer

from corporation.cli import exits
from corporation.cli.client import HqClient, Json
from corporation.cli.connection import find_connection, state_folder
from corporation.cli.exits import Refusal
from corporation.cli.options import JsonOption, StateOption
from corporation.cli.output import say, say_json, working
from corporation.missions.wording import positional


def adopt(
    job: Annotated[str, typer.Argument(metavar="JOB", help="The mission's id.")],
    attempt: Annotated[int, typer.Option(min=1, help="Whose late result; `corporation missions show` lists them.")],
    reason: Annotated[str | None, typer.Option(help="Why, in one line; the history is told.")] = None,
    as_json: JsonOption = False,
    state: StateOption = None,
) -> None:
    """Let the late result of an attempt count: it said that the work is done after HQ had given it up.

    A mission that has not ended succeeds with it, and whatever else works on it is stopped. Where it has failed or was
    cancelled, that stays, and a new mission has succeeded in its place. Repeating it changes nothing.
    """
    with HqClient(find_connection(os.environ, state_folder(state))) as client, working("Asking HQ"):
        answer = client.adopt(job, attempt, reason)
    if isinstance(answer, str):
        unknown = answer.startswith("unknown_mission")
        raise Refusal(exits.NO_INPUT if unknown else exits.DATA, f"{job}: {answer}")
    if as_json:
        say_json(answer)
    else:
        say(f"{answer.get('job_id')}  {answer.get('state')} with the late result of attempt {attempt}")


def say_late_results(mission: Json) -> None:
    """Say of each attempt that reported after it was given up what it said, and how that could be made to count."""
    for attempt in mission.get("attempts") or []:
        report = attempt.get("late_result")
        if not isinstance(report, dict):
            continue
        number = attempt.get("attempt")
        line = f"Attempt {number} reported late: {report.get('outcome', 'nothing that could be read')}"
        if attempt.get("adopted"):
            say(f"{line}; it was adopted")
        elif report.get("outcome") == "done" and mission.get("state") != "succeeded":
            job = positional(str(mission.get("job_id")))
            say(f"{line}; to let it count: corporation missions adopt --attempt {number} {job}")
        else:
            say(line)
