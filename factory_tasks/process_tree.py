"""Ending processes together with everything they started, daemons included; Linux.

A subreaper is given the orphans among its descendants, so that nobody escapes it by forking twice. Every pool process
is one, which ends what an attempt left behind, and so is the worker's main process, which ends what a dead pool process
left.
"""

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from corporation import clock
from factory_tasks.tether import descendants, parent_of

_PR_SET_CHILD_SUBREAPER: Final = 36
GRACE_SECONDS: Final = 0.5
"""Between SIGTERM and SIGKILL for what an attempt leaves behind: it had its time, and the slot is waited for."""
LONGEST_KILL_SECONDS: Final = 5.0
"""A process in uninterruptible sleep dies when it wakes up: its SIGKILL is pending, and waiting longer helps nobody."""
_LOOK_EVERY_SECONDS: Final = 0.02

Whom = Callable[[], set[int]]
_pool_processes: set[int] = set()


def adopt_orphans() -> None:
    """Orphans among this process's descendants become its children from now on; safe to call twice.

    Elsewhere than on Linux nothing happens, and daemons that a mission starts are not found.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def become_pool_process() -> None:
    """All that this process starts may be ended between two missions: it runs one at a time and nothing else."""
    adopt_orphans()
    _pool_processes.add(os.getpid())


def is_pool_process() -> bool:
    """Whether this very process, not its parent, called `become_pool_process`."""
    return os.getpid() in _pool_processes


def has_children() -> bool:
    """Whether this process has a child, dead or alive; with the orphans adopted: whether it has any descendant."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def end_descendants(grace_seconds: float = GRACE_SECONDS) -> int:
    """Every descendant of this process has ended, softly first; returns how many would not (within five seconds).

    Costs one system call when there is none. The exit codes of all children are taken: nobody may wait for them still.
    """
    if not has_children():
        return 0
    return end(lambda: descendants(os.getpid()), grace_seconds)


def end(whom: Whom, grace_seconds: float = GRACE_SECONDS) -> int:
    """Everybody whom `whom` names, asked again and again, has ended; returns how many would not.

    Those that are children of this process are collected, so `whom` must name no child that somebody else waits for.
    """
    began = clock.monotonic()
    asked: set[int] = set()
    while True:
        alive = {pid for pid in whom() if not _collected(pid)}
        age = clock.monotonic() - began
        if not alive or age >= grace_seconds + LONGEST_KILL_SECONDS:
            return len(alive)
        if age >= grace_seconds:
            send(alive, signal.SIGKILL)
        else:
            send(alive - asked, signal.SIGTERM)
            asked |= alive
        clock.pause(_LOOK_EVERY_SECONDS)


def kill_tree(root: int) -> None:
    """`root` and all its descendants are dead or dying: they are frozen first, so that none can start another."""
    frozen: set[int] = set()
    while fresh := {root, *descendants(root)} - frozen:
        send(fresh, signal.SIGSTOP)
        frozen |= fresh
    send(frozen, signal.SIGKILL)


def send(pids: set[int], number: signal.Signals) -> None:
    """Each of `pids` gets the signal, but for those that are gone or not ours to signal."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def children_of(parent: int) -> set[int]:
    """The children of `parent`, dead ones that nobody collected included, from one walk over /proc."""
    pids = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return {pid for pid in pids if parent_of(pid) == parent}


def is_zombie(pid: int) -> bool:
    """Whether the process is dead and its parent has not collected it yet."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return False
    return stat.rpartition(b")")[2].split()[0] == b"Z"


def _collected(pid: int) -> bool:
    """Whether `pid` was a dead child of this process, which is gone now."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return False
