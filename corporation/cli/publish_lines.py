"""The lines of a batch as missions, each under a key that its own words make; nothing here talks to HQ."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from corporation import strict_json

Json = dict[str, Any]

BARE_KEY: Final = "batch"
"""What the keys of a batch begin with when it was given no --key."""
LONGEST_KEY: Final = 80
"""Characters of a --key for a batch; with what is added for each line it stays within HQ's 128."""
LARGEST_LINE: Final = 256 * 1024
"""Bytes of one mission, as HQ measures them."""
# HQ takes 1000 missions and 4 MiB in one call; a little below, for the frame around them.
MOST_IN_A_CALL: Final = 1000
LARGEST_CALL: Final = 4 * 1024 * 1024 - 4096
# HQ reads a call no deeper than one mission alone, and in a call two more levels are open around each of them.
_LIMITS: Final = strict_json.Limits(depth=strict_json.DEFAULT.depth - 2)


@dataclass(frozen=True)
class Line:
    """A mission and the number of its line, from 1; its envelope always has an idempotency key."""

    number: int
    envelope: Json


@dataclass(frozen=True)
class BadLine:
    """A line that HQ cannot take as a mission, and why."""

    number: int
    why: str


def lines_in(text: str, key: str | None) -> tuple[list[Line], list[BadLine]]:
    """The missions in `text`, one JSON envelope on each line, and what is none; blank lines are passed over.

    A line without an `idempotency_key` gets one made of `key` and of what it says, wherever it stands: the same lines
    again give the same missions, whatever was corrected or added around them. A line that stands there n times is n
    missions.
    """
    good: list[Line] = []
    bad: list[BadLine] = []
    seen: Counter[str] = Counter()
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            good.append(Line(number, _envelope(line, key or BARE_KEY, seen)))
        except ValueError as error:
            bad.append(BadLine(number, _why(error)))
    return good, bad


def _envelope(line: str, key: str, seen: Counter[str]) -> Json:
    value = strict_json.parse(line.encode(), _LIMITS)
    if not isinstance(value, dict):
        raise ValueError('it is no JSON object, like {"payload": {"task": "…"}}')
    digest = hashlib.sha256(strict_json.dump(value).encode()).hexdigest()[:32]
    seen[digest] += 1
    again = f":{seen[digest]}" if seen[digest] > 1 else ""
    envelope: Json = {"idempotency_key": f"{key}:{digest}{again}", **value}
    if len(json.dumps(envelope)) > LARGEST_LINE:
        raise ValueError(f"it is longer than the {LARGEST_LINE // 1024} KiB that one mission may have")
    # JSON can write half a character, which no encoding can: HQ would take nothing of the whole call.
    json.dumps(envelope, ensure_ascii=False).encode()
    return envelope


def _why(error: ValueError) -> str:
    if isinstance(error, strict_json.JsonRefused):
        return f"it is no usable JSON: {error.message}"
    return "it holds half a surrogate pair, which is no text" if isinstance(error, UnicodeError) else str(error)


def in_calls(lines: Sequence[Line]) -> Iterator[list[Line]]:
    """`lines` in order, cut into parts that HQ takes in one call."""
    part: list[Line] = []
    size = 0
    for line in lines:
        length = len(json.dumps(line.envelope)) + 2
        if part and (len(part) == MOST_IN_A_CALL or size + length > LARGEST_CALL):
            yield part
            part, size = [], 0
        part.append(line)
        size += length
    if part:
        yield part
