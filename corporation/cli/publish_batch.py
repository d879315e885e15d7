"""`corporation publish --batch`: many missions from a file or a pipe; what became of each is said, however it ends."""

import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import typer

from corporation.cli import exits
from corporation.cli.answers import words_of
from corporation.cli.client import HqClient, Json
from corporation.cli.exits import Refusal
from corporation.cli.output import say, say_json, working
from corporation.cli.publish_lines import BadLine, Line, in_calls, lines_in
from corporation.cli.reading import decoded, read_file

LARGEST_BATCH_FILE: Final = 64 * 1024 * 1024
MOST_NAMED: Final = 20
"""Lines of which the text tells one by one; `--json` tells of all."""
ACCEPTED: Final = 202
EXISTING: Final = 200


@dataclass
class Told:
    """What HQ has said of the `asked` lines so far."""

    asked: int
    entries: list[Json] = field(default_factory=list[Json])
    """HQ's answers, each with the number of its line and its key."""
    unconfirmed: int = 0
    """They were sent, and no answer came: they may be stored or not."""

    def count(self, status: int) -> int:
        """How many were answered so."""
        return sum(entry["status"] == status for entry in self.entries)

    @property
    def refused(self) -> list[Json]:
        """What HQ did not take."""
        return [entry for entry in self.entries if entry["status"] not in (ACCEPTED, EXISTING)]

    @property
    def unsent(self) -> int:
        """Of how many HQ has heard nothing."""
        return self.asked - len(self.entries) - self.unconfirmed

    def take(self, part: Sequence[Line], answer: Json) -> None:
        """HQ's answer to `part`; of what it does not mention nothing is known."""
        given = {entry.get("index"): entry for entry in _objects(answer.get("missions"))}
        for index, line in enumerate(part):
            entry = given.get(index, {})
            if not isinstance(entry.get("status"), int):
                self.unconfirmed += 1
                continue
            key = line.envelope["idempotency_key"]
            self.entries.append(
                entry | {"index": len(self.entries) + self.unconfirmed, "line": line.number, "idempotency_key": key}
            )

    @contextmanager
    def asking(self, part: Sequence[Line]) -> Generator[None]:
        """Where the block ends without HQ's word on `part`, all of it may be stored or not."""
        try:
            yield
        except KeyboardInterrupt:
            self.unconfirmed += len(part)
            raise
        except Refusal as refusal:
            if refusal.exit_code in (exits.TRY_LATER, exits.UNAVAILABLE, exits.SOFTWARE):
                self.unconfirmed += len(part)
            raise


def publish_all(client: HqClient, path: Path, key: str | None, *, wait: bool, as_json: bool) -> None:
    """Every line of `path` (`-` is standard input) is a mission once, or it is said which are not, and why.

    The whole is looked at before anything is sent. Calling again with the same lines sends only what is missing.
    """
    name = "Standard input" if str(path) == "-" else str(path)
    lines, bad = lines_in(_text(path, name), key)
    if bad:
        _refuse(name, lines, bad, as_json=as_json)
    if not lines:
        raise Refusal(exits.DATA, f"{name} holds no mission; write one JSON envelope on each line")
    told = Told(len(lines))
    try:
        for part in in_calls(lines):
            with working(f"Publishing {len(told.entries)} … {len(lines)}"), told.asking(part):
                # Without a key of the call: HQ refuses a mission whose own key is another.
                answer = client.publish_batch([line.envelope for line in part], "", wait=wait)
            told.take(part, answer)
    finally:
        _show(told, key, as_json=as_json)
    if told.refused:
        raise typer.Exit(exits.DATA)
    if told.unconfirmed:
        raise Refusal(exits.SOFTWARE, "HQ's answer does not tell of every mission that it was sent; update it")


def _text(path: Path, name: str) -> str:
    if str(path) == "-":
        data = sys.stdin.buffer.read(LARGEST_BATCH_FILE + 1)
        if len(data) > LARGEST_BATCH_FILE:
            raise Refusal(exits.IO, f"{name} is longer than the {LARGEST_BATCH_FILE} bytes that a batch may have")
        return decoded(data, name)
    return decoded(read_file(path, LARGEST_BATCH_FILE), name)


def _refuse(name: str, lines: Sequence[Line], bad: Sequence[BadLine], *, as_json: bool) -> None:
    """Ends the command before anything was sent: every bad line is counted, and the first ones are named."""
    if as_json:
        entries = [{"line": one.number, "status": 400, "detail": one.why} for one in bad]
        counts = {"accepted": 0, "existing": 0, "rejected": len(bad), "unsent": len(lines), "unconfirmed": 0}
        say_json(counts | {"missions": entries})
    named = "".join(f"\nline {one.number}: {one.why}" for one in bad[:MOST_NAMED])
    raise Refusal(
        exits.DATA,
        f"Nothing was published: of {len(lines) + len(bad)} missions in {name}, {len(bad)} cannot be sent"
        f"{named}{_and_more(len(bad))}\nCorrect them and run it again",
    )


def _show(told: Told, key: str | None, *, as_json: bool) -> None:
    refused = told.refused
    summary: dict[str, Any] = {
        "accepted": told.count(ACCEPTED),
        "existing": told.count(EXISTING),
        "rejected": len(refused),
        "unsent": told.unsent,
        "unconfirmed": told.unconfirmed,
    }
    if as_json:
        say_json(summary | {"idempotency_key": key, "missions": told.entries})
        return
    for entry in refused[:MOST_NAMED]:
        say(f"Line {entry['line']} was refused ({entry['status']}): {_why(entry)}")
    if more := _and_more(len(refused)):
        say(more.strip())
    if not told.unconfirmed:
        del summary["unconfirmed"]
    say(", ".join(f"{count} {name}" for name, count in summary.items()))
    if advice := what_next(told, key):
        say(advice)


def what_next(told: Told, key: str | None) -> str:
    """What a person does about what is not as it was asked for; empty where everything was stored now."""
    again = "Run it again with the same lines" + (f" and --key {key}" if key else "")
    if told.unsent or told.unconfirmed:
        return f"{again}: what is stored already is not stored twice"
    if told.refused:
        return "Correct the lines that were refused and run it again: what is stored already is not stored twice"
    if told.count(EXISTING):
        return "What existed was published before; to run it once more, publish it under another --key"
    return ""


def _and_more(count: int) -> str:
    return f"\n… and {count - MOST_NAMED} more; --json names all" if count > MOST_NAMED else ""


def _why(entry: Json) -> str:
    detail = entry.get("detail")
    if isinstance(detail, str) and detail.startswith("unknown_factory"):
        return "HQ knows no such target; `corporation factories` lists them. One that will join later: say --expected"
    return words_of([_in_its_line(item) for item in _objects(detail)] if isinstance(detail, list) else detail)


def _in_its_line(item: Json) -> Json:
    """What is wrong, placed in the line and not in the call that carried it: `body`, `missions` and a number lead."""
    loc = item.get("loc")
    return item | {"loc": loc[3:]} if isinstance(loc, list) and loc[:2] == ["body", "missions"] else item


def _objects(value: object) -> list[Json]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
