"""An embedded server as a process: in its own session, ended when its launcher dies, ready before anybody gets it."""

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from corporation import clock
from corporation.embedded.ports import free_port
from corporation.errors import CorporationError

LONGEST_LOG_BYTES: Final = 1_000_000
TAIL_BYTES: Final = 2_000
# A crash recovery of a large ledger takes a while; whoever waits in vain sees the log.
READY_WITHIN_SECONDS: Final = 60.0
FREE_PORT_TRIES: Final = 5
ENVIRONMENT: Final[Mapping[str, str]] = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}


class ServerError(CorporationError):
    """An embedded server cannot be started; the message says why, with the end of its log, and what to do."""

    code = "embedded_server"


class PortTakenError(ServerError):
    """Somebody else listens on the port that the server was to take."""


@dataclass(frozen=True)
class Server:
    """A running server; `url` holds its password, so it is left out of the representation."""

    name: str
    url: str = field(repr=False)
    pid: int
    log: Path
    port: int
    process: subprocess.Popen[bytes]
    stop_signal: signal.Signals = signal.SIGTERM

    def stop(self, timeout_seconds: float = 10) -> None:
        """Afterwards the server has ended: asked first, killed after the timeout. Safe to call twice."""
        end(self.process, self.stop_signal, timeout_seconds)


def end(process: subprocess.Popen[bytes], stop_signal: signal.Signals, timeout_seconds: float) -> None:
    """Afterwards `process` has ended and is reaped; its group is killed when it ignores the signal for too long."""
    process.send_signal(stop_signal)
    try:
        process.wait(timeout_seconds)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def spawn(
    argv: Sequence[str],
    *,
    folder: Path,
    log: Path,
    lock: int,
    stop_signal: signal.Signals,
    prefix: Sequence[str] = (),
    as_user: tuple[int, int] | None = None,
) -> subprocess.Popen[bytes]:
    """Start `argv` behind `prefix`, in `folder`, its output appended to `log`, with `lock` inherited.

    `as_user` is a user and a group id; only root can name others than its own.

    On Linux the kernel sends it `stop_signal` when the thread that calls this ends; so only the main thread may, and
    a launcher that is killed leaves no server behind. Elsewhere a killed launcher does.
    """
    if threading.current_thread() is not threading.main_thread():
        raise ServerError("An embedded server lives as long as the thread that starts it; start it from the main one")
    with usable(folder), log.open("ab") as output:
        return subprocess.Popen(
            [*prefix, *tied_to_us(stop_signal), *argv],
            cwd=folder,
            env=dict(ENVIRONMENT),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=(lock,),
            umask=0o077,
            user=as_user[0] if as_user else None,
            group=as_user[1] if as_user else None,
            extra_groups=[] if as_user else None,
        )


def tied_to_us(stop_signal: signal.Signals) -> list[str]:
    """What to put before a command so that it gets `stop_signal` when the thread that starts it ends; Linux only."""
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        return []
    # Not preexec_fn: running Python between fork and exec is unsafe with threads, and 3.12 warns about it. The shell
    # looks whether we died before the kernel knew the wish.
    watch = 'test "$PPID" = "$0" && exec "$@"'
    return [setpriv, "--pdeathsig", stop_signal.name.removeprefix("SIG"), "sh", "-c", watch, str(os.getpid())]


def wait_until_ready(
    name: str, process: subprocess.Popen[bytes], answers: Callable[[], bool], log: Path, since: int
) -> None:
    """Return once the server answers; else end it and raise ServerError with what it wrote to `log` after `since`."""
    deadline = clock.monotonic() + READY_WITHIN_SECONDS
    try:
        while not (answers() and process.poll() is None):
            if process.poll() is not None or clock.monotonic() > deadline:
                raise why_not(name, process, log, since)
            time.sleep(0.01)
    except BaseException:
        end(process, signal.SIGKILL, 10)
        raise


def why_not(name: str, process: subprocess.Popen[bytes], log: Path, since: int) -> ServerError:
    """The error that tells how `process` failed to start, in words and with the end of its log."""
    how = f"did not answer within {READY_WITHIN_SECONDS:.0f} s"
    if (status := process.poll()) is not None:
        how = f"ended by signal {-status}" if status < 0 else f"ended with status {status}"
    tail = end_of(log, since) or f"it wrote nothing; {shutil.disk_usage(log.parent).free} bytes are free on that disk"
    if "Address already in use" in tail:
        return PortTakenError(f"{name} did not start because its port is taken; name another port\n{tail}")
    return ServerError(f"{name} {how} while it started; the end of {log} says why:\n{tail}")


def on_a_port(port: int | None, start: Callable[[int], Server]) -> Server:
    """The server that `start` gives on `port`; without one, on a free port, tried again when somebody was faster."""
    if port is not None:
        return start(port)
    for _ in range(FREE_PORT_TRIES - 1):
        with suppress(PortTakenError):
            return start(free_port(None))
    return start(free_port(None))


@contextmanager
def usable(folder: Path) -> Generator[None]:
    """In this block every OSError becomes a ServerError that names `folder` and the reason."""
    try:
        yield
    except OSError as error:
        raise ServerError(
            f"The folder {folder} cannot be used ({error.strerror or error}); make it writable, free some space, "
            "or name another folder"
        ) from error


def fresh_log(path: Path) -> int:
    """Make `path` ready for appending, for the owner only; returns its size. A long one is put aside as `….old`."""
    with usable(path.parent):
        if path.exists() and path.stat().st_size > LONGEST_LOG_BYTES:
            path.replace(path.with_name(path.name + ".old"))
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
        return path.stat().st_size


def end_of(log: Path, since: int) -> str:
    """What was written to `log` after byte `since`, or the last few thousand bytes of it; empty if nothing was."""
    try:
        with log.open("rb") as file:
            file.seek(max(since, file.seek(0, os.SEEK_END) - TAIL_BYTES))
            return file.read().decode("utf-8", "replace").strip()
    except OSError:
        return ""
