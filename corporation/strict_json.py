"""JSON from strangers: one document, UTF-8, no duplicate keys, no NaN, bounded in depth and in its integers."""

import json
import math
import re
from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True)
class Limits:
    """How far a document may go; the depth counts every `[` and `{` that is open at once."""

    depth: int = 16
    integer: int = 2**53 - 1


DEFAULT: Final = Limits()
REPORT: Final = Limits(depth=64)
"""For what a factory reports: deeper than an order, and still far from any parser's end."""

# Possessive on purpose: a hostile string must not make the searches go back.
_STRING: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_STRING_OR_BRACKET: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[{]|[\]}]', re.DOTALL)
_AS_BRACES: Final = bytes.maketrans(b"[]", b"{}")
_NO_BRACKETS: Final = bytes(byte for byte in range(256) if byte not in b"[]{}")


class JsonRefused(ValueError):
    """The text is not a document we take; `code` is the catalogue's cause, `message` says where and why."""

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        self.message = message
        super().__init__(f"{code}: {message}")


def parse(data: bytes, limits: Limits = DEFAULT) -> Any:
    """The one JSON document in `data`; raises JsonRefused, and nothing else, for everything that is not exactly that.

    The message never repeats the text it refuses. Strings may hold NUL and lone surrogates: who stores them decides.
    """
    text = _decoded(data)
    _check_depth(data, limits.depth)
    try:
        return json.loads(
            text,
            object_pairs_hook=_object,
            parse_int=lambda digits: _integer(digits, limits.integer),
            parse_float=_float,
            parse_constant=_refuse_constant,
        )
    except json.JSONDecodeError as error:
        raise JsonRefused("invalid_json", _where(error)) from None


def dump(value: Any) -> str:
    """`value` as the JSON text of contract S-7: sorted keys, ", " and ": ", ASCII only; NaN raises ValueError."""
    return json.dumps(value, sort_keys=True, separators=(", ", ": "), ensure_ascii=True, allow_nan=False)


def _decoded(data: bytes) -> str:
    encoding = json.detect_encoding(data)
    if encoding == "utf-8-sig":
        raise JsonRefused("invalid_json", "the text starts with a byte order mark; send it without")
    if encoding != "utf-8":
        raise JsonRefused("invalid_utf8", "the text is UTF-16 or UTF-32; send UTF-8")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise JsonRefused("invalid_utf8", f"byte {error.start + 1} is not UTF-8") from None


def _check_depth(data: bytes, deepest: int) -> None:
    if _is_shallow(data, deepest):
        return
    depth = 0
    for match in _STRING_OR_BRACKET.finditer(data):
        first = match[0][0]
        if first in b"[{":
            depth += 1
            if depth > deepest:
                raise JsonRefused("json_too_deep", f"more than {deepest} levels are open at byte {match.start() + 1}")
        elif first in b"]}":
            depth -= 1


def _is_shallow(data: bytes, deepest: int) -> bool:
    """Whether the text is surely not too deep; five times as fast as counting, which then finds the place."""
    if data.count(b"[") + data.count(b"{") <= deepest:
        return True
    brackets = _STRING.sub(b"", data).translate(_AS_BRACES, _NO_BRACKETS)
    for _ in range(deepest):
        brackets = brackets.replace(b"{}", b"")
    return not brackets


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    read = dict(pairs)
    if len(read) != len(pairs):
        raise JsonRefused("duplicate_key", "an object names one key twice; which one is meant cannot be known")
    return read


def _integer(digits: str, largest: int) -> int:
    # Length first: int() takes quadratic time, and refuses 4,300 digits with an error of its own.
    if len(digits) > len(str(largest)) + 1 or abs(int(digits)) > largest:
        raise JsonRefused("integer_out_of_range", f"an integer lies outside ±{largest}")
    return int(digits)


def _float(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise JsonRefused("non_finite_number", "a number is too large for a 64-bit float")
    return number


def _refuse_constant(_: str) -> Any:
    raise JsonRefused("non_finite_number", "NaN and Infinity are no JSON numbers")


def _where(error: json.JSONDecodeError) -> str:
    # Our words: the library's may quote the text, and this one may end in a log.
    # What it quotes comes after a colon and a blank; the colon in "Expecting ':' delimiter" is its own.
    what = "unexpected text after the document" if error.msg == "Extra data" else error.msg.partition(": ")[0]
    return f"{what} (line {error.lineno} column {error.colno})"
