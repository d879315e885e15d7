"""What strangers send: bytes, texts and documents that are nearly right, anything else, and the mark of secrets."""

import copy
import json
from base64 import b64encode
from collections.abc import Callable, Sequence
from typing import Any, Final

from canary import MARK
from hypothesis import strategies as st

from corporation.strict_json import JsonRefused, parse

AWKWARD: Final = (
    *(None, True, False, 0, -1, 1, 2**31, 2**53, 2**63, -(2**63) - 1, 10**400, 0.5, -0.0, 1e308),
    *(float("nan"), float("inf"), float("-inf"), "", " ", "\0", "\ud800", "\u202e", "\x1b[2J", "²", "١", "é" * 300),
    *("a" * 5000, MARK, f"https://user:{MARK}@host/%zz", "../../etc/passwd", "9999-12-31T23:59:59-14:00", "0" * 5000),
    *("__proto__", "{{7*7}}", "%00", "f_x\r\nACL SETUSER x", [], {}, [[]], {"": None}),
)
"""Where types, lengths, calendars and encodings end."""

_TEXTS: Final = st.one_of(
    st.text(max_size=40),
    st.sampled_from([one for one in AWKWARD if isinstance(one, str)]),
    st.text(alphabet='0123456789:.-+TZ/@%[]{}"\\,= \n\r\t', max_size=40),
)
ANYTHING: Final = st.recursive(
    # Copies: what was drawn is changed in place below.
    st.one_of(st.sampled_from(AWKWARD).map(copy.deepcopy), st.integers(), st.floats(), _TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(_TEXTS, inner, max_size=4)),
    max_leaves=12,
)
"""Any value that JSON and Python can make, odd ones first."""


def texts(*good: str) -> st.SearchStrategy[str]:
    """Texts that are one of `good`, nearly one, or anything."""
    return st.one_of(_TEXTS, _nearly(list(good), "".join)) if good else _TEXTS


def data(*good: bytes) -> st.SearchStrategy[bytes]:
    """Bytes that are one of `good`, nearly one, or anything."""
    anything = st.one_of(st.binary(max_size=300), _TEXTS.map(lambda text: text.encode("utf-8", "surrogatepass")))
    return st.one_of(anything, _nearly(list(good), lambda parts: b"".join(parts))) if good else anything


@st.composite
def _nearly(draw: st.DrawFn, good: Sequence[Any], join: Callable[[list[Any]], Any]) -> Any:
    """One of `good` after up to four cuts, repetitions and insertions."""
    one = draw(st.sampled_from(good))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(one)))
        end = min(len(one), start + draw(st.sampled_from([0, 0, 1, 1, 2, 8, 64])))
        inside: Any = draw(st.sampled_from(list(_pieces(one))))
        one = join([one[:start], inside, one[end:]])
    return one


def _pieces(one: Any) -> Sequence[Any]:
    pieces = ["", "\0", "\n", " ", '"', "{", "[", "}", "]", ",", ":", ".", "-", "=", "%", "\\u0000", "1e999", "A" * 300]
    pieces += ["null", "NaN", "\ufeff", "\u202e", MARK, "[" * 2000, '{"a":' * 2000]
    if isinstance(one, str):
        return [*pieces, "\ud800", one[:20], one[-20:]]
    return [*(piece.encode() for piece in pieces), b"\xff", b"\x80", b"\xc3", one[:20], one[-20:]]


def documents(*good: Any) -> st.SearchStrategy[Any]:
    """Values like one of `good`, of which some places hold something else, or are gone, or are there twice over."""
    return st.one_of(ANYTHING, _changed(list(good)))


@st.composite
def _changed(draw: st.DrawFn, good: Sequence[Any]) -> Any:
    whole = [copy.deepcopy(draw(st.sampled_from(good)))]
    for _ in range(draw(st.integers(0, 3))):
        holder, key = draw(st.sampled_from(_places(whole)))
        match draw(st.sampled_from(["other", "other", "gone", "more", "deeper"])):
            case "other":
                holder[key] = draw(ANYTHING)
            case "gone" if isinstance(holder, dict):
                del holder[key]
            case "more" if isinstance(holder, dict):
                holder[draw(_TEXTS)] = draw(ANYTHING)
            case "deeper":
                holder[key] = {"x": [holder[key]]}
            case _:
                holder[key] = [copy.deepcopy(holder[key])] * 3
    return whole[0]


def _places(whole: Any) -> list[tuple[Any, Any]]:
    """Every place inside `whole` that a value stands in."""
    found: list[tuple[Any, Any]] = []
    unseen: list[Any] = [whole]
    while unseen:
        one = unseen.pop()
        keys = list(one) if isinstance(one, dict) else list(range(len(one))) if isinstance(one, list) else []
        found += [(one, key) for key in keys]
        unseen += [one[key] for key in keys]
    return found


def bodies(*good: Any) -> st.SearchStrategy[Any]:
    """Those of `documents` that the parser of bodies could have made of some bytes."""
    return documents(*good).filter(_is_json)


def _is_json(document: Any) -> bool:
    try:
        parse(json.dumps(document).encode())
    except JsonRefused:
        return False
    return True


def written(*good: Any) -> st.SearchStrategy[bytes]:
    """JSON that says something like one of `good`, or nearly JSON."""
    said = documents(*good).map(lambda value: json.dumps(value).encode())
    return st.one_of(said, data(*(json.dumps(one).encode() for one in good)))


def in_base64(inner: st.SearchStrategy[bytes]) -> st.SearchStrategy[str]:
    """`inner` in base64."""
    return inner.map(lambda raw: b64encode(raw).decode())
