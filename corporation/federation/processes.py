"""Which of this machine's processes still live; a pid alone does not tell, since pids are used again."""

from dataclasses import dataclass
from functools import cache

import psutil


@dataclass(frozen=True)
class ProcessIdentity:
    """A process, told apart from a later one with the same pid by when it was born (seconds, as the kernel counts)."""

    pid: int
    born: float


@cache
def _identity_of(pid: int) -> ProcessIdentity:
    return ProcessIdentity(pid, psutil.Process(pid).create_time())


def my_identity() -> ProcessIdentity:
    """This process, also after a fork."""
    return _identity_of(psutil.Process().pid)


def is_alive(identity: ProcessIdentity) -> bool:
    """Whether that very process still runs; a zombie does not."""
    try:
        process = psutil.Process(identity.pid)
        # The kernel counts in hundredths of a second, so equal births may differ in the last digits.
        return abs(process.create_time() - identity.born) < 0.05 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
