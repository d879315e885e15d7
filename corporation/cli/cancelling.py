"""`corporation missions cancel`: missions are stopped, whatever state they are in."""

import os
from dataclasses import dataclass, field
from typing import Annotated, Final

import typer

from corporation import clock
from corporation.cli import exits
from corporation.cli.client import HqClient, Json
from corporation.cli.connection import find_connection, state_folder
from corporation.cli.exits import Refusal
from corporation.cli.options import JsonOption, StateOption
from corporation.cli.output import say, say_json, working
from corporation.missions.states import FINAL

POLL_SECONDS: Final = 0.5


@dataclass
class Outcome:
    """What became of the missions named: those that are cancelled or will be, and why others are not."""

    missions: list[Json] = field(default_factory=list[Json])
    refused: list[Json] = field(default_factory=list[Json])


def cancel(
    jobs: Annotated[list[str], typer.Argument(metavar="JOB...", help="The missions' ids.")],
    reason: Annotated[str | None, typer.Option(help="Why, in one line; the factory and the history are told.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Until each has ended; Ctrl-C only ends the waiting.")] = False,
    as_json: JsonOption = False,
    state: StateOption = None,
) -> None:
    """Stop missions. What nobody runs is cancelled at once; what runs is stopped by its factory, with its children.

    Exit status 0 when each is cancelled or was told to stop, with --wait when each was cancelled.
    """
    outcome = Outcome()
    with HqClient(find_connection(os.environ, state_folder(state))) as client:
        try:
            for job in dict.fromkeys(jobs):
                _cancel(client, job, reason, outcome, as_json=as_json)
            if wait:
                outcome.missions = [_until_final(client, one, as_json=as_json) for one in outcome.missions]
        finally:
            if as_json:
                say_json({"missions": outcome.missions, "refused": outcome.refused})
    _conclude(outcome, wait=wait)


def _cancel(client: HqClient, job: str, reason: str | None, outcome: Outcome, *, as_json: bool) -> None:
    """One that cannot be cancelled is no reason to leave out those behind it."""
    with working("Asking HQ"):
        answer = client.cancel(job, reason)
    if isinstance(answer, str):
        outcome.refused.append({"job_id": job, "why": answer})
        return
    shown = {"job_id": answer.get("job_id"), "state": answer.get("state")}
    outcome.missions.append(shown)
    if not as_json:
        is_over = answer.get("state") in FINAL
        say(f"{shown['job_id']}  {'cancelled' if is_over else 'told to stop; it ends when its factory has stopped it'}")


def _until_final(client: HqClient, mission: Json, *, as_json: bool) -> Json:
    job_id, state = str(mission["job_id"]), str(mission["state"])
    if state in FINAL:
        return mission
    with working(f"Waiting for {job_id}"):
        while state not in FINAL:
            clock.pause(POLL_SECONDS)
            state = str(client.mission(job_id).get("state"))
    if not as_json:
        say(f"{job_id}  {state}")
    return {"job_id": job_id, "state": state}


def _conclude(outcome: Outcome, *, wait: bool) -> None:
    if outcome.refused:
        unknown = all(one["why"].startswith("unknown_mission") for one in outcome.refused) and not outcome.missions
        code = exits.NO_INPUT if unknown else exits.DATA
        raise Refusal(code, "\n".join(f"{one['job_id']}: {one['why']}" for one in outcome.refused))
    if wait and any(one["state"] != "cancelled" for one in outcome.missions):
        raise typer.Exit(exits.FAILED)
