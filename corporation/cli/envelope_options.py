"""The mission envelope as the options of `corporation publish` spell it; nothing here talks to HQ."""

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from corporation.cli import exits
from corporation.cli.exits import Refusal
from corporation.cli.reading import json_object, read_file, read_stdin

LARGEST_BUNDLE: Final = 180 * 1024
"""Bytes; in base64, with the rest of the envelope, this still fits HQ's limit of 256 KiB for one request."""


@dataclass(frozen=True)
class Order:
    """What the options of one `publish` said; None = not said, so that HQ's default holds."""

    task: str
    kind: str | None = None
    context: str | None = None
    context_file: Path | None = None
    bundle: Path | None = None
    target: str | None = None
    priority: int | None = None
    timeout: int | None = None
    max_retries: int | None = None
    ttl: int | None = None
    job_id: str | None = None


def envelope_of(order: Order, key: str) -> dict[str, Any]:
    """The envelope to publish under `key`; reads the files that the order names, and stdin for the task `-`."""
    task = read_stdin() if order.task == "-" else order.task
    if not task:
        raise Refusal(exits.DATA, "The task is empty; say what is to be done")
    options = {
        "job_id": order.job_id,
        "priority": order.priority,
        "timeout_seconds": order.timeout,
        "max_retries": order.max_retries,
        "ttl_seconds": order.ttl,
    }
    given = {name: value for name, value in options.items() if value is not None}
    return {"idempotency_key": key, "payload": {"task": task, "context": context_of(order)}, **given}


def context_of(order: Order) -> dict[str, Any]:
    """The context: from --context or --context-file, with --kind, --target and --bundle added."""
    context = _given_context(order)
    added = {"mission_kind": order.kind, "target_factory_id": order.target, "bundle_base64": _bundle(order.bundle)}
    for name, value in added.items():
        if value is None:
            continue
        if context.get(name, value) != value:
            raise Refusal(exits.USAGE, f"The context already has another {name}; give it in one place only")
        context[name] = value
    return context


def _given_context(order: Order) -> dict[str, Any]:
    if order.context is not None and order.context_file is not None:
        raise Refusal(exits.USAGE, "--context and --context-file exclude each other; give one of them")
    if order.context_file is not None:
        return json_object(read_file(order.context_file), str(order.context_file))
    return {} if order.context is None else object_in(order.context, "--context")


def object_in(text: str, option: str) -> dict[str, Any]:
    """The JSON object that an option says, or the file that it names with `@`."""
    if text.startswith("@"):
        name = text[1:]
        return json_object(read_file(Path(name)), name)
    return json_object(text.encode("utf-8", "surrogateescape"), option)


def _bundle(path: Path | None) -> str | None:
    if path is None:
        return None
    data = read_file(path, LARGEST_BUNDLE)
    if data[:2] != b"\x1f\x8b":
        raise Refusal(exits.DATA, f"{path} is no gzip file; make it with: tar -czf {path.name} implementation/")
    return base64.b64encode(data).decode("ascii")
