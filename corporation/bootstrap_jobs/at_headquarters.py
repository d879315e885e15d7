"""The script of a run, run at HQ itself: with a time limit, with nothing of ours in its environment, and nothing left.

It is not sandboxed: it runs as HQ's user. What it starts is ended with it, also what left its process group, as long as
it kept the environment it was given; what outlives even that is nobody's child any more and is not looked for.
"""

import contextlib
import io
import os
import re
import signal
import subprocess
import tarfile
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from corporation.bootstrap_jobs.records import STDERR_TAIL, STDOUT_TAIL
from corporation.bootstrap_jobs.runs import FOLDER, SCRIPT
from corporation.errors import CorporationError

VARIABLE: Final = "CORPORATION_BOOTSTRAP"
_PATH: Final = "/usr/local/bin:/usr/bin:/bin"
_READY: Final = re.compile(r"^\s*Repo ready:\s*(\S.*?)\s*$", re.MULTILINE)
_READ_AT_ONCE: Final = 65_536
_ROUNDS: Final = 20
_LAST_WORDS_SECONDS: Final = 5.0


class PlaceRefused(CorporationError):
    """The repository may not or cannot be made there; `outside` when the place leaves the configured root."""

    code = "place_refused"

    def __init__(self, message: str, *, outside: bool) -> None:
        self.outside = outside
        super().__init__(message)


@dataclass(frozen=True)
class Ran:
    """How a command ended, and the ends of what it said; NUL is shown as its symbol."""

    exit_code: int
    timed_out: bool
    stdout: str
    stderr: str


def place_of(root: Path, target_root: str, repo_name: str) -> Path:
    """The folder below `root` in which the repository `repo_name` is to be made; raises PlaceRefused."""
    try:
        home = root.expanduser().resolve()
        target = (home / target_root).resolve()
    except (OSError, RuntimeError, ValueError):
        raise PlaceRefused("target_root cannot be followed", outside=False) from None
    if not target.is_relative_to(home):
        raise PlaceRefused("target_root leaves the folder that is configured for repositories", outside=True)
    if os.path.lexists(target / repo_name):
        raise PlaceRefused("a folder of this name is there already; choose another repo_name", outside=False)
    return target


def make_here(bundle: bytes, target: Path, repo_name: str, python_version: str, limit_seconds: float, mark: str) -> Ran:
    """The script in `bundle` was run for `target / repo_name`, or its time was up; no process of it is left.

    `mark` names this run among all; `bundle` is a tar.gz with a folder `implementation/`. Raises OSError or
    tarfile.TarError when nothing could be run. Not repeatable: the script decides what it does with what is there.
    """
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bootstrap-", ignore_cleanup_errors=True) as scratch_name:
        scratch = Path(scratch_name)
        for name in ("home", "tmp", "bundle"):
            (scratch / name).mkdir(mode=0o700)
        with tarfile.open(fileobj=io.BytesIO(bundle), mode="r:gz") as archive:
            archive.extractall(scratch / "bundle", filter="data")
        folder = scratch / "bundle" / FOLDER
        version = [python_version] if python_version else []
        argv = ["bash", str(folder / SCRIPT), str(target), repo_name, *version]
        return run(argv, folder, _environment(scratch, mark), limit_seconds)


def repository_in(ran: Ran, target: Path, repo_name: str) -> Path | None:
    """The folder that the script says it made, below `target`; else the one it was to make; None without either."""
    said = _READY.findall(ran.stdout)
    for named in (*said[-1:], repo_name):
        with contextlib.suppress(OSError, RuntimeError, ValueError):
            folder = (target / named).resolve()
            if folder != target and folder.is_relative_to(target) and folder.is_dir():
                return folder
    return None


def run(argv: Sequence[str], cwd: Path, environment: Mapping[str, str], limit_seconds: float) -> Ran:
    """Run `argv` to its end or until its time is up; afterwards every process with its mark is gone."""
    process = subprocess.Popen(
        list(argv),
        cwd=cwd,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    out, err = _Tail(process.stdout, STDOUT_TAIL), _Tail(process.stderr, STDERR_TAIL)
    timed_out = False
    try:
        process.wait(limit_seconds)
    except subprocess.TimeoutExpired:
        timed_out = True
    finally:
        _end(process, f"{VARIABLE}={environment.get(VARIABLE, '')}".encode())
    code = process.returncode
    return Ran(code if code >= 0 else 128 - code, timed_out, out.text(), err.text())


class _Tail:
    """What a pipe says, read in a thread of its own so that nobody waits for us; the last characters are kept."""

    def __init__(self, pipe: IO[bytes] | None, limit: int) -> None:
        self._pipe = pipe
        self._limit = limit
        self._data = b""
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        if self._pipe is None:
            return
        with contextlib.suppress(OSError, ValueError):
            while chunk := os.read(self._pipe.fileno(), _READ_AT_ONCE):
                self._data = (self._data + chunk)[-4 * self._limit :]

    def text(self) -> str:
        """What it said at last; somebody who still holds the pipe is waited for no longer than five seconds."""
        self._thread.join(_LAST_WORDS_SECONDS)
        if self._pipe is not None and not self._thread.is_alive():
            self._pipe.close()
        return self._data.decode("utf-8", "replace").replace("\0", "\u2400")[-self._limit :]


def _environment(scratch: Path, mark: str) -> dict[str, str]:
    """All that the script gets to know: nothing is inherited, so no secret of HQ can be in it (D16)."""
    name, email = "Corporation", "corporation@localhost"
    return {
        "PATH": _PATH,
        "HOME": str(scratch / "home"),
        "TMPDIR": str(scratch / "tmp"),
        "LANG": "C.UTF-8",
        "GIT_AUTHOR_NAME": name,
        "GIT_AUTHOR_EMAIL": email,
        "GIT_COMMITTER_NAME": name,
        "GIT_COMMITTER_EMAIL": email,
        "GIT_TERMINAL_PROMPT": "0",
        VARIABLE: mark,
    }


def _end(process: subprocess.Popen[bytes], mark: bytes) -> None:
    """Its process group is killed, and whoever left the group but kept the mark, until nobody is found."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for _ in range(_ROUNDS):
        marked = _marked(mark)
        if not marked:
            return
        for pid in marked:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)


def _marked(mark: bytes) -> list[int]:
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            # A process of somebody else, or one that has just ended, shows nothing.
            with contextlib.suppress(OSError):
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return found
