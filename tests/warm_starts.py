"""Processes of ours that start in no time: copies of one that has imported everything and read nothing.

A fresh `python -m …` spends up to a second of work on imports. `WarmStarts` pays that once a test process; each start
is a fork with its own environment, output and exit status, which runs the same module as `__main__`. Its command line
is not its own, and imports are not its first step: what a test says about those needs a fresh Python, and each kind of
process is started afresh by some test (`roles/test_fail_closed.py`, the stacks).
"""

import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, Final, Self

from corporation.cli.commands import COMMANDS

ROOT: Final = Path(__file__).resolve().parent.parent
LOADED: Final = (
    "hq_api.app",
    "hq_api.telegram",
    "uvicorn.main",
    "uvicorn.lifespan.on",
    "uvicorn.loops.auto",
    "uvicorn.protocols.http.httptools_impl",
    "uvicorn.protocols.websockets.websockets_sansio_impl",
    "corporation.cli.app",
    *(place.partition(":")[0] for place in COMMANDS.values()),
    "corporation.infisical_session",
    "corporation.engine",
    "factory_tasks",
    "factory_tasks.bootstrap_repo",
    "factory_tasks.broker",
    "factory_tasks.control",
    "celery.bin.celery",
    "celery.bin.worker",
    "celery.bin.beat",
    "celery.apps.worker",
    "celery.apps.beat",
    "celery.concurrency.prefork",
    "celery.concurrency.solo",
    "celery.worker.consumer",
    "celery.fixups.django",
    "kombu.transport.redis",
    "sqlalchemy.dialects.postgresql.psycopg",
    "alembic.command",
    "encodings.idna",
    "infisical_sdk",
)
"""What our processes import; a module that is missing here is only imported later."""
BEAT_EVERY: Final = "TEST_HEARTBEAT_SECONDS"
"""A variable of the tests alone: such a process beats more often than the rules allow, and tests need not wait."""


class Started:
    """A process that was started warm; what of `subprocess.Popen` the tests use."""

    def __init__(self, told: int, captured: Sequence[BinaryIO] = ()) -> None:
        self._told = os.fdopen(told, "rb", buffering=0)
        self._captured = captured
        self._said: tuple[str, ...] = ()
        self.pid = int(self._line())
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        if self.returncode is None and select.select([self._told], [], [], 0)[0]:
            self._end()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The exit status; raises `subprocess.TimeoutExpired` after `timeout` seconds."""
        if self.returncode is None:
            if not select.select([self._told], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(f"warm process {self.pid}", timeout or 0)
            self._end()
        assert self.returncode is not None
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """What it said on each stream until it ended, for one that was started without files; safe to call twice."""
        self.wait(timeout)
        self._said = self._said or tuple(_read_and_closed(each) for each in self._captured)
        out, err = self._said
        return out, err

    def send_signal(self, number: int) -> None:
        """The process gets the signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL, unless it has ended."""
        self.send_signal(signal.SIGKILL)

    def _end(self) -> None:
        self.returncode = os.waitstatus_to_exitcode(int(self._line()))
        self._told.close()

    def _line(self) -> bytes:
        line = self._told.readline()
        assert line, "the process that starts the others has died"
        return line


class WarmStarts:
    """`with WarmStarts() as warm: warm.run(["-m", "hq_api"], env)`; what was started outlives the block."""

    def __enter__(self) -> Self:
        self._here, theirs = socket.socketpair()
        self._lock = threading.Lock()
        bare = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        with theirs:
            number = theirs.fileno()
            command = [sys.executable, __file__, str(number)]
            self._server = subprocess.Popen(command, pass_fds=[number], stdin=subprocess.DEVNULL, env=bare, cwd=ROOT)
        return self

    def __exit__(self, *_: object) -> None:
        self._here.close()
        self._server.wait(30)

    def popen(
        self,
        arguments: Sequence[str],
        env: Mapping[str, str],
        stdout: BinaryIO | None = None,
        stderr: BinaryIO | None = None,
        *,
        start_new_session: bool = False,
    ) -> Started:
        """What `python ARGUMENTS…` would be with exactly these variables; `-m MODULE` and `-c CODE` are understood.

        What it says goes to the files given, or waits for `communicate`.
        """
        kept = (each or tempfile.TemporaryFile() for each in (stdout, stderr))  # noqa: SIM115 - as long as the process
        captured = tuple(kept)
        reads, writes = os.pipe()
        wish = json.dumps({"arguments": list(arguments), "env": dict(env), "session": start_new_session})
        with self._lock:
            # The kernel takes the handles with the first byte, so the rest may come in as many pieces as it likes.
            socket.send_fds(self._here, [b"{"], [*(each.fileno() for each in captured), writes])
            self._here.sendall(wish[1:].encode() + b"\n")
        os.close(writes)
        return Started(reads, captured if stdout is None and stderr is None else ())

    def run(
        self, arguments: Sequence[str], env: Mapping[str, str], timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """How it ended and what it said; killed, and `subprocess.TimeoutExpired`, after `timeout` seconds."""
        process = self.popen(arguments, env)
        try:
            said = process.communicate(timeout)
        finally:
            process.kill()
        return subprocess.CompletedProcess(list(arguments), process.wait(), *said)


def _read_and_closed(file: BinaryIO) -> str:
    with file:
        file.seek(0)
        return file.read().decode(errors="replace")


# The rest is the process that the others are copies of.


def serve(wishes: socket.socket) -> Callable[[], None] | None:
    """Starts what is asked for until nobody asks any more; in a copy, what it is to run from now on."""
    woken, wake = _woken_by_ends()
    telling: dict[int, int] = {}  # the process, and where its end is told
    while True:
        readable, _, _ = select.select([wishes, woken], [], [])
        if woken in readable:
            os.read(woken, 4096)
            _tell_of_ends(telling)
        if wishes not in readable:
            continue
        wish = _next_wish(wishes)
        if wish is None:
            return None
        if work := _copy(*wish, telling, [woken, wake, wishes.fileno()]):
            return work


def _woken_by_ends() -> tuple[int, int]:
    woken, wake = os.pipe()
    for end in (woken, wake):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)  # a signal that is not handled wakes nobody
    return woken, wake


def _copy(
    wanted: dict[str, Any], handles: list[int], telling: dict[int, int], ours: list[int]
) -> Callable[[], None] | None:
    out, err, tell = handles
    began, begins = os.pipe()
    if (pid := os.fork()) == 0:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        if wanted["session"]:
            os.setsid()
        for handle in (*ours, tell, *telling.values(), began, begins):
            os.close(handle)
        return _become(wanted, out, err)
    for handle in (out, err, begins):
        os.close(handle)
    # Whoever is told of it may kill its group at once: it has one when this returns.
    os.read(began, 1)
    os.close(began)
    telling[pid] = tell
    os.write(tell, f"{pid}\n".encode())
    return None


def _next_wish(wishes: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    data, handles, _, _ = socket.recv_fds(wishes, 1, 3)
    if not data:
        return None
    while not data.endswith(b"\n"):
        data += wishes.recv(65536)
    return json.loads(data), handles


def _tell_of_ends(telling: dict[int, int]) -> None:
    while telling:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        tell = telling.pop(pid)
        with suppress(BrokenPipeError):  # the test did not wait for the end
            os.write(tell, f"{status}\n".encode())
        os.close(tell)


def _become(wanted: dict[str, Any], out: int, err: int) -> Callable[[], None]:
    for handle, number in ((out, 1), (err, 2)):
        os.dup2(handle, number)
        os.close(handle)
    os.environ.clear()
    os.environ.update(wanted["env"])
    if every := os.environ.pop(BEAT_EVERY, ""):
        _beat_every(int(every))
    return lambda: _run(*wanted["arguments"])


def _beat_every(seconds: int) -> None:
    """The setting is read and checked as ever, and this is what this process sees of it."""
    from corporation.settings import Settings

    Settings.heartbeat_interval_seconds = property(lambda _: seconds)  # pyright: ignore[reportAttributeAccessIssue]


def _run(kind: str, what: str, *arguments: str) -> None:
    sys.argv = [what, *arguments]
    if kind == "-c":
        exec(compile(what, "<string>", "exec"), {"__name__": "__main__"})  # noqa: S102 - the code of a test
        return
    for name in (what, f"{what}.__main__"):
        if not hasattr(sys.modules.get(name), "__path__"):
            sys.modules.pop(name, None)  # it is imported again, as the main module
    runpy.run_module(what, run_name="__main__", alter_sys=True)


def _load() -> None:
    sys.path[0] = str(ROOT)  # where `python -m` looks first, in place of this file's folder
    for name in LOADED:
        importlib.import_module(name)
    assert threading.active_count() == 1, "a copy would lack these threads"
    gc.collect()
    gc.freeze()  # else the first collection of every copy would copy all memory


if __name__ == "__main__":
    _load()
    asked = socket.socket(fileno=int(sys.argv[1]))
    if work := serve(asked):
        asked.detach()  # a copy has closed it
        work()
