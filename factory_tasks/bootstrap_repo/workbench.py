"""Where the commands of one mission run: tethered, with an environment of its own, and never past the time limit."""

import os
import selectors
import signal
import subprocess
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

from corporation import clock
from corporation.errors import CorporationError
from factory_tasks.attempt_mark import VARIABLE
from factory_tasks.bootstrap_repo.output import STDERR_TAIL, STDOUT_TAIL, Collected, EachLine
from factory_tasks.stopping import StopFlag
from factory_tasks.tether import tethered

IDENTITY: Final = ("Corporation", "corporation@localhost")
_PATH: Final = "/usr/local/bin:/usr/bin:/bin"
_READ_AT_ONCE: Final = 65_536
_LOOK_SECONDS: Final = 0.25
_STOPPING_SECONDS: Final = 1.0
"""Between SIGTERM and SIGKILL when the attempt is to stop: a second before the worker's warden would kill us too."""


@dataclass(frozen=True)
class Ran:
    """How a command ended; `exit_code` is 128+n after signal n, the texts are the ends of its output."""

    exit_code: int
    timed_out: bool
    stdout: str
    stderr: str

    @property
    def ok(self) -> bool:
        """It ended by itself and well."""
        return self.exit_code == 0 and not self.timed_out


class StepFailedError(CorporationError):
    """A command that had to work did not; `ran` says how it ended."""

    code = "step_failed"

    def __init__(self, why: str, ran: Ran) -> None:
        self.ran = ran
        super().__init__(why)


@dataclass(frozen=True)
class Workbench:
    """A scratch folder and the terms on which commands run: until when, with which grace, who hears their lines."""

    scratch: Path
    deadline: float
    """On the clock that never goes backwards, in seconds."""
    grace_seconds: float
    forward: EachLine
    held: int
    """A file descriptor that stays open as long as any process of the mission's commands lives."""
    attempt_id: str = ""
    stop: StopFlag = field(default_factory=StopFlag)
    more_environment: Mapping[str, str] = field(default_factory=dict[str, str])

    def environment(self) -> dict[str, str]:
        """All that a command gets to know: nothing is inherited, so no secret of the worker can be in it."""
        name, email = IDENTITY
        return {
            "PATH": _PATH,
            "HOME": str(self.scratch / "home"),
            "TMPDIR": str(self.scratch / "tmp"),
            "LANG": "C.UTF-8",
            "GIT_AUTHOR_NAME": name,
            "GIT_AUTHOR_EMAIL": email,
            "GIT_COMMITTER_NAME": name,
            "GIT_COMMITTER_EMAIL": email,
            "GIT_TERMINAL_PROMPT": "0",
            VARIABLE: self.attempt_id,
            **self.more_environment,
        }

    def run(self, argv: list[str], cwd: Path, each_line: EachLine | None = None) -> Ran:
        """Run `argv` in `cwd` to its end or to the deadline; no process of it is left afterwards, whatever happened.

        Every line goes to `each_line`, by default to `forward`. Raises AttemptStopped, before or after, when the
        attempt is to stop. Not repeatable by itself: that is up to `argv`.
        """
        self.stop.check()
        with self._started(argv, cwd, each_line or self.forward) as running:
            timed_out = running.listen(self.deadline, self.stop)
        self.stop.check()
        code = running.process.returncode
        return Ran(code if code >= 0 else 128 - code, timed_out, running.out.tail, running.err.tail)

    def must(self, argv: list[str], cwd: Path, what: str) -> Ran:
        """Run `argv` unheard; raises StepFailedError, which quotes its last words, unless it is ok."""
        ran = self.run(argv, cwd, _to_nobody)
        if not ran.ok:
            words = "its time was up" if ran.timed_out else ran.stderr.strip() or f"exit code {ran.exit_code}"
            raise StepFailedError(f"{what}: {words}", ran)
        return ran

    @contextmanager
    def _started(self, argv: list[str], cwd: Path, each_line: EachLine) -> Generator["_Running"]:
        # The tether alone holds the writing end: end of file here says that it is gone, whoever still holds its output.
        alive, alive_in_tether = os.pipe()
        try:
            process = subprocess.Popen(
                tethered(argv, grace_seconds=self.grace_seconds),
                cwd=cwd,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                pass_fds=(alive_in_tether, self.held),
            )
        except BaseException:
            os.close(alive)
            raise
        finally:
            os.close(alive_in_tether)
        running = _Running(process, alive, each_line)
        try:
            yield running
        finally:
            running.end()


class _Running:
    """One command under way."""

    def __init__(self, process: subprocess.Popen[bytes], alive: int, each_line: EachLine) -> None:
        self.process = process
        self.out = Collected("stdout", STDOUT_TAIL, each_line)
        self.err = Collected("stderr", STDERR_TAIL, each_line)
        self._alive = alive
        self._orders = 0
        self._ordered_at = 0.0

    def listen(self, deadline: float, stop: StopFlag) -> bool:
        """Hear the command out; True when the deadline came first. Its end is ordered then, and when it is to stop."""
        timed_out = False
        with selectors.DefaultSelector() as ears:
            ears.register(self._alive, selectors.EVENT_READ, None)
            for pipe, collected in self._pipes():
                os.set_blocking(pipe.fileno(), False)
                ears.register(pipe, selectors.EVENT_READ, collected)
            while self._alive in ears.get_map():
                now = clock.monotonic()
                timed_out = timed_out or now >= deadline
                self._order_the_end(now, timed_out, stop.is_set())
                for key, _ in ears.select(_LOOK_SECONDS if timed_out else min(_LOOK_SECONDS, deadline - now)):
                    if not _hear(key):
                        ears.unregister(key.fileobj)
        for pipe, collected in self._pipes():
            _hear_the_rest(pipe, collected)
        return timed_out

    def _order_the_end(self, now: float, timed_out: bool, is_to_stop: bool) -> None:
        """Tell the tether once when there is a reason; a second word, a second after the first, ends its grace."""
        in_a_hurry = is_to_stop and self._orders == 1 and now >= self._ordered_at + _STOPPING_SECONDS
        if in_a_hurry or (self._orders == 0 and (timed_out or is_to_stop)):
            self.process.send_signal(signal.SIGTERM)
            self._orders, self._ordered_at = self._orders + 1, now

    def end(self) -> None:
        """The tether and all it held are gone, and the pipes closed; safe to call twice."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.process.wait()
        for pipe, _ in self._pipes():
            pipe.close()
        os.close(self._alive)

    def _pipes(self) -> list[tuple[IO[bytes], Collected]]:
        return [(pipe, to) for pipe, to in ((self.process.stdout, self.out), (self.process.stderr, self.err)) if pipe]


def _hear(key: selectors.SelectorKey) -> bool:
    data = os.read(key.fd, _READ_AT_ONCE)
    if data and isinstance(key.data, Collected):
        key.data.feed(data)
    return bool(data)


def _hear_the_rest(pipe: IO[bytes], collected: Collected) -> None:
    try:
        while data := os.read(pipe.fileno(), _READ_AT_ONCE):
            collected.feed(data)
    except BlockingIOError:
        pass  # somebody outlived the tether and still holds the pipe
    collected.feed(b"")


def _to_nobody(line: str, stream: str) -> None:
    """Lines that only their tail is wanted of."""
