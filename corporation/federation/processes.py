"""Which of this machine's processes still live; a pid alone does not tell, since pids are used again."""

import os
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import psutil

TICK_BITS: Final = 36
"""The kernel counts a process's start in ticks since the machine's: 2^36 hundredths of a second are 21 years."""
BOOTS: Final = 2**17 - 1
"""How many machine starts can be told apart, so that both numbers together stay whole in a float: 2^53."""
_ENDED: Final = ("Z", "X", "x")
"""Zombie and dead, as /proc/<pid>/stat writes them."""


@dataclass(frozen=True)
class ProcessIdentity:
    """A process, told apart from a later one with the same pid by when it was born.

    On Linux `born` is below zero and made of the kernel's own tick count and of which start of the machine it counts
    from: no setting of the clock moves it. Elsewhere, and in a spool that an older version wrote, it is in seconds
    since 1970.
    """

    pid: int
    born: float


@cache
def _identity_of(pid: int) -> ProcessIdentity:
    return ProcessIdentity(pid, _born_on_linux(pid) or psutil.Process(pid).create_time())


def my_identity() -> ProcessIdentity:
    """This process, also after a fork."""
    return _identity_of(os.getpid())


def is_alive(identity: ProcessIdentity) -> bool:
    """Whether that very process still runs, whatever the clock was set to meanwhile; a zombie does not run."""
    return _is_alive_by_ticks(identity) if identity.born < 0 else _is_alive_by_clock(identity)


def _is_alive_by_ticks(identity: ProcessIdentity) -> bool:
    seen = _state_and_ticks(identity.pid)
    if seen is None:
        return _is_hidden(identity.pid)
    state, ticks = seen
    return state not in _ENDED and _as_one_number(ticks, _this_boot()) == identity.born


def _is_alive_by_clock(identity: ProcessIdentity) -> bool:
    """As older versions judged: only right while the clock stands as it stood when the process was written down."""
    try:
        process = psutil.Process(identity.pid)
        # The kernel counts in hundredths of a second, so equal births may differ in the last digits.
        return abs(process.create_time() - identity.born) < 0.05 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _born_on_linux(pid: int) -> float | None:
    seen = _state_and_ticks(pid) if sys.platform == "linux" and _this_boot() else None
    return _as_one_number(seen[1], _this_boot()) if seen else None


def _state_and_ticks(pid: int) -> tuple[str, int] | None:
    """The state of process `pid` and when it started (fields 3 and 22 of proc(5)); None when there is nothing to read.

    psutil adds the time at which the machine started, which the kernel reckons anew whenever the clock is set.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    # The name of the program stands in brackets and may hold anything, brackets too.
    fields = stat.rpartition(b")")[2].split()
    return fields[0].decode(), int(fields[19])


def _is_hidden(pid: int) -> bool:
    """Whether a process that /proc does not show is there all the same, and ours.

    Where /proc is mounted with hidepid, as systemd's ProtectProc=invisible does, even its own user does not see a
    process that hides its environment (own_process.py). It may be a later one with the same pid; it is taken for the
    one asked for, since a living attempt must not be given up.
    """
    try:
        os.kill(pid, 0)
    except (OSError, OverflowError):
        return False
    return True


@cache
def _this_boot() -> int:
    """A number from 1 to BOOTS for this start of the machine; 0 where the kernel does not say which it is."""
    try:
        name = Path("/proc/sys/kernel/random/boot_id").read_text()
        return int(name.replace("-", "")[:12], 16) % BOOTS + 1
    except (OSError, ValueError):
        return 0


def _as_one_number(ticks: int, boot: int) -> float:
    return -float((boot << TICK_BITS) | ticks)
