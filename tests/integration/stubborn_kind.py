"""The kind `stubborn`: missions that start processes and do not want to stop, for workers of tests."""

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from corporation.missions.outcomes import Done, Failed, Outcome
from factory_tasks.handlers import Mission, handles

FOR_EVER = 3600


@handles("stubborn")
def stubborn(mission: Mission) -> Outcome:
    """Start the processes in `starts`, write all pids into the file `pids`, and then behave as `then` says."""
    pids = [os.getpid(), *(START[word]() for word in mission.context.get("starts", []))]
    told = Path(mission.context["pids"])
    told.with_suffix(".new").write_text(" ".join(map(str, pids)))
    told.with_suffix(".new").rename(told)
    THEN[mission.context.get("then", "sleep")](mission)
    return Done({"echo": mission.task})


@handles("patient", stops_itself=True)
def patient(mission: Mission) -> Outcome:
    """Wait until the attempt is to stop, and then give an answer that is no use to anybody."""
    Path(mission.context["pids"]).write_text(str(os.getpid()))
    mission.stop.wait(FOR_EVER)
    return Done({"echo": mission.task}) if mission.context.get("finished") else Failed("half a thing")


def a_program() -> int:
    """A shell that SIGTERM does not end, and a child of it in a session of its own."""
    script = "trap '' TERM; setsid sleep 3600 & echo $!; while :; do sleep 3600; done"
    shell = subprocess.Popen(["bash", "-c", script], stdout=subprocess.PIPE)
    assert shell.stdout is not None
    shell.stdout.readline()
    return shell.pid


def a_daemon() -> int:
    """A process that forked twice, left the session, closed everything, and ignores SIGTERM; it executes nothing."""
    reads, writes = os.pipe()
    if (child := os.fork()) == 0:
        os.setsid()
        if os.fork() == 0:
            _be_a_daemon(writes)
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writes)
    with os.fdopen(reads) as pipe:
        return int(pipe.read())


def _be_a_daemon(writes: int) -> NoReturn:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.write(writes, str(os.getpid()).encode())
    os.closerange(0, 1024)
    while True:
        time.sleep(FOR_EVER)


START: dict[str, Callable[[], int]] = {"program": a_program, "daemon": a_daemon}


def sleep(_: Mission) -> None:
    """Be thrown out of a sleep."""
    time.sleep(FOR_EVER)


def clean_up(mission: Mission) -> None:
    """Be thrown out, and leave a mark on the way."""
    try:
        time.sleep(FOR_EVER)
    finally:
        Path(mission.context["mark"]).touch()


def swallow(_: Mission) -> None:
    """Take every exception for nothing."""
    while True:
        with suppress(BaseException):
            time.sleep(FOR_EVER)


def take_it_for_an_error(_: Mission) -> None:
    """What a careless retry loop does: it hears only of errors."""
    while True:
        with suppress(Exception):
            time.sleep(FOR_EVER)


def ignore(_: Mission) -> None:
    """Hear of nothing: all signals that can be are blocked."""
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    while True:
        time.sleep(FOR_EVER)


def in_c(_: Mission) -> None:
    """Sit in C code that does not let go of the interpreter, so that no thread of this process runs any more."""
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    while True:
        ctypes.PyDLL(None).sleep(FOR_EVER)


def end(_: Mission) -> None:
    """Be done, and leave everything running."""


def wait(mission: Mission) -> None:
    """Go on when the file `gate` is there."""
    while not Path(mission.context["gate"]).exists():
        time.sleep(0.02)


def die(_: Mission) -> None:
    """Be killed by nobody of ours, as by a kernel that is out of memory."""
    os.kill(os.getpid(), signal.SIGKILL)


THEN: dict[str, Callable[[Mission], None]] = {
    each.__name__: each for each in (sleep, clean_up, swallow, take_it_for_an_error, ignore, in_c, end, wait, die)
}
