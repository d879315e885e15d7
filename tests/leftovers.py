"""What of a stack still lives, for tests that end one and want nothing to be left."""

from pathlib import Path

import psutil


def left_in(state: Path) -> list[str]:
    """The processes that belong to the stack of `state`: their command line or environment names it."""
    found: list[str] = []
    for process in psutil.process_iter():
        try:
            words = [*process.cmdline(), *_environment(process)]
            if process.status() != psutil.STATUS_ZOMBIE and any(str(state) in word for word in words):
                found.append(f"{process.pid} {process.cmdline()}")
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def _environment(process: psutil.Process) -> list[str]:
    """What our processes hide from other users' eyes, and root sees all the same."""
    try:
        return list(process.environ().values())
    except psutil.AccessDenied:
        return []
