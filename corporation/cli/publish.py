"""`corporation publish`: one mission from the options, or many from a file, each under an idempotency key."""

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final

import typer

from corporation import clock
from corporation.cli import exits
from corporation.cli.after_publishing import say_if_another_order, say_if_nobody_runs
from corporation.cli.client import HqClient, Json
from corporation.cli.connection import find_connection, state_folder
from corporation.cli.envelope_options import Order, envelope_of
from corporation.cli.exits import Refusal
from corporation.cli.options import (
    ExpectedOrWaitOption,
    JsonOption,
    KeyOption,
    PriorityOption,
    RetriesOption,
    StateOption,
    TimeoutOption,
    TtlOption,
    WatchOption,
)
from corporation.cli.output import say, say_json, warn, working
from corporation.cli.publish_batch import publish_all
from corporation.cli.publish_lines import LONGEST_KEY
from corporation.cli.watch import follow

NO_TARGET: Final = (
    "--expected (or --wait) is for a --target that has not registered yet, and there is no target; "
    "to follow the mission until it ended, say --watch"
)


def publish(
    task: Annotated[str | None, typer.Argument(help="What is to be done; `-` reads it from standard input.")] = None,
    kind: Annotated[str | None, typer.Option(help="The kind of mission, like coding_task.")] = None,
    context: Annotated[str | None, typer.Option(help="A JSON object, or @FILE.")] = None,
    context_file: Annotated[Path | None, typer.Option(help="A file with the JSON object.")] = None,
    bundle: Annotated[Path | None, typer.Option(help="A .tgz with the folder implementation/.")] = None,
    priority: PriorityOption = None,
    timeout: TimeoutOption = None,
    max_retries: RetriesOption = None,
    ttl: TtlOption = None,
    target: Annotated[str | None, typer.Option(help="The only factory that may run it.")] = None,
    expected: ExpectedOrWaitOption = False,
    key: KeyOption = None,
    job_id: Annotated[str | None, typer.Option(help="The mission's id; made by HQ when absent.")] = None,
    batch: Annotated[
        Path | None, typer.Option(help="A file with one JSON envelope a line; `-` is standard input.")
    ] = None,
    watch: WatchOption = False,
    as_json: JsonOption = False,
    state: StateOption = None,
) -> None:
    """Publish a mission and print its id; with the same --key it is safe to repeat.

    With --batch each line of a file is a mission, and the same lines again publish nothing anew: a line without an
    `idempotency_key` has one made of what it says, and of --key, if one is given.
    """
    if key == "":
        raise Refusal(exits.USAGE, "--key is empty; name one, or leave it out")
    order = Order(task or "", kind, context, context_file, bundle, target, priority, timeout, max_retries, ttl, job_id)
    if batch is not None:
        _check_alone(order, key, watch=watch or task is not None)
    client = HqClient(find_connection(os.environ, state_folder(state)))
    if batch is not None:
        with client:
            publish_all(client, batch, key, wait=expected, as_json=as_json)
        return
    key = key or clock.new_id()
    envelope = envelope_of(order, key)
    if expected and not envelope["payload"]["context"].get("target_factory_id"):
        raise Refusal(exits.USAGE, NO_TARGET)
    with client, explained(key, job_id):
        with working("Publishing"):
            mission = client.publish(envelope, key, wait=expected)
        show(mission, key, as_json=as_json)
        if not as_json:
            _say_more(client, mission, envelope)
        if watch:
            raise typer.Exit(follow(client, str(mission["job_id"]), as_json=as_json))


def _check_alone(order: Order, key: str | None, *, watch: bool) -> None:
    """Refuses what would be said of each mission of a batch: its lines say it themselves, or it would go unheard."""
    if watch or order != Order(""):
        raise Refusal(
            exits.USAGE,
            "--batch takes its missions from the file, with all that is said of them; "
            "beside it only --key, --wait, --json and --state are taken",
        )
    if key and len(key) > LONGEST_KEY:
        raise Refusal(exits.USAGE, f"--key may have {LONGEST_KEY} characters with --batch; name a shorter one")


@contextmanager
def explained(key: str, job_id: str | None = None) -> Generator[None]:
    """Ctrl-C inside the block says what may have happened and how to repeat it; other errors name the key too."""
    again = f"run it again with --key {key}: the same key never makes a second mission"
    known = f" (job id {job_id})" if job_id else ""
    try:
        yield
    except KeyboardInterrupt:
        warn(f"Interrupted. The mission{known} may have been stored; to be sure, {again}")
        raise
    except Refusal as refusal:
        if refusal.exit_code in (exits.TRY_LATER, exits.UNAVAILABLE, exits.SOFTWARE):
            warn(f"The mission{known} may have been stored; to be sure, {again}")
        raise


def show(mission: Json, key: str, *, as_json: bool) -> None:
    """Print the stored mission, and whether it was stored just now."""
    if as_json:
        say_json(mission | {"idempotency_key": key})
        return
    what = "Published" if mission.get("created", True) else "Already known, nothing new was started:"
    say(f"{what} {mission.get('job_id')} ({mission.get('state')}), key {key}")


def _say_more(client: HqClient, mission: Json, envelope: Json) -> None:
    job_id = str(mission.get("job_id"))
    if not mission.get("created", True):
        say_if_another_order(client, job_id, envelope)
    elif mission.get("state") == "waiting":
        say_if_nobody_runs(client, job_id)
