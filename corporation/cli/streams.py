"""`corporation streams status | tail | replay-dlq`: the Redis streams as they are, and dead letters run again."""

import os
import signal
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict
from functools import partial
from typing import Annotated, Any, Final, Literal

import typer

from corporation import clock
from corporation.cli import exits
from corporation.cli.connection import effective, state_folder, with_secrets
from corporation.cli.exits import Refusal
from corporation.cli.options import JsonOption, StateOption
from corporation.cli.output import say, say_fields, say_json, say_table, visible, working
from corporation.cli.replaying import replay_dlq
from corporation.cli.stop_requests import StopRequests
from corporation.delegation.keys import StreamKeys, keys_of
from corporation.delegation.redis_errors import REDIS_FAILS, code_of, needs_a_person, open_stream_client
from corporation.delegation.watching import Stream, StreamsStatus, look
from corporation.settings import Settings, load_settings
from corporation.shown_address import shown

app = typer.Typer(help="Look at the Redis streams, and run dead letters again.", no_args_is_help=True)
app.command("replay-dlq")(replay_dlq)

Which = Literal["missions", "results", "dlq"]
ANSWER_SECONDS: Final = 3.0
FOLLOW_MILLISECONDS: Final = 250
"""How long Ctrl-C may have to wait."""
WIDEST: Final = 200
"""Characters of an entry in one line; `--json` shows all of it."""
PAGE: Final = 200


@app.command()
def status(as_json: JsonOption = False, state: StateOption = None) -> None:
    """Show how long the streams are, what waits in them and for how long, and who reads.

    The status is 1 when something needs a person: no group, a key that is no stream, or a stranger in the group.
    """
    settings = _settings(state)
    keys = keys_of(settings)
    with working("Asking Redis"):
        seen = _asked(settings, lambda client: look(client, keys, round(clock.utc_now().timestamp() * 1000)))
    troubles = troubles_in(seen)
    if as_json:
        say_json({**asdict(seen), "troubles": troubles})
    else:
        _say_status(seen, troubles)
    if troubles:
        raise typer.Exit(exits.FAILED)


@app.command()
def tail(
    which: Annotated[Which, typer.Argument(help="Which stream.")] = "missions",
    count: Annotated[int, typer.Option(min=1, max=10_000, help="The newest so many entries.")] = 10,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C.")] = False,
    as_json: JsonOption = False,
    state: StateOption = None,
) -> None:
    """Show the newest entries of a stream, the oldest of them first; nothing is acknowledged or removed by it."""
    settings = _settings(state)
    name = _name_of(which, keys_of(settings))
    entries = _asked(settings, lambda client: client.xrevrange(name, count=count))[::-1]
    for entry_id, fields in entries:
        _say_entry(entry_id, fields, as_json=as_json)
    if not entries and not follow and not as_json:
        say(f"{name} is empty")
    # Of an empty stream everything is new; `$` would skip what comes between two reads.
    last = entries[-1][0] if entries else b"0-0"
    if follow:
        _follow(settings, name, last, as_json=as_json)


def troubles_in(seen: StreamsStatus) -> list[str]:
    """What of `seen` needs a person, one sentence each (pure)."""
    troubles = [
        f"{one.name} is no stream ({one.problem}): {needs_a_person(one.problem) or 'look into Redis'}"
        for one in (seen.missions, seen.results, seen.dead_letters)
        if one.problem
    ]
    if not seen.group_exists and not seen.missions.problem:
        troubles.append(f"nobody reads: the group {seen.group} does not exist; the engine makes it when it runs")
    strangers = [one.name for one in seen.members if not one.own and one.idle_seconds < 15 * 60]
    if strangers:
        troubles.append(f"others read in the group too, and what they take never arrives here: {', '.join(strangers)}")
    return troubles


def _say_status(seen: StreamsStatus, troubles: list[str]) -> None:
    rows = [[one.name, one.length, one.last_id or None, one.problem or None] for one in _streams(seen)]
    say_table(("stream", "entries", "last id", "problem"), rows)
    say("")
    say_fields(
        {
            "group": seen.group if seen.group_exists else f"{seen.group} (does not exist)",
            "not imported": "unknown" if seen.lag is None else seen.lag,
            "oldest of them": _age(seen.oldest_waiting_seconds),
            "not acknowledged": seen.pending,
            "oldest of those": _age(seen.oldest_pending_seconds),
            "delivered again": seen.redelivered,
        }
    )
    if seen.members:
        say("")
        rows = [[one.name, "yes" if one.own else "no", one.pending, _age(one.idle_seconds)] for one in seen.members]
        say_table(("member", "ours", "not acknowledged", "idle"), rows)
    for trouble in troubles:
        say(f"Trouble: {trouble}")


def _streams(seen: StreamsStatus) -> tuple[Stream, Stream, Stream]:
    return seen.missions, seen.results, seen.dead_letters


def _age(seconds: float | None) -> str | None:
    return None if seconds is None else f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _settings(state: Any) -> Settings:
    settings = load_settings(effective(with_secrets(os.environ), state_folder(state)))
    if not settings.redis_delegation_enabled:
        raise Refusal(exits.CONFIG, "UA_DELEGATION_REDIS_ENABLED is off: this node uses no stream")
    return settings


def _name_of(which: Which, keys: StreamKeys) -> str:
    return {"missions": keys.missions, "results": keys.results, "dlq": keys.dead_letters}[which]


def _asked(settings: Settings, ask: Callable[[Any], Any]) -> Any:
    """What Redis answers; a Refusal that says what is wrong when it does not."""
    with closing(open_stream_client(settings.redis_url, ANSWER_SECONDS)) as client:
        return _answered(settings, partial(ask, client))


def _answered(settings: Settings, ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except REDIS_FAILS as error:
        code = code_of(error)
        advice = needs_a_person(code) or "start it (`corporation up` starts one), or check UA_REDIS_URL"
        what = f"Redis at {shown(settings.redis_url)} failed ({code}): {advice}"
        raise Refusal(exits.UNAVAILABLE, what) from None


def _follow(settings: Settings, name: str, last: bytes, *, as_json: bool) -> None:
    """Show what comes after `last` until the process is asked to end; the status is 128 and the signal then.

    An exception in the middle of the talk with Redis would be lost in the client's destructors, or would end the
    process in its parser with a segmentation fault (seen once).
    """
    stop = StopRequests()
    with closing(open_stream_client(settings.redis_url, ANSWER_SECONDS)) as client, stop.heard():
        read: Any = partial(client.xread, count=PAGE, block=FOLLOW_MILLISECONDS)
        while not stop.asked:
            answer = _answered(settings, partial(read, {name: last}))
            for entry_id, fields in answer[0][1] if answer else []:
                _say_entry(entry_id, fields, as_json=as_json)
                last = entry_id
    raise typer.Exit(128 + (stop.first or signal.SIGINT))


def _say_entry(entry_id: bytes, fields: dict[bytes, bytes], *, as_json: bool) -> None:
    said = {name.decode(errors="replace"): value.decode(errors="replace") for name, value in fields.items()}
    identifier = entry_id.decode()
    if as_json:
        say_json({"entry_id": identifier, "at": _moment(identifier), "fields": said})
        return
    words = [said.get("status", ""), visible(said.get("job_id", "")), visible(said.get("envelope", ""))]
    say("  ".join([_moment(identifier), *(word for word in words if word)])[:WIDEST])


def _moment(entry_id: str) -> str:
    """When Redis took the entry, as far as its producer did not choose the id."""
    try:
        moment = time.gmtime(int(entry_id.partition("-")[0]) / 1000)
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", moment)
    except (ValueError, OverflowError, OSError):
        return entry_id
