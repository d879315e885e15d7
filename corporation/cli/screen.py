"""What `corporation up` shows: a live table for a person, plain lines for a program."""

import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from rich.live import Live
from rich.table import Table
from rich.text import Text

from corporation.cli.output import console, say, visible

_COLOURS = {"ready": "green", "starting": "yellow", "restarting": "red", "stopped": "dim", "given": "green"}


@dataclass(frozen=True)
class Row:
    """One process as it is now; `why` says why it is not ready."""

    process: str
    state: str
    pid: int | None = None
    restarts: int = 0
    address: str = ""
    why: str = ""


class Screen:
    """Shows rows and lines; a context manager, so that the terminal is left as it was found."""

    def __init__(self, *, live: bool | None = None) -> None:
        is_live = sys.stdout.isatty() if live is None else live
        self._live = Live(console=console(), auto_refresh=False) if is_live else None
        self._rows: dict[str, Row] = {}

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._live:
            with suppress(OSError):  # the terminal may be gone
                self._live.stop()

    def line(self, text: str) -> None:
        """Show the lines of `text`, above the table; never broken, so that a command can be copied."""
        if self._live is None:
            say(text)
            return
        for part in text.split("\n"):
            style = "bold red" if part.startswith("ALARM:") else ""
            self._live.console.print(Text(visible(part), style), soft_wrap=True)

    def rows(self, rows: Sequence[Row]) -> None:
        """Show `rows`; without a terminal only what changed, and only what matters: ready, restarting, given up."""
        changed = [row for row in rows if self._rows.get(row.process) != row]
        if not changed:
            return
        self._rows = {row.process: row for row in rows}
        if self._live:
            self._live.update(table_of(rows), refresh=True)
            return
        for row in changed:
            if row.state not in ("waiting", "starting", "stopped") or (row.state == "stopped" and row.why):
                say(plain(row))


def plain(row: Row) -> str:
    """`row` as one line."""
    extras = [f"pid {row.pid}" if row.pid else "", f"restarts {row.restarts}" if row.restarts else "", row.why]
    rest = ", ".join(extra for extra in extras if extra)
    return f"{row.state:<10} {row.process:<15} {row.address}{f' ({rest})' if rest else ''}"


def table_of(rows: Sequence[Row]) -> Table:
    """`rows` as a table."""
    table = Table("process", "state", "pid", "restarts", "address", box=None, pad_edge=False, header_style="bold")
    for row in rows:
        state = Text(f"{row.state} ({visible(row.why)})" if row.why else row.state, _COLOURS.get(row.state, ""))
        table.add_row(row.process, state, str(row.pid or "-"), str(row.restarts), Text(visible(row.address)))
    return table
