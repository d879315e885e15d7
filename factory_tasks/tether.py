"""A leash for a command: when the command ends, its time is up or its owner dies, no process of it is left.

Start it as `tethered(argv, grace_seconds=…)` in a session of its own. It is one file of standard library, because it
runs with an empty environment and without site-packages. SIGTERM to the tether is the order to end everything: every
descendant gets SIGTERM, and SIGKILL when the grace is over, or at once when the order comes again. Its exit code is the
command's, 128+n for a signal. Linux only. Who sends SIGKILL to the tether itself ends the command too, but not what the
command put in the background.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_ORDERS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_WATCHED = {*_ORDERS, signal.SIGCHLD}
# A process in uninterruptible sleep dies when it wakes up, since its SIGKILL is pending; waiting longer helps nobody.
_LONGEST_KILL_SECONDS = 60.0
_LOOK_EVERY_SECONDS = 0.02
_NOT_FOUND, _NOT_EXECUTABLE = 127, 126


def tethered(argv: list[str], *, grace_seconds: float) -> list[str]:
    """The command line that runs `argv` on a tether held by this process; for Popen with `start_new_session=True`.

    The tether also ends when the *thread* that started it ends, so start it from a thread that waits for it.
    """
    owner = ["--owner", str(os.getpid()), "--grace", f"{grace_seconds:g}"]
    return [sys.executable, "-I", "-S", str(Path(__file__).resolve()), *owner, "--", *argv]


def descendants(root: int) -> set[int]:
    """Every living or unreaped process below `root`, from one walk over /proc; who forks meanwhile may be missed."""
    children: dict[int, list[int]] = {}
    for pid in (int(name) for name in os.listdir("/proc") if name.isdigit()):  # noqa: PTH208
        children.setdefault(parent_of(pid), []).append(pid)
    found: set[int] = set()
    unvisited = [root]
    while unvisited:
        fresh = [pid for pid in children.get(unvisited.pop(), []) if pid not in found]
        found.update(fresh)
        unvisited += fresh
    return found


def parent_of(pid: int) -> int:
    """The parent of a process; 0 for one that is gone, and for the first of all."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return 0
    # The name of the program stands in brackets and may hold anything, brackets too.
    return int(stat.rpartition(b")")[2].split()[1])


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl {option} failed")


def _in_the_child() -> None:
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _start(argv: list[str]) -> subprocess.Popen[bytes] | int:
    """The running command, or the exit code that a shell gives for one that cannot be started."""
    try:
        # A session of its own: `kill 0` in a script must not reach the tether.
        return subprocess.Popen(argv, start_new_session=True, preexec_fn=_in_the_child)
    except FileNotFoundError:
        sys.stderr.write(f"{argv[0]}: not found on PATH; install it on this factory\n")
        return _NOT_FOUND
    except OSError as error:
        sys.stderr.write(f"{argv[0]}: cannot be started ({error.strerror})\n")
        return _NOT_EXECUTABLE


class _Reaper:
    """Collects the dead, ours and those that the kernel gave us, and remembers how the command ended."""

    def __init__(self, command: int) -> None:
        self.command = command
        self.exit_code: int | None = None

    def collect(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while (dead := os.waitpid(-1, os.WNOHANG))[0]:
                if dead[0] == self.command:
                    code = os.waitstatus_to_exitcode(dead[1])
                    self.exit_code = code if code >= 0 else 128 - code


def _wait(reaper: _Reaper) -> None:
    """Return when the command has ended or somebody ordered the end."""
    while reaper.exit_code is None and signal.sigwait(_WATCHED) not in _ORDERS:
        reaper.collect()


def _end_all(reaper: _Reaper, grace_seconds: float) -> int:
    """End every descendant, softly and then hard; return how many could not be ended."""
    soft_until = time.monotonic() + grace_seconds
    hard_until = soft_until + _LONGEST_KILL_SECONDS
    asked: set[int] = set()
    while True:
        reaper.collect()
        alive = descendants(os.getpid())
        now = time.monotonic()
        if not alive or now >= hard_until:
            return len(alive)
        if now >= soft_until:
            _signal(alive, signal.SIGKILL)
        else:
            _signal(alive - asked, signal.SIGTERM)
            asked |= alive
        # SIGCHLD cuts the wait short; a grandchild's end does not always send one.
        news = signal.sigtimedwait(_WATCHED, _LOOK_EVERY_SECONDS)
        if news is not None and news.si_signo in _ORDERS:
            soft_until = min(soft_until, time.monotonic())


def _signal(pids: set[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def _become_the_tether() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
    # A worker ignores some of these, which is inherited: an ignored SIGCHLD would lose the exit code.
    for number in (*_WATCHED, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_DFL)
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    # What gained privileges (sudo) could not be ended by an ordinary user.
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def run(argv: list[str], owner: int, grace_seconds: float) -> int:
    """Run `argv` and return its exit code once it and everything it started are gone; the process is used up then."""
    _become_the_tether()
    if os.getppid() != owner:
        return 128 + signal.SIGTERM  # the owner died before the kernel knew that we care
    command = _start(argv)
    if isinstance(command, int):
        return command
    reaper = _Reaper(command.pid)
    _wait(reaper)
    left = _end_all(reaper, grace_seconds)
    if left:
        sys.stderr.write(f"tether: {left} processes do not end; they will when the kernel wakes them\n")
    return 128 + signal.SIGKILL if reaper.exit_code is None else reaper.exit_code


def main(arguments: list[str]) -> int:
    """`--owner PID --grace SECONDS -- argv…`; returns the exit code of `argv`."""
    match arguments:
        case ["--owner", owner, "--grace", grace, "--", *argv] if argv:
            return run(argv, int(owner), float(grace))
        case _:
            sys.stderr.write("use: tether.py --owner PID --grace SECONDS -- command argument…\n")
            return 64


if __name__ == "__main__":
    # Not sys.exit: the interpreter's own end would look at the Popen object of a child that is reaped already.
    code = main(sys.argv[1:])
    sys.stderr.flush()
    os._exit(code)
