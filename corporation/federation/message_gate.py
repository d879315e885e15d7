"""What a worker takes from its queues: bytes in, a verdict out, before kombu or Celery sees a message (bad-input §2).

Nothing here raises, decompresses, or decodes before the size is known; the words of a reason are the catalogue's.
"""

import base64
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from inspect import Signature
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from corporation import strict_json
from corporation.federation.message_frame import (
    BODY,
    Cause,
    Reason,
    check_identity,
    check_keys,
    framed,
    is_identity,
    json_in,
    refuse,
)
from corporation.trust.signatures import ENVELOPE, SIGNATURE, Claimed, ForgedError, Signed, verify

LONGEST_NAME: Final = 200
MISSION: Final = "mission."
CONTROL: Final = "corporation."
ECHO: Final = "corporation.echo"
"""The one order of HQ's that travels through a queue of missions: its consumer answers it."""
OWN_JOBS: Final = ("corporation.heartbeat", "corporation.sweep_factories", "corporation.echo_factories")
"""What a node's beat asks of its own control worker. HQ does not sign it, and all it does is what is done anyway."""


@dataclass(frozen=True)
class Trust:
    """Whose word counts: what HQ signed for `factory_id`, with one of the keys that `keys` gives by their ids."""

    factory_id: str
    keys: Callable[[], Mapping[str, Ed25519PublicKey]]


@dataclass(frozen=True)
class Rules:
    """What this worker can run: `signature_of` gives a task's parameters, or None for a task that is not here."""

    signature_of: Callable[[str], Signature | None]
    control_queue: str
    trust: Trust | None = None
    """None for a node that was given no keys: it runs what it finds in its queues."""


@dataclass(frozen=True)
class Accepted:
    """The message as kombu would have parsed it: plain JSON, every part of the type that Celery takes for granted."""

    document: dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """What HQ is told of an attempt that will not run here, so that its mission need not wait for the lease."""

    attempt_id: str
    job_id: str
    attempt: int
    why: str
    permanent: bool
    """It will never run anywhere, however often it is tried."""


@dataclass(frozen=True)
class Refused:
    """The message must not be run; `why` repeats no more of it than a name, cut and escaped."""

    reason: Reason
    why: str
    attempt_id: str | None = None
    answer: Answer | None = None


Verdict = Accepted | Refused


def judge(raw: bytes, queue: str, rules: Rules, now: datetime) -> Verdict:
    """What becomes of the message `raw` that lay in `queue` at `now` (aware); the same for any order of its keys."""
    document: Any = None
    try:
        document = framed(raw)
        headers = _checked_headers(document["headers"], now)
        _check_delivery(document["properties"], queue)
        args, kwargs = _checked_body(document["body"])
        _check_signature(headers, args, kwargs, rules.trust, now)
        _check_task(headers, queue, args, kwargs, rules)
        return Accepted(document)
    except Cause as cause:
        return _refused(cause, document, rules.trust, now)


def judge_broadcast(raw: bytes) -> Verdict:
    """What becomes of a message of Celery's own (remote control, events, replies): its frame is checked, no more."""
    try:
        document = framed(raw)
        json_in(document["body"])
        return Accepted(document)
    except Cause as cause:
        return Refused(cause.reason, cause.why)


# The headers: what Celery acts on.

_MOMENT: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?(?:Z|[+-]\d\d:\d\d)", re.ASCII)
_CALLBACKS: Final = ("callbacks", "errbacks", "chain", "chord")
_EMPTY: Final = ("shadow", "group", "group_index", "stamped_headers", "stamps")
"""Celery would show the task under another name, or count it into a group."""
_KNOWN: Final = frozenset(
    (
        *("lang", "task", "id", "shadow", "eta", "expires", "group", "group_index", "retries", "timelimit"),
        *("root_id", "parent_id", "argsrepr", "kwargsrepr", "origin", "ignore_result", "replaced_task_nesting"),
        *("stamped_headers", "stamps", "compression", "redelivered", ENVELOPE, SIGNATURE),
    )
)
"""All that Celery, kombu and HQ's signature write. HQ signs none of the others, and Celery makes every header a field
of the running task's context: one called `get` or `as_execution_options` would take the place of its method."""
_BEATS: Final = "celery_beat_task"
"""Celery's beat marks what it sends so."""


def _checked_headers(headers: Mapping[str, Any], now: datetime) -> Mapping[str, Any]:
    check_keys(headers, ("task", "id"), "headers")
    _check_texts(headers)
    _check_numbers(headers)
    _check_callbacks(headers)
    known = _KNOWN | {_BEATS} if headers["task"] in OWN_JOBS else _KNOWN
    if alien := headers.keys() - known:
        refuse(Reason.bad_headers, f"headers.{_short(min(alien))} is none that HQ sends")
    if filled := [name for name in _EMPTY if headers.get(name)]:
        refuse(Reason.bad_headers, f"headers.{filled[0]} must be empty")
    _check_time(headers, now)
    return headers


def _check_texts(headers: Mapping[str, Any]) -> None:
    task = headers["task"]
    if not isinstance(task, str) or len(task) > LONGEST_NAME:
        refuse(Reason.bad_headers, f"headers.task is no text of at most {LONGEST_NAME} characters")
    check_identity("headers.id", headers["id"])
    for name in ("root_id", "parent_id"):
        if headers.get(name) is not None:
            check_identity(f"headers.{name}", headers[name])
    for name in ("argsrepr", "kwargsrepr", "origin", "lang"):
        if not isinstance(headers.get(name), str | None):
            refuse(Reason.bad_headers, f"headers.{name} is no text")
    if not isinstance(headers.get("redelivered"), bool | None):
        refuse(Reason.bad_headers, "headers.redelivered is neither true nor false")


def _check_callbacks(names: Mapping[str, Any]) -> None:
    if any(names.get(name) for name in _CALLBACKS):
        refuse(Reason.callbacks_not_allowed, "a mission starts nothing else")


def _check_numbers(headers: Mapping[str, Any]) -> None:
    for name in ("retries", "replaced_task_nesting"):
        value = headers.get(name)
        if value is not None and (type(value) is not int or value < 0):
            refuse(Reason.bad_headers, f"headers.{name} is no whole number from 0 on")
    limits = headers.get("timelimit")
    if limits is not None and not (isinstance(limits, list) and len(limits) == 2 and all(map(_is_limit, limits))):
        refuse(Reason.bad_headers, "headers.timelimit is no pair of positive numbers")


def _is_limit(value: object) -> bool:
    if value is None:
        return True
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


def _check_time(headers: Mapping[str, Any], now: datetime) -> None:
    if headers.get("eta") is not None:
        refuse(Reason.eta_not_allowed, "a mission waits in the ledger, never in a worker")
    expires = headers.get("expires")
    if expires is None:
        return
    try:
        if not _MOMENT.fullmatch(expires):
            raise ValueError
        over = datetime.fromisoformat(expires) <= now
    except (TypeError, ValueError, OverflowError):
        refuse(Reason.bad_headers, "headers.expires is no moment with its offset from UTC")
    if over:
        refuse(Reason.expired, "it was wanted until a moment that has passed")


def _check_delivery(properties: Mapping[str, Any], queue: str) -> None:
    """Where kombu would put the message back to is where it came from, and nowhere else."""
    place = properties["delivery_info"]
    if not isinstance(place, dict) or place.get("exchange") != "" or place.get("routing_key") != queue:
        refuse(Reason.bad_headers, "properties.delivery_info names another queue than this one")
    if type(properties.get("priority")) not in (int, type(None)):
        refuse(Reason.bad_headers, "properties.priority is no whole number")
    for name in ("reply_to", "correlation_id"):
        if not isinstance(properties.get(name), str | None):
            refuse(Reason.bad_headers, f"properties.{name} is no text")


# The body: what the task is given.


def _checked_body(body: object) -> tuple[list[Any], dict[str, Any]]:
    match json_in(body):
        case [list(args), dict(kwargs), dict(embed)]:
            pass
        case _:
            refuse(Reason.bad_body, "a body is [args, kwargs, embed]: a list and two objects")
    _check_callbacks(embed)
    if set(embed) - set(_CALLBACKS):
        # Celery lets them replace any field of the running task's context.
        refuse(Reason.bad_body, "embed holds more than its four names")
    return args, kwargs


def _check_signature(
    headers: Mapping[str, Any], args: list[Any], kwargs: dict[str, Any], trust: Trust | None, now: datetime
) -> None:
    """HQ signed exactly this for us; nothing is asked of a node without keys, nor of what its own beat sends it."""
    if trust is None or headers["task"] in OWN_JOBS:
        return
    claimed = Claimed(headers["task"], headers["id"], trust.factory_id, args, kwargs)
    try:
        signed = verify(headers, claimed, trust.keys(), now.timestamp())
    except ForgedError as error:
        refuse(Reason(error.code), str(error))
    _check_order(headers, kwargs, signed)


def _check_order(headers: Mapping[str, Any], kwargs: Mapping[str, Any], signed: Signed) -> None:
    """The limits by which Celery ends a task are no part of what is signed: they must say what the order says."""
    if not signed.task.startswith(MISSION):
        return
    order = kwargs.get("order")
    if not isinstance(order, dict) or (order.get("job_id"), order.get("attempt")) != (signed.job_id, signed.attempt):
        refuse(Reason.forged, "HQ signed it for another mission or attempt than its order names")
    hard, soft = headers.get("timelimit") or (None, None)
    if soft != order.get("timeout_seconds") or hard is None or hard < soft:
        refuse(Reason.forged, "headers.timelimit says another time than the order that HQ signed")


def _check_task(headers: Mapping[str, Any], queue: str, args: list[Any], kwargs: dict[str, Any], rules: Rules) -> None:
    """A task of ours, in a queue where it belongs, with arguments that it takes."""
    name = headers["task"]
    ours = name.startswith(MISSION) or name == ECHO or (name.startswith(CONTROL) and queue == rules.control_queue)
    signature = rules.signature_of(name) if ours else None
    if signature is None:
        refuse(Reason.unknown_task, f"no task of this worker on this queue is called {name!r}")
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        refuse(Reason.signature_mismatch, f"{name}: {_short(str(error))}")
    if name.startswith(MISSION) and headers.get("ignore_result"):
        refuse(Reason.bad_headers, "headers.ignore_result would keep the outcome of a mission from HQ")


def _short(text: str) -> str:
    return text.encode("unicode_escape").decode("ascii")[:LONGEST_NAME]


# What HQ hears of it.

_ANSWERED: Final[Mapping[Reason, bool]] = {
    Reason.unknown_task: False,  # another factory, or this one after its update, may know it
    Reason.consumer_failed: False,
    Reason.signature_mismatch: True,
    Reason.plain_json_only: True,
}
"""The refusals that HQ's own messages can meet, and whether they are for good."""


def _refused(cause: Cause, document: Any, trust: Trust | None, now: datetime) -> Refused:
    headers = document["headers"] if document else {}
    attempt_id = headers.get("id")
    if not is_identity(attempt_id):
        return Refused(cause.reason, cause.why)
    if not _is_genuine(document, trust, now):
        # An answer ends an attempt at HQ, so whoever can write to our queue must not be able to bring one about.
        return Refused(cause.reason, cause.why, attempt_id)
    return Refused(cause.reason, cause.why, attempt_id, answer_to(document, cause.reason, cause.why))


def _is_genuine(document: Mapping[str, Any], trust: Trust | None, now: datetime) -> bool:
    """Whether HQ sent the message that is refused for another reason."""
    if trust is None:
        return True
    try:
        args, kwargs, _ = strict_json.parse(base64.b64decode(document["body"]), BODY)
        _check_signature(document["headers"], args, kwargs, trust, now)
    except (Cause, ValueError, TypeError, KeyError):
        return False
    return True


def answer_to(document: Mapping[str, Any], reason: Reason, why: str) -> Answer | None:
    """What to tell HQ of the message whose frame and id are right; None where it has no use for an answer."""
    headers = document["headers"]
    if reason not in _ANSWERED or not str(headers.get("task")).startswith(MISSION):
        return None
    job_id, attempt = _order_in(document)
    said = f"the factory refused the message ({reason}): {why}"
    return Answer(headers["id"], job_id, attempt, said, _ANSWERED[reason])


def _order_in(document: Mapping[str, Any]) -> tuple[str, int]:
    """The mission and the attempt's number, as far as the order says them."""
    with suppress(ValueError, KeyError, TypeError, IndexError):
        order = strict_json.parse(base64.b64decode(document["body"]), BODY)[1]["order"]
        if isinstance(order["job_id"], str) and type(order["attempt"]) is int:
            return order["job_id"], order["attempt"]
    return "", 0
