"""Lengths of time as people say them."""

from math import inf
from typing import Final

UNITS: Final = ((86_400, "d"), (3_600, "h"), (60, "min"))


def how_long(seconds: object) -> str:
    """`12 s`, `3 min`, `2 h` or `5 d`, rounded down; a dash for what is no number."""
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or abs(seconds) == inf or seconds != seconds:
        return "-"
    for size, unit in UNITS:
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{int(max(seconds, 0))} s"
