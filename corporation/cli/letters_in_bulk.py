"""`corporation dead-letters replay | discard`: many dead letters at once, after a look at how many are meant."""

import os
import sys
from collections.abc import Collection, Container
from pathlib import Path
from typing import Annotated, Final

import typer

from corporation.cli import exits
from corporation.cli.client import HqClient, Json
from corporation.cli.connection import find_connection, state_folder
from corporation.cli.exits import Refusal
from corporation.cli.one_letter import no_letter, run_again_changed, run_before
from corporation.cli.options import (
    ExpectedOption,
    JsonOption,
    NewContextOption,
    NewTargetOption,
    NewTaskOption,
    PriorityOption,
    RetriesOption,
    StateOption,
    TimeoutOption,
    TtlOption,
)
from corporation.cli.order_changes import Change
from corporation.cli.output import say, say_json, say_table, working

MOST_SAID: Final = 20
"""Refused letters that are told one by one; `--json` names all of them."""

Letters = Annotated[list[str] | None, typer.Argument(metavar="[DLQ_ID]...", help="As `dl-12`.")]
Every = Annotated[bool, typer.Option("--all", help="Every open dead letter that matches the other filters.")]
Cause = Annotated[str | None, typer.Option("--cause", help="Causes, comma-separated.")]
Kind = Annotated[str | None, typer.Option("--kind", help="Kinds of missions that failed, comma-separated.")]
Factory = Annotated[str | None, typer.Option("--factory", help="Of a mission that failed at this factory.")]
Job = Annotated[str | None, typer.Option("--job", help="With this job_id.")]
Error = Annotated[str | None, typer.Option("--error", help="Whose reason has these words in it.")]
After = Annotated[str | None, typer.Option("--after", help="Made after this ISO-8601 time.")]
Before = Annotated[str | None, typer.Option("--before", help="Made before this ISO-8601 time.")]
Envelope = Annotated[
    Path | None,
    typer.Option(help="A file with the order to run, as `dead-letters show` prints it; `-` is standard input."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say how many are meant, and do nothing.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def replay(
    letters: Letters = None,
    every: Every = False,
    cause: Cause = None,
    kind: Kind = None,
    factory: Factory = None,
    job: Job = None,
    error: Error = None,
    after: After = None,
    before: Before = None,
    task: NewTaskOption = None,
    context: NewContextOption = None,
    target: NewTargetOption = None,
    priority: PriorityOption = None,
    timeout: TimeoutOption = None,
    max_retries: RetriesOption = None,
    ttl: TtlOption = None,
    envelope: Envelope = None,
    expected: ExpectedOption = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: JsonOption = False,
    state: StateOption = None,
) -> None:
    """Run the open dead letters that match again under new job_ids, as they were, the oldest first.

    One that is named alone may run with another order, as the options from --task to --envelope say; nobody is asked.
    """
    wanted = _wanted(letters, every, cause, kind, factory, job, error, after, before)
    change = Change(task, context, target, priority, timeout, max_retries, ttl, envelope)
    alone = _alone(letters, wanted) if change.says_something else None
    with HqClient(find_connection(os.environ, state_folder(state))) as client:
        if alone is not None:
            run_again_changed(client, alone, change, expected=expected, dry_run=dry_run, as_json=as_json)
            return
        _act(client, "replay", wanted, {}, dry_run=dry_run, yes=yes, as_json=as_json)


def discard(
    letters: Letters = None,
    every: Every = False,
    cause: Cause = None,
    kind: Kind = None,
    factory: Factory = None,
    job: Job = None,
    error: Error = None,
    after: After = None,
    before: Before = None,
    reason: Annotated[str | None, typer.Option(help="Why; it is kept.")] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: JsonOption = False,
    state: StateOption = None,
) -> None:
    """Put the open dead letters that match away for good: they stay readable and are not run again."""
    wanted = _wanted(letters, every, cause, kind, factory, job, error, after, before)
    more: Json = {"reason": reason} if reason is not None else {}
    with HqClient(find_connection(os.environ, state_folder(state))) as client:
        _act(client, "discard", wanted, more, dry_run=dry_run, yes=yes, as_json=as_json)


def _wanted(
    letters: list[str] | None,
    every: bool,
    cause: str | None,
    kind: str | None,
    factory: str | None,
    job: str | None,
    error: str | None,
    after: str | None,
    before: str | None,
) -> Json:
    """The filters as HQ takes them; refused when they would be every letter and nobody said `--all`."""
    filters: Json = {
        "dlq_ids": letters or None, "cause": _words(cause), "mission_kind": _words(kind), "factory_id": factory,
        "job_id": job, "error": error, "created_after": after, "created_before": before,
    }  # fmt: skip
    given: Json = {name: value for name, value in filters.items() if value is not None}
    if not given and not every:
        advice = "`corporation dead-letters list` shows them"
        raise Refusal(exits.USAGE, f"Name dead letters, give a filter, or say --all; {advice}")
    return given | ({"all": True} if every else {})


def _alone(letters: list[str] | None, wanted: Json) -> str:
    """The one letter whose order is changed; refused when it is not one that is named."""
    if not letters or len(letters) > 1 or len(wanted) > 1:
        raise Refusal(exits.USAGE, "An order is changed one at a time: name one dead letter, and no filter")
    return letters[0]


def _words(text: str | None) -> list[str] | None:
    return [word.strip() for word in text.split(",")] if text is not None else None


def _act(client: HqClient, what: str, wanted: Json, more: Json, *, dry_run: bool, yes: bool, as_json: bool) -> None:
    with working("Asking HQ"):
        decided = _decided(client, wanted.get("dlq_ids", ()))
        preview = client.dead_letters_in_bulk(what, {**wanted, "dry_run": True})
    count = int(preview.get("count", 0))
    if not as_json:
        _say_preview(client, preview, decided)
    if dry_run or not count:
        if as_json:
            say_json(preview)
        return
    if count > len(decided):
        _ask(what, count - len(decided), yes=yes)
    _carry_out(client, what, {**wanted, **more, "up_to": preview.get("newest")}, count, decided, as_json=as_json)


def _decided(client: HqClient, letters: Collection[str]) -> dict[str, Json]:
    """Of the letters that are named, those about which somebody decided before; refuses (66) when none is there."""
    found = [one for letter in dict.fromkeys(letters) if (one := client.dead_letter(letter)) is not None]
    if letters and not found:
        raise no_letter(*letters)
    return {str(one["dlq_id"]): one for one in found if one.get("status") != "open"}


def _say_preview(client: HqClient, preview: Json, decided: dict[str, Json]) -> None:
    for letter, one in decided.items():
        say(run_before(client, one) if one.get("status") == "replayed" else f"{letter}  was discarded before")
    count = int(preview.get("count", 0))
    if count == len(decided):
        say("No open dead letter matches; nothing to do")
        return
    if decided:
        say(f"{count - len(decided)} of the {count} that are named are open")
        return
    rows = [["cause", name, number] for name, number in dict(preview.get("by_cause") or {}).items()]
    rows += [["kind", name, number] for name, number in dict(preview.get("by_kind") or {}).items()]
    say_table(("of", "which", "dead letters"), rows)


def _ask(what: str, count: int, *, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise Refusal(exits.USAGE, "Nothing was done: nobody can be asked here; say --yes, or --dry-run to only look")
    question = f"Run {count} again?" if what == "replay" else f"Put {count} away for good?"
    if not typer.confirm(question, err=True):
        raise Refusal(exits.FAILED, "Nothing was done")


def _carry_out(client: HqClient, what: str, body: Json, count: int, decided: Container[str], *, as_json: bool) -> None:
    """Call after call until none is left; what was done stays done, whatever ends it, and is told."""
    done: list[Json] = []
    refused: list[Json] = []
    expect: Json = {"expect": count}
    try:
        with working(f"0 of {count}"):
            while True:
                answer = client.dead_letters_in_bulk(what, {**body, **expect})
                done += _done(what, answer)
                refused += [one for one in answer.get("refused") or [] if isinstance(one, dict)]
                if not answer.get("remaining") or answer.get("last") is None:
                    break
                body, expect = {**body, "after": answer["last"]}, {}
    finally:
        _conclude(what, done, refused, decided, as_json=as_json)
    if refused:
        looked_at = len(done) + len(refused)
        raise Refusal(exits.DATA, f"{len(refused)} of {looked_at} were left as they were\n{_why(refused)}")


def _done(what: str, answer: Json) -> list[Json]:
    if what == "replay":
        return [one for one in answer.get("replayed") or [] if isinstance(one, dict)]
    return [{"dlq_id": one} for one in answer.get("discarded") or []]


def _conclude(what: str, done: list[Json], refused: list[Json], decided: Container[str], *, as_json: bool) -> None:
    name = "replayed" if what == "replay" else "discarded"
    if as_json:
        say_json({name: done, "refused": refused})
        return
    for one in done:
        if one["dlq_id"] in decided:  # told already
            continue
        say(f"{one['dlq_id']}  runs again as {one['job_id']}" if what == "replay" else f"{one['dlq_id']}  discarded")


def _why(refused: list[Json]) -> str:
    lines = [f"{one.get('dlq_id')}: {one.get('why')}" for one in refused[:MOST_SAID]]
    return "\n".join([*lines, *([f"and {len(refused) - MOST_SAID} more"] if len(refused) > MOST_SAID else [])])
