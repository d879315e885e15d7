"""`corporation dead-letters replay | discard`: many dead letters at once, after a look at how many are meant."""

import os
import sys
from typing import Annotated, Final

import typer

from corporation.cli import exits
from corporation.cli.client import HqClient, Json
from corporation.cli.connection import find_connection, state_folder
from corporation.cli.exits import Refusal
from corporation.cli.options import JsonOption, StateOption
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
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: JsonOption = False,
    state: StateOption = None,
) -> None:
    """Run the open dead letters that match again under new job_ids, as they were, the oldest first.

    A malformed one holds no order: send one to POST /api/v1/dlq/{dlq_id}/replay.
    """
    wanted = _wanted(letters, every, cause, kind, factory, job, error, after, before)
    with HqClient(find_connection(os.environ, state_folder(state))) as client:
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


def _words(text: str | None) -> list[str] | None:
    return [word.strip() for word in text.split(",")] if text is not None else None


def _act(client: HqClient, what: str, wanted: Json, more: Json, *, dry_run: bool, yes: bool, as_json: bool) -> None:
    with working("Asking HQ"):
        preview = client.dead_letters_in_bulk(what, {**wanted, "dry_run": True})
    count = int(preview.get("count", 0))
    if not as_json:
        _say_preview(preview)
    if dry_run or not (count or "dlq_ids" in wanted):
        if as_json:
            say_json(preview)
        return
    _ask(what, count, yes=yes)
    _carry_out(client, what, {**wanted, **more, "up_to": preview.get("newest")}, count, as_json=as_json)


def _say_preview(preview: Json) -> None:
    count = preview.get("count")
    if not count:
        say("No open dead letter matches; nothing to do")
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


def _carry_out(client: HqClient, what: str, body: Json, count: int, *, as_json: bool) -> None:
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
        _conclude(what, done, refused, as_json=as_json)
    if refused:
        looked_at = len(done) + len(refused)
        raise Refusal(exits.DATA, f"{len(refused)} of {looked_at} were left as they were\n{_why(refused)}")


def _done(what: str, answer: Json) -> list[Json]:
    if what == "replay":
        return [one for one in answer.get("replayed") or [] if isinstance(one, dict)]
    return [{"dlq_id": one} for one in answer.get("discarded") or []]


def _conclude(what: str, done: list[Json], refused: list[Json], *, as_json: bool) -> None:
    name = "replayed" if what == "replay" else "discarded"
    if as_json:
        say_json({name: done, "refused": refused})
        return
    for one in done:
        say(f"{one['dlq_id']}  runs again as {one['job_id']}" if what == "replay" else f"{one['dlq_id']}  discarded")


def _why(refused: list[Json]) -> str:
    lines = [f"{one.get('dlq_id')}: {one.get('why')}" for one in refused[:MOST_SAID]]
    return "\n".join([*lines, *([f"and {len(refused) - MOST_SAID} more"] if len(refused) > MOST_SAID else [])])
