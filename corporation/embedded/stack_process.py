"""One child of the supervisor: started in its own session, bound to the life of the launcher, ended with its group."""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from corporation.embedded.server_process import tied_to_us

TAIL_BYTES: Final = 8192


class Child:
    """A running child whose output goes to `log`; its process id is its group id, and stays ours until `reap`."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process = process
        self.pid = process.pid
        self.log = log

    def status(self) -> int | None:
        """How it ended (negative: by which signal), or None while it runs. Safe to call again.

        Before the answer is given, whatever is left of its group is killed: until then the kernel keeps the id for us,
        so the signal can meet nobody else.
        """
        if self._process.returncode is None:
            if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                return None
            self._signal_group(signal.SIGKILL)
            self._process.wait()
        return self._process.returncode

    def ask_to_end(self) -> None:
        """Send SIGTERM to the process itself, which for a worker means: finish what runs, take nothing new."""
        if self.status() is None:
            os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        """Afterwards the process and its group are gone. Safe to call twice."""
        if self._process.returncode is None:
            self._signal_group(signal.SIGKILL)
            self._process.wait()

    def _signal_group(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)


def spawn(argv: Sequence[str], environment: Mapping[str, str], folder: Path, log: Path) -> Child:
    """Start `argv` in `folder`, appending its output to `log`; call it from the main thread only.

    On Linux the kernel kills the child when the launcher dies, whatever killed it; that is bound to the thread that
    spawns, hence the main thread. SIGKILL, since a worker that is only asked to end would first finish its mission.
    """
    with log.open("ab") as output:
        process = subprocess.Popen(
            [*tied_to_us(signal.SIGKILL), *argv],
            env=dict(environment),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return Child(process, log)


def last_line(log: Path) -> str:
    """The last line of `log` that says something, or an empty text."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
