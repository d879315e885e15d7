"""Everything the command line prints: plain when piped, and never a control character that came from a server."""

import json
import re
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from threading import Timer
from typing import Any, Final

from rich.console import Console
from rich.status import Status
from rich.table import Table
from rich.text import Text

# C0 and C1 controls, line separators, direction overrides and half surrogates: all that can repaint or reorder a
# terminal. Tab and newline are dealt with by the callers.
_UNSAFE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
# Wide enough that no column is cut when the reader is a program.
_PIPED_WIDTH: Final = 2000
SLOW_SECONDS: Final = 3.0
_spinners: Final[list[Status]] = []
"""The one that turns now, if any."""


def visible(value: object) -> str:
    """`value` as text on one line; whatever could steer a terminal is written as an escape (`\\x1b`, `\\u202e`)."""
    return _UNSAFE.sub(_escaped, str(value))


def _escaped(match: re.Match[str]) -> str:
    number = ord(match[0])
    return {9: "\\t", 10: "\\n", 13: "\\r"}.get(number) or (f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}")


def console(*, stderr: bool = False) -> Console:
    """A console on stdout or stderr that takes text literally; without colours and cuts when it is no terminal."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else _PIPED_WIDTH
    return Console(file=stream, width=width, highlight=False, markup=False, emoji=False, soft_wrap=False)


def say(text: str) -> None:
    """Print the lines of `text` on stdout, each made safe."""
    for line in text.split("\n"):
        print(visible(line))
    sys.stdout.flush()


def warn(text: str) -> None:
    """Print the lines of `text` on stderr, each made safe."""
    for line in text.split("\n"):
        print(visible(line), file=sys.stderr)
    sys.stderr.flush()


def say_json(value: Any) -> None:
    """Print `value` as one line of JSON, ASCII only, so that nothing in it can steer a terminal."""
    print(json.dumps(value, ensure_ascii=True))
    sys.stdout.flush()


def say_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print `rows` under `columns`; a missing value is a dash."""
    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*(Text("-" if cell is None else visible(cell)) for cell in row))
    console().print(table)


def say_fields(fields: Mapping[str, object]) -> None:
    """Print one `name  value` line for each field, aligned; absent values are left out."""
    widest = max((len(name) for name in fields), default=0)
    for name, value in fields.items():
        if value is not None:
            say(f"{name:<{widest}}  {visible(value)}")


@contextmanager
def working(message: str) -> Generator[None]:
    """A spinner on stderr while the block runs, if a person is watching; otherwise nothing at all."""
    if not sys.stderr.isatty():
        yield
        return
    with console(stderr=True).status(Text(message)) as spinner:
        _spinners.append(spinner)
        try:
            yield
        finally:
            _spinners.remove(spinner)


@contextmanager
def told_when_slow(what: str, seconds: float = SLOW_SECONDS) -> Generator[None]:
    """A person is told `what` on stderr once the block takes that long; never whoever asked for JSON."""
    # Nobody else knows here what was asked for, and the command line says it.
    if not sys.stderr.isatty() or "--json" in sys.argv:
        yield
        return
    timer = Timer(seconds, _tell, [what])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _tell(what: str) -> None:
    if _spinners:
        _spinners[-1].update(Text(visible(what)))
    else:
        warn(what)
