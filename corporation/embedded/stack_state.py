"""The state folder of an embedded stack: where everything is kept, who holds it, and what the next run must know."""

import fcntl
import json
import os
import stat
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TextIO

from corporation.errors import CorporationError

SUB_FOLDERS: Final = ("logs", "ready", "factory", "hq", "valkey", "postgres", "repositories", "artifacts")
LOCK_TRIES: Final = 5
LOCK_PAUSE_SECONDS: Final = 0.02
"""A command that looks whether the stack runs holds its lock for a moment; that is no other stack."""


class StateFolderError(CorporationError):
    """The state folder cannot be used; the message says why and what to do."""

    code = "state_folder"


class StackRunsAlready(CorporationError):
    """Another process runs the stack of this folder."""

    code = "stack_runs"


@dataclass(frozen=True)
class StateFolder:
    """The paths below one state folder; nothing is touched before `prepare`."""

    path: Path

    @property
    def facts(self) -> Path:
        """Addresses and tokens of the stack, for the owner only."""
        return self.path / "env.json"

    @property
    def lock(self) -> Path:
        """Held by the process that runs the stack, whose id it contains."""
        return self.path / "lock"

    @property
    def artifacts(self) -> Path:
        """HQ's artifact root: run folders and bundles."""
        return self.path / "artifacts"

    @property
    def repositories(self) -> Path:
        """Where the factory makes repositories."""
        return self.path / "repositories"

    def log(self, process: str) -> Path:
        """The log of `process`, appended to by every run."""
        return self.path / "logs" / f"{process}.log"

    def ready_file(self, process: str) -> Path:
        """Exists once `process` is ready; the supervisor removes it before each start."""
        return self.path / "ready" / process

    def spool(self, node: str) -> Path:
        """The SQLite spool of `node` (`factory` or `hq`)."""
        return self.path / node / "spool.db"

    def prepare(self) -> None:
        """Afterwards the folder and its sub-folders exist, for the owner only. Safe to call twice."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self.path.chmod(0o700)
            for name in SUB_FOLDERS:
                (self.path / name).mkdir(exist_ok=True, mode=0o700)
        except OSError as error:
            raise StateFolderError(
                f"The state folder {self.path} cannot be used ({error.strerror}); "
                "make it writable or name another one with --state DIR"
            ) from None

    def read_facts(self) -> dict[str, Any] | None:
        """What the last run wrote, or None; refuses a file that other users could read, since it holds tokens."""
        try:
            status = self.facts.stat()
            if stat.S_IMODE(status.st_mode) & 0o077:
                raise StateFolderError(f"{self.facts} holds tokens but others may read it; run: chmod 600 {self.facts}")
            facts = json.loads(self.facts.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError, RecursionError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not JSON"
            raise StateFolderError(f"{self.facts} cannot be read: {reason}; remove it and start again") from None
        return {str(key): value for key, value in facts.items()} if isinstance(facts, dict) else None

    def write_facts(self, facts: Mapping[str, Any]) -> None:
        """Replace the facts in one step: a reader sees the old file or the new one, never half of it."""
        draft = self.facts.with_suffix(".tmp")
        try:
            draft.unlink(missing_ok=True)
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
                json.dump(facts, file, indent=2, sort_keys=True)
                file.write("\n")
            draft.replace(self.facts)
        except OSError as error:
            raise StateFolderError(f"{self.facts} cannot be written: {error.strerror}; free some space there") from None

    def forget_address(self) -> None:
        """Afterwards no command finds the HQ of the last run here: whoever listens there now is another one."""
        if facts := self.read_facts():
            self.write_facts(facts | {"hq_base_url": ""})

    @contextmanager
    def held(self) -> Generator[None]:
        """Hold the folder for this process; raises StackRunsAlready, naming the holder, when it is held.

        The kernel lets go when the process ends in whatever way, so a killed run never blocks the next one.
        """
        with self.lock.open("a+", encoding="utf-8") as file:
            if not any(_locks(file) for _ in range(LOCK_TRIES)):
                raise StackRunsAlready(self._holder())
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
            yield

    def is_held(self) -> bool:
        """Whether a process runs the stack of this folder now."""
        try:
            with self.lock.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        except PermissionError:
            raise StateFolderError(f"{self.path} may not be read by this user; run it as its owner") from None
        return False

    def _holder(self) -> str:
        pid = self.lock.read_text(encoding="utf-8").strip() or "unknown"
        address = (self.read_facts() or {}).get("hq_base_url") or "an address that it has not written yet"
        return (
            f"Process {pid} already runs the stack in {self.path}, at {address}; look at it with "
            f"`corporation missions list --state-dir {self.path}`, stop it with `kill {pid}`, "
            "or name another folder with --state DIR"
        )


def _locks(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        time.sleep(LOCK_PAUSE_SECONDS)
        return False
    return True


def default_state_folder(start: Path, package: Path) -> StateFolder:
    """`.corporation` in the project this package was checked out with, else in `start` (an installed package)."""
    root = package.parent if (package.parent / "pyproject.toml").is_file() else start
    return StateFolder(root / ".corporation")
