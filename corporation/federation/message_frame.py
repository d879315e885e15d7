"""The frame of a message: what kombu reads of it, and how its body is written (bad-input §2, C1 to C26, C41 to C48).

Nothing is decoded before the size is known, and nothing is ever decompressed.
"""

import base64
import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final, NoReturn

from corporation import strict_json

LARGEST_MESSAGE_BYTES: Final = 1536 * 1024
"""Nothing that HQ takes makes a larger message: an envelope of 256 KiB grows at most fourfold when it is written again
(`1e15,` becomes `1000000000000000.0, `), then by a third in base64: 1.37 MiB; the headers have the rest."""
FRAME: Final = strict_json.DEFAULT
BODY: Final = strict_json.Limits(depth=strict_json.DEFAULT.depth + 4)
"""An envelope at its deepest, inside `[args, {"order": {"envelope": …}}, embed]`, and one level to spare."""


class Reason(StrEnum):
    """Why a message was refused: the catalogue's words, and some for what it describes and does not name."""

    too_large = "too_large"
    invalid_utf8 = "invalid_utf8"
    not_json = "not_json"
    too_deep = "too_deep"
    not_an_object = "not_an_object"
    missing_keys = "missing_keys"
    content_type = "content_type"
    bad_encoding = "bad_encoding"
    compression_not_allowed = "compression_not_allowed"
    bad_headers = "bad_headers"
    eta_not_allowed = "eta_not_allowed"
    expired = "expired"
    """Dropped and counted, not kept: a worker that was away finds its beats of that time (C37)."""
    bad_body = "bad_body"
    callbacks_not_allowed = "callbacks_not_allowed"
    plain_json_only = "plain_json_only"
    unknown_task = "unknown_task"
    signature_mismatch = "signature_mismatch"
    not_signed = "not_signed"
    unknown_key = "unknown_key"
    forged = "forged"
    """What HQ signed is another task, attempt, factory or order than this."""
    signature_expired = "signature_expired"
    consumer_failed = "consumer_failed"
    """It passed, and Celery's consumer failed on it all the same."""
    not_restorable = "not_restorable"
    """It lay among the unacknowledged ones in a form that kombu never wrote."""


class Cause(Exception):
    """Ends the reading of one message; whoever judges turns it into a verdict."""

    def __init__(self, reason: Reason, why: str) -> None:
        self.reason = reason
        self.why = why
        super().__init__(why)


def refuse(reason: Reason, why: str) -> NoReturn:
    """End the reading of this message."""
    raise Cause(reason, why)


_PARSER_CODES: Final = {"invalid_utf8": Reason.invalid_utf8, "json_too_deep": Reason.too_deep}


def framed(raw: bytes) -> dict[str, Any]:
    """The message as an object whose frame is right: its keys, how its body is written, no compression."""
    if len(raw) > LARGEST_MESSAGE_BYTES:
        refuse(Reason.too_large, f"{len(raw)} bytes, and {LARGEST_MESSAGE_BYTES} are the most")
    document = _parsed(raw)
    check_keys(document, ("body", "content-type", "content-encoding", "headers", "properties"), "the message")
    properties, headers = document["properties"], document["headers"]
    if not isinstance(headers, dict) or not isinstance(properties, dict):
        refuse(Reason.bad_headers, "headers and properties must be objects")
    check_keys(properties, ("body_encoding", "delivery_info", "delivery_tag"), "properties")
    if document["content-type"] != "application/json":
        refuse(Reason.content_type, "only application/json is read")
    if document["content-encoding"] != "utf-8" or properties["body_encoding"] != "base64":
        refuse(Reason.bad_encoding, "a body is UTF-8 in base64")
    if headers.get("compression") is not None:
        refuse(Reason.compression_not_allowed, "nothing is decompressed")
    check_identity("properties.delivery_tag", properties["delivery_tag"])
    check_plain(document, "the message")
    return document


def _parsed(raw: bytes) -> dict[str, Any]:
    try:
        document = strict_json.parse(raw, FRAME)
    except strict_json.JsonRefused as error:
        # NaN alone is no object either, whatever else it is not.
        scalar = error.code == "non_finite_number" and not raw.lstrip().startswith(b"{")
        refuse(Reason.not_an_object if scalar else _PARSER_CODES.get(error.code, Reason.not_json), error.message)
    if not isinstance(document, dict):
        refuse(Reason.not_an_object, f"a message is an object, not a {type(document).__name__}")
    return document


def check_keys(of: Mapping[str, Any], wanted: tuple[str, ...], what: str) -> None:
    """None of `wanted` is absent or null."""
    if missing := [key for key in wanted if of.get(key) is None]:
        refuse(Reason.missing_keys, f"{what} lacks {', '.join(missing)}")


def json_in(body: object) -> Any:
    """The JSON value that a body holds; raises with the reason when there is none."""
    if not isinstance(body, str):
        refuse(Reason.bad_encoding, "the body is no text")
    try:
        data = base64.b64decode(body, validate=True)
    except ValueError:
        refuse(Reason.bad_encoding, "the body is no base64")
    try:
        value = strict_json.parse(data, BODY)
    except strict_json.JsonRefused as error:
        refuse(Reason.too_deep if error.code == "json_too_deep" else Reason.bad_body, error.message)
    check_plain(value, "the body")
    return value


def check_plain(value: object, what: str) -> None:
    """kombu makes dates, bytes and more of an object with exactly these two keys, or fails on it."""
    unseen = [value]
    while unseen:
        one = unseen.pop()
        if isinstance(one, dict):
            if one.keys() == {"__type__", "__value__"}:
                refuse(Reason.plain_json_only, f"{what} holds an object of __type__ and __value__")
            unseen.extend(one.values())
        elif isinstance(one, list):
            unseen.extend(one)


_ID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def is_identity(value: object) -> bool:
    """Whether `value` is an id as HQ and kombu write them: a UUID in small letters."""
    return isinstance(value, str) and _ID.fullmatch(value) is not None


def check_identity(name: str, value: object) -> None:
    """`value`, which the message calls `name`, is an id."""
    if not is_identity(value):
        refuse(Reason.bad_headers, f"{name} is no UUID in small letters")
