"""A server's folder: only one server at a time lives in it, and only its owner reads its password."""

import fcntl
import os
import secrets
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import psutil

from corporation import clock
from corporation.embedded.server_process import ServerError, usable

# A process that was just killed is still there for a moment.
LIVING_SECONDS: Final = 1.0
# Longer than a server needs to shut down after its launcher was killed.
ENDING_SECONDS: Final = 10.0


@contextmanager
def held(folder: Path, name: str) -> Generator[int]:
    """Make `folder` and hold its lock in this block; yields the descriptor that the server must inherit.

    The kernel keeps the lock until the last process with that descriptor has ended: the server, its children, but not
    we. So no id of a dead process can ever be mistaken for a living server. Raises ServerError naming the holder.
    """
    with usable(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        _take(lock, folder, name)
        with usable(folder):
            note_holder(lock, os.getpid())
        yield lock
    finally:
        os.close(lock)


def note_holder(lock: int, pid: int) -> None:
    """Write into the lock file who holds it and who started that, for the message of whoever comes second."""
    # Always the same length: writing over it needs no space, so it cannot fail once a server runs.
    os.pwrite(lock, f"{pid:>20} {os.getpid():>20}\n".encode(), 0)


def _take(lock: int, folder: Path, name: str) -> None:
    begin = clock.monotonic()
    while True:
        with suppress(BlockingIOError):
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        pid, launcher = _holder(lock)
        patience = LIVING_SECONDS if _runs_under(pid, launcher) else ENDING_SECONDS
        if clock.monotonic() - begin > patience:
            raise ServerError(
                f"{name} in {folder} is already running or starting (process {pid}); use that one, stop it with "
                f"`kill -INT {pid}`, or name another folder"
            )
        time.sleep(0.05)


def _holder(lock: int) -> tuple[int, int]:
    words = os.pread(lock, 100, 0).split()
    return (int(words[0]), int(words[1])) if len(words) == 2 and all(map(bytes.isdigit, words)) else (0, 0)


def _runs_under(pid: int, launcher: int) -> bool:
    """Whether `pid` lives and its launcher, which may be itself, does too: else it is ending, and worth waiting for."""
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and launcher in (pid, process.ppid())
    except psutil.Error:
        return False


def password_of(folder: Path, name: str = "password") -> str:
    """The password in the file `name` of `folder`, made once; call it while you hold the lock."""
    path = folder / name
    with usable(folder):
        if not path.exists():
            write_private(path, secrets.token_urlsafe(32))
        return path.read_text(encoding="ascii").strip()


def write_private(path: Path, text: str) -> None:
    """Replace `path` by `text` in one step; nobody but the owner can read it, at no time."""
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    draft.replace(path)
