"""The 49 messages of bad-input §2, each made from a good one by changing what its row names."""

import json
import zlib
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import uuid4

QUEUE: Final = "local_factory"
MEGABYTE: Final = 1_000_000
UNSET: Final = object()
"""As a value: the key is left out."""


def order(job_id: str = "m-1", **changes: Any) -> dict[str, Any]:
    """What HQ tells a factory to do, for the kind `noop`."""
    envelope = {"job_id": job_id, "payload": {"task": "t", "context": {"mission_kind": "noop"}}}
    fields = {"job_id": job_id, "attempt": 1, "factory_id": "desk-7", "timeout_seconds": 60, "envelope": envelope}
    return fields | changes


def document(
    headers: Mapping[str, Any] | None = None,
    properties: Mapping[str, Any] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    embed: Mapping[str, Any] | None = None,
    body: Any = None,
    **changes: Any,
) -> dict[str, Any]:
    """A message as our engine sends it; `body` is the JSON value in place of `[args, kwargs, embed]`."""
    attempt_id = str(uuid4())
    nothing = dict.fromkeys(("callbacks", "errbacks", "chain", "chord"))
    inside = [[], {"order": order(), **(kwargs or {})}, nothing | dict(embed or {})] if body is None else body
    whole = {
        "body": b64encode(json.dumps(inside).encode()).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": _without(headers_of("mission.noop", attempt_id) | dict(headers or {})),
        "properties": _without(properties_of(attempt_id, QUEUE) | dict(properties or {})),
    }
    return _without(whole | changes)


def headers_of(task: str, attempt_id: str) -> dict[str, Any]:
    """The headers that Celery 5.7 writes."""
    none = dict.fromkeys(("shadow", "eta", "expires", "group", "group_index", "parent_id", "stamped_headers"))
    return none | {
        "lang": "py",
        "task": task,
        "id": attempt_id,
        "retries": 0,
        "timelimit": [105, 60],
        "root_id": attempt_id,
        "argsrepr": "()",
        "kwargsrepr": "job_id='m-1' attempt=1",
        "origin": "gen1@hq",
        "ignore_result": False,
        "replaced_task_nesting": 0,
        "stamps": {},
    }


def properties_of(attempt_id: str, queue: str) -> dict[str, Any]:
    """The properties that kombu 5.7 writes."""
    return {
        "correlation_id": attempt_id,
        "reply_to": "",
        "delivery_mode": 2,
        "delivery_info": {"exchange": "", "routing_key": queue},
        "priority": 0,
        "body_encoding": "base64",
        "delivery_tag": str(uuid4()),
    }


def message(**changes: Any) -> bytes:
    """That document as it lies in Redis."""
    return json.dumps(document(**changes)).encode()


def _without(fields: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value is not UNSET}


@dataclass(frozen=True)
class Row:
    """One row of the catalogue: what is pushed, and the reason that must be recorded (None: it is not refused)."""

    name: str
    make: Callable[[], bytes]
    reason: str | None


def _row(number: int, reason: str | None, make: Callable[[], bytes] | bytes) -> Row:
    return Row(f"C{number}", make if callable(make) else lambda: make, reason)


def _changed(**changes: Any) -> Callable[[], bytes]:
    return lambda: message(**changes)


def _signature(task: str, **options: Any) -> dict[str, Any]:
    return {"task": task, "args": [], "kwargs": {}, "options": options, "subtask_type": None, "immutable": False}


def bomb(megabytes: int = 200) -> str:
    """A deflate stream that grows a thousandfold, in base64: every megabyte in it is the same compressed block."""
    stream = zlib.compressobj(9)
    block = bytes(MEGABYTE)
    first, again = (stream.compress(block) + stream.flush(zlib.Z_FULL_FLUSH) for _ in range(2))
    return b64encode(first + again * (megabytes - 1) + stream.flush()).decode()


_DEEP: Final = 100_000
_OTHER_QUEUE: Final = _signature("mission.noop", queue="factory.desk-8")
_CHORD: Final = {**_signature("mission.noop"), "chord_size": 1}

ROWS: Final = (
    _row(1, "not_json", b"not json"),
    _row(2, "not_json", b""),
    _row(3, "invalid_utf8", b'{"body": "\xff\xfe"}'),
    _row(4, "not_an_object", b"5"),
    _row(5, "not_an_object", b"[]"),
    _row(6, "missing_keys", b"{}"),
    _row(7, "not_json", lambda: message()[:-20]),
    _row(8, "too_deep", b"[" * _DEEP + b"]" * _DEEP),
    _row(9, "not_an_object", b"NaN"),
    _row(10, "missing_keys", lambda: _cut("properties")),
    _row(11, "missing_keys", lambda: _cut("headers", None)),
    _row(12, "bad_headers", lambda: _cut("headers", [])),
    _row(13, "missing_keys", _changed(properties={"delivery_info": UNSET})),
    _row(14, "missing_keys", _changed(properties={"delivery_tag": UNSET})),
    _row(15, None, message),
    _row(16, "bad_encoding", _changed(properties={"body_encoding": "rot13"})),
    _row(17, "bad_encoding", lambda: _cut("body", "*** no base64 ***")),
    _row(18, "bad_body", lambda: _cut("body", b64encode(b"not json").decode())),
    _row(19, "bad_body", _changed(body=5)),
    _row(20, "bad_body", _changed(body=[[], {}])),
    _row(21, "bad_body", _changed(body=["args", {}, {}])),
    _row(22, "bad_body", _changed(body=[[], ["kwargs"], {}])),
    _row(23, "bad_body", _changed(body=[[], {}, ["embed"]])),
    _row(24, "content_type", lambda: _cut("content-type", "application/x-python-serialize")),
    _row(25, "content_type", lambda: _cut("content-type", "application/x-yaml")),
    _row(26, "content_type", lambda: _cut("content-type", "application/x-unheard-of")),
    _row(27, "unknown_task", _changed(headers={"task": "mission.unheard_of"})),
    _row(28, "missing_keys", _changed(headers={"task": UNSET})),
    _row(29, "bad_headers", _changed(headers={"task": 5})),
    _row(30, "missing_keys", _changed(headers={"id": UNSET})),
    _row(31, "bad_headers", _changed(headers={"id": {"a": 1}})),
    _row(32, "bad_headers", lambda: message(headers={"id": "a" * MEGABYTE})),
    _row(33, "eta_not_allowed", _changed(headers={"eta": "soon"})),
    _row(34, "eta_not_allowed", _changed(headers={"eta": "9999-12-31T23:59:59+00:00"})),
    _row(35, "eta_not_allowed", _changed(headers={"eta": 5})),
    _row(36, "bad_headers", _changed(headers={"expires": "soon"})),
    _row(37, "expired", _changed(headers={"expires": "2026-01-01T00:00:00+00:00"})),
    _row(38, "bad_headers", _changed(headers={"retries": "five"})),
    _row(39, "bad_headers", _changed(headers={"timelimit": "60"})),
    _row(40, "bad_headers", _changed(headers={"timelimit": [-5, -1]})),
    _row(41, "compression_not_allowed", _changed(headers={"compression": "application/x-unheard-of"})),
    _row(42, "compression_not_allowed", lambda: _cut("body", bomb(), compression="application/x-gzip")),
    _row(43, "callbacks_not_allowed", _changed(embed={"callbacks": ["bogus"]})),
    _row(44, "callbacks_not_allowed", _changed(embed={"callbacks": [_OTHER_QUEUE]})),
    _row(45, "callbacks_not_allowed", _changed(embed={"chord": _CHORD})),
    _row(46, "plain_json_only", _changed(kwargs={"extra": {"__type__": "unheard_of", "__value__": 1}})),
    _row(47, "plain_json_only", _changed(kwargs={"order": {"__type__": "datetime", "__value__": "junk"}})),
    _row(48, "too_large", lambda: _cut("body", "A" * 20 * MEGABYTE)),
    _row(49, "signature_mismatch", _changed(kwargs={"surprise": 1})),
)


def _cut(key: str, value: Any = UNSET, **headers: Any) -> bytes:
    """A good message but for one key of its frame, which is left out or has `value`."""
    return json.dumps(_without(document(headers=headers) | {key: value})).encode()
