"""The JSON object in a text that no mission could be made of, for the dead letter that keeps its keys (S-37; pure)."""

import json
import math
import re
from typing import Any, Final

DEEPEST: Final = 600
"""Levels; beyond them the readers of a stream fail too (Python's own parser at about a thousand)."""
MOST_DIGITS: Final = 4300
"""Of an integer; Python, like some others, refuses to read or to write a longer one."""

# Possessive on purpose: a hostile string must not make the search go back.
_STRING_OR_BRACKET: Final = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[{]|[\]}]', re.DOTALL)


def object_in(raw: bytes) -> dict[str, Any]:
    """The keys of the JSON object that is `raw`, empty when it is none, or one deeper than DEEPEST; never an error.

    Laxer than the orders' parser, which refused it: integers of any size are exact, and of a key named twice the last
    one counts, as for most readers. A number that those could not hold (1e999, or beyond MOST_DIGITS) is its text.
    """
    try:
        text = raw.decode("utf-8")
        if _is_too_deep(text):
            return {}
        document = json.loads(text, parse_int=_integer, parse_float=_float, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _is_too_deep(text: str) -> bool:
    depth = 0
    for match in _STRING_OR_BRACKET.finditer(text):
        first = match[0][0]
        depth += (first in "[{") - (first in "]}")
        if depth > DEEPEST:
            return True
    return False


def _integer(digits: str) -> int | str:
    return int(digits) if len(digits) <= MOST_DIGITS else digits


def _float(digits: str) -> float | str:
    number = float(digits)
    return number if math.isfinite(number) else digits


def _refuse(_: str) -> Any:
    raise ValueError("NaN and Infinity are no JSON numbers")
