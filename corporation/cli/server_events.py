"""Server-sent events as HQ writes them (contract H-28): an id, a name, and one JSON object."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ServerEvent:
    """One event of a stream; `data` is empty when it was no JSON object."""

    name: str
    id: str
    data: dict[str, Any]


def read_events(lines: Iterable[str]) -> Iterator[ServerEvent]:
    """The events in the lines of a stream; comments and unknown fields are skipped, half an event at the end too."""
    fields: dict[str, list[str]] = {}
    for line in lines:
        if not line:
            if fields:
                yield _event(fields)
            fields = {}
            continue
        name, _, value = line.partition(":")
        if name:
            fields.setdefault(name, []).append(value.removeprefix(" "))


def _event(fields: dict[str, list[str]]) -> ServerEvent:
    try:
        data = json.loads("\n".join(fields.get("data", [])))
    except (ValueError, RecursionError):
        data = None
    name, number = fields.get("event", ["message"])[-1], fields.get("id", [""])[-1]
    return ServerEvent(name, number, {str(k): v for k, v in data.items()} if isinstance(data, dict) else {})
