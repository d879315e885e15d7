"""What the options of a replay change in an order; the rest stays as it was. Nothing here talks to HQ."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from corporation.cli.envelope_options import object_in
from corporation.cli.reading import json_object, read_file, read_stdin

NAMES: Final = ("job_id", "idempotency_key")
NUMBERS: Final = ("priority", "timeout_seconds", "max_retries", "ttl_seconds")

Json = dict[str, Any]


@dataclass(frozen=True)
class Change:
    """What one replay said of the order; None = as it was."""

    task: str | None = None
    context: str | None = None
    target: str | None = None
    priority: int | None = None
    timeout: int | None = None
    max_retries: int | None = None
    ttl: int | None = None
    envelope: Path | None = None
    """A file with the whole order, which the rest changes."""

    @property
    def says_something(self) -> bool:
        """Whether the order is to be another one at all."""
        return self != Change()


def new_order(change: Change, old: Mapping[str, Any] | None) -> Json | None:
    """The envelope to run: that of the file, else `old` without its names, as `change` says; None without either.

    Reads the files that the change names, and standard input for `-`.
    """
    if change.envelope is not None:
        return _changed(_written(change.envelope), change)
    return _changed(_without_past(old), change) if old is not None else None


def _written(path: Path) -> Json:
    if str(path) == "-":
        return json_object(read_stdin("the envelope").encode(), "Standard input")
    return json_object(read_file(path), str(path))


def _without_past(old: Mapping[str, Any]) -> Json:
    """The order as it can be sent again: HQ names it anew, and a stream may have said its numbers as text."""
    kept = {name: value for name, value in old.items() if name not in NAMES}
    numbers = {name: int(kept[name]) for name in NUMBERS if str(kept.get(name)).lstrip("-").isdecimal()}
    payload = _object(kept.get("payload"))
    context = {name: value for name, value in _object(payload.get("context")).items() if name != "_retry_count"}
    return {**kept, **numbers, "payload": {**payload, "context": context}}


def _changed(order: Json, change: Change) -> Json:
    said = (change.priority, change.timeout, change.max_retries, change.ttl)
    numbers = {name: value for name, value in zip(NUMBERS, said, strict=True) if value is not None}
    payload = dict(_object(order.get("payload")))
    if change.task is not None:
        payload["task"] = read_stdin() if change.task == "-" else change.task
    if change.context is not None or change.target is not None:
        payload["context"] = _context(_object(payload.get("context")), change)
    return {**order, **numbers, "payload": payload}


def _context(old: Mapping[str, Any], change: Change) -> Json:
    said = object_in(change.context, "--context") if change.context is not None else {}
    if change.target is not None:
        said["target_factory_id"] = change.target or None
    taken_away = {name for name, value in said.items() if value is None}
    return {name: value for name, value in {**old, **said}.items() if name not in taken_away}


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
