"""`corporation publish`: one mission from the options, or many from a file, each under an idempotency key."""

import json
import os
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from corporation import clock
from corporation.cli import exits
from corporation.cli.client import HqClient, Json
from corporation.cli.connection import JsonOption, StateOption, find_connection, state_folder
from corporation.cli.envelope_options import Order, envelope_of, envelopes_in
from corporation.cli.exits import Refusal
from corporation.cli.output import say, say_json, warn, working
from corporation.cli.watch import follow

LARGEST_BATCH_FILE: Final = 64 * 1024 * 1024
# HQ takes 1000 missions and 4 MiB in one call; a little below, for the frame around them.
MOST_IN_A_CALL: Final = 1000
LARGEST_CALL: Final = 4 * 1024 * 1024 - 4096


def publish(
    task: Annotated[str | None, typer.Argument(help="What is to be done; `-` reads it from standard input.")] = None,
    kind: Annotated[str | None, typer.Option(help="The kind of mission, like coding_task.")] = None,
    context: Annotated[str | None, typer.Option(help="A JSON object, or @FILE.")] = None,
    context_file: Annotated[Path | None, typer.Option(help="A file with the JSON object.")] = None,
    bundle: Annotated[Path | None, typer.Option(help="A .tgz with the folder implementation/.")] = None,
    priority: Annotated[int | None, typer.Option(help="Lower runs sooner.")] = None,
    timeout: Annotated[int | None, typer.Option(help="Seconds one attempt may take.")] = None,
    max_retries: Annotated[int | None, typer.Option(help="Attempts in total, at least one.")] = None,
    ttl: Annotated[int | None, typer.Option(help="Seconds until the mission is too old to start.")] = None,
    target: Annotated[str | None, typer.Option(help="The only factory that may run it.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Accept a target that has not registered yet.")] = False,
    key: Annotated[str | None, typer.Option(help="The idempotency key: the same key never runs twice.")] = None,
    job_id: Annotated[str | None, typer.Option(help="The mission's id; made by HQ when absent.")] = None,
    batch: Annotated[Path | None, typer.Option(help="A file with one JSON envelope on each line.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Follow the mission until it is final.")] = False,
    as_json: JsonOption = False,
    state: StateOption = None,
) -> None:
    """Publish a mission and print its id; with the same --key it is safe to repeat."""
    key = key or clock.new_id()
    client = HqClient(find_connection(os.environ, state_folder(state)))
    if batch is not None:
        if task is not None or watch:
            raise Refusal(exits.USAGE, "--batch takes its missions from the file; leave out the task and --watch")
        with client:
            _publish_all(client, envelopes_in(batch, LARGEST_BATCH_FILE), key, wait=wait, as_json=as_json)
        return
    order = Order(task or "", kind, context, context_file, bundle, target, priority, timeout, max_retries, ttl, job_id)
    envelope = envelope_of(order, key)
    with client, explained(key, job_id):
        with working("Publishing"):
            mission = client.publish(envelope, key, wait=wait)
        _show(mission, key, as_json=as_json)
        if watch:
            raise typer.Exit(follow(client, str(mission["job_id"]), as_json=as_json))


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


def _show(mission: Json, key: str, *, as_json: bool) -> None:
    if as_json:
        say_json(mission | {"idempotency_key": key})
        return
    what = "Published" if mission.get("created", True) else "Already known, nothing new was started:"
    say(f"{what} {mission.get('job_id')} ({mission.get('state')}), key {key}")


def _publish_all(client: HqClient, envelopes: list[Json], key: str, *, wait: bool, as_json: bool) -> None:
    answers: list[Json] = []
    done = 0
    try:
        for number, part in enumerate(in_calls(envelopes)):
            with working(f"Publishing {done} … {done + len(part)} of {len(envelopes)}"), explained(key):
                answer = client.publish_batch(part, f"{key}.{number}", wait=wait)
            answers += [entry | {"index": entry.get("index", 0) + done} for entry in answer.get("missions", [])]
            done += len(part)
    finally:
        _show_all(answers, len(envelopes), key, as_json=as_json)
    if any(entry.get("status", 0) >= 300 for entry in answers):
        raise typer.Exit(exits.DATA)


def _show_all(answers: list[Json], asked: int, key: str, *, as_json: bool) -> None:
    counts = {status: sum(1 for entry in answers if entry.get("status") == status) for status in (202, 200)}
    refused = [entry for entry in answers if entry.get("status", 0) >= 300]
    summary: dict[str, Any] = {
        "accepted": counts[202],
        "existing": counts[200],
        "rejected": len(refused),
        "unsent": asked - len(answers),
    }
    if as_json:
        say_json(summary | {"idempotency_key": key, "missions": answers})
        return
    for entry in refused:
        say(f"Mission {entry.get('index', 0) + 1} of the file was refused ({entry.get('status')}): {_why(entry)}")
    say(", ".join(f"{count} {name}" for name, count in summary.items()) + f"; key {key}")


def _why(entry: Json) -> str:
    detail = entry.get("detail")
    return detail if isinstance(detail, str) else json.dumps(detail)


def in_calls(envelopes: list[Json]) -> Iterator[list[Json]]:
    """`envelopes` in order, cut into parts that HQ takes in one call."""
    part: list[Json] = []
    size = 0
    for envelope in envelopes:
        length = len(json.dumps(envelope)) + 2
        if part and (len(part) == MOST_IN_A_CALL or size + length > LARGEST_CALL):
            yield part
            part, size = [], 0
        part.append(envelope)
        size += length
    if part:
        yield part
