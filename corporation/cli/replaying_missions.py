"""`corporation missions replay`: a mission that has ended is done once more, as it was or with a changed order."""

import os

import typer

from corporation import clock
from corporation.cli import exits
from corporation.cli.after_publishing import say_if_nobody_runs
from corporation.cli.client import HqClient, Json
from corporation.cli.connection import find_connection, state_folder
from corporation.cli.exits import Refusal
from corporation.cli.options import (
    ExpectedOption,
    JobArgument,
    JsonOption,
    KeyOption,
    NewContextOption,
    NewTargetOption,
    NewTaskOption,
    PriorityOption,
    RetriesOption,
    StateOption,
    TimeoutOption,
    TtlOption,
    WatchOption,
)
from corporation.cli.order_changes import Change, new_order
from corporation.cli.output import say, say_json, working
from corporation.cli.publish import explained
from corporation.cli.watch import follow
from corporation.missions.states import FINAL
from corporation.missions.wording import positional


def replay(
    job: JobArgument,
    task: NewTaskOption = None,
    context: NewContextOption = None,
    target: NewTargetOption = None,
    priority: PriorityOption = None,
    timeout: TimeoutOption = None,
    max_retries: RetriesOption = None,
    ttl: TtlOption = None,
    key: KeyOption = None,
    expected: ExpectedOption = False,
    watch: WatchOption = False,
    as_json: JsonOption = False,
    state: StateOption = None,
) -> None:
    """Do a mission that has ended once more under a new job_id, with its order as it was or as the options change it.

    Each call makes another mission, unless it names the same --key.
    """
    if key == "":
        raise Refusal(exits.USAGE, "--key is empty; name one, or leave it out")
    change = Change(task, context, target, priority, timeout, max_retries, ttl)
    key = key or clock.new_id()
    with HqClient(find_connection(os.environ, state_folder(state))) as client, explained(key):
        with working("Asking HQ"):
            again = _again(client, job, _ended(client, job), change, key, expected=expected)
        _show(client, again, as_json=as_json)
        if watch:
            raise typer.Exit(follow(client, str(again["job_id"]), as_json=as_json))


def _ended(client: HqClient, job: str) -> Json:
    """The mission; refuses (65) one that has not ended: two would do the same work."""
    mission = client.mission(job)
    if mission.get("state") not in FINAL:
        raise Refusal(
            exits.DATA,
            f"{job} has not ended, it is {mission.get('state')}; to do it anew, stop it first: "
            f"`corporation missions cancel {positional(job)} --wait`",
        )
    return mission


def _again(client: HqClient, job: str, old: Json, change: Change, key: str, *, expected: bool) -> Json:
    order = new_order(change, old.get("envelope") or {}) if change.says_something else None
    answer = client.replay(job, {"idempotency_key": key} | ({"envelope": order} if order else {}), wait=expected)
    if not isinstance(answer, str):
        return answer
    # A try whose answer was lost, or the same command again: then the mission with this key is the one.
    for row in client.missions({"idempotency_key": key}).missions:
        known = client.mission(str(row["job_id"]))
        if known.get("replay_of") == old.get("job_id"):
            return {name: known.get(name) for name in ("job_id", "replay_of", "state")}
    raise Refusal(exits.DATA, f"{job} does not run again: {answer}")


def _show(client: HqClient, again: Json, *, as_json: bool) -> None:
    if as_json:
        say_json(again)
        return
    say(f"{again.get('replay_of')} runs again as {again.get('job_id')} ({again.get('state')})")
    if again.get("state") == "waiting":
        say_if_nobody_runs(client, str(again.get("job_id")))
