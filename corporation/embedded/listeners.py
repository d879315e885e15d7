"""Whose sockets listen on a port of this machine, as the kernel lists them for everybody (Linux)."""

import sys
from pathlib import Path
from typing import Final

TABLES: Final = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_LISTENS: Final = "0A"
_LOOPBACK: Final = f"{int.from_bytes(bytes((127, 0, 0, 1)), sys.byteorder):08X}"
"""127.0.0.1 as the kernel prints it: a word in this machine's order."""
_MAPPED: Final = f"{int.from_bytes(bytes((0, 0, 0xFF, 0xFF)), sys.byteorder):08X}"
_ANSWERS_LOOPBACK: Final = frozenset({_LOOPBACK, "0" * 8, "0" * 32, f"{'0' * 16}{_MAPPED}{_LOOPBACK}"})
"""The local addresses at which a connection to 127.0.0.1 may arrive."""


def owners_of_port(port: int | None) -> set[int] | None:
    """The user ids whose sockets take connections to 127.0.0.1 on `port` now; None where no table can be read."""
    lines: list[str] = []
    readable = False
    for table in TABLES:
        try:
            lines += table.read_text(encoding="utf-8").splitlines()[1:]
            readable = True
        except OSError:
            continue
    return owners_in(lines, port) if readable else None


def owners_in(lines: list[str], port: int | None) -> set[int]:
    """The user ids in the `lines` of such a table (proc(5)) that listen for 127.0.0.1 on `port`."""
    rows = [line.split() for line in lines]
    return {int(row[7]) for row in rows if row[3] == _LISTENS and _is_at(row[1], port)}


def _is_at(local: str, port: int | None) -> bool:
    address, _, number = local.partition(":")
    return address in _ANSWERS_LOOPBACK and int(number, 16) == port
