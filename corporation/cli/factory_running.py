"""`corporation factory up` and `down`: the processes of this machine's factory, here or in the background."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Final

import typer

from corporation import clock
from corporation.cli import demo, exits
from corporation.cli.connection import with_secrets
from corporation.cli.exits import Refusal
from corporation.cli.factory_status import look, why_not_online
from corporation.cli.hqs_door import HqsDoor
from corporation.cli.launch import Launch, Node, launch_of
from corporation.cli.membership import (
    FactoryStateOption,
    Membership,
    factory_folder,
    joined,
    refuse_stack,
    state_words,
    without_hqs,
)
from corporation.cli.output import say, warn, working
from corporation.embedded.stack_environment import Stack
from corporation.embedded.stack_process import last_line
from corporation.embedded.stack_shape import Shape
from corporation.embedded.stack_state import StackRunsAlready, StateFolder

ONLINE: Final = "online"
"""The ready file of the whole factory: it is there once HQ has accepted a beat."""
LOG: Final = "factory"
LOOK_EVERY_SECONDS: Final = 0.5
TELL_EVERY_SECONDS: Final = 60.0
DETACHED_SECONDS: Final = 90.0
"""Twice the longest time until a first beat, with the imports of a slow machine."""
END_SECONDS: Final = 30.0
POLL_SECONDS: Final = 0.1
NEEDS_NO_API: Final = "api"

Detach = Annotated[
    bool,
    typer.Option("--detach", help="Run it in the background; returns once HQ has heard of it, or with the reason."),
]


def up(detach: Detach = False, state: FactoryStateOption = None) -> None:
    """Run this machine's factory until Ctrl-C: it takes missions over Redis, or over HTTPS where there is none."""
    folder = factory_folder(state)
    refuse_stack(folder)
    membership = joined(folder)
    if detach:
        raise typer.Exit(_detached(folder, membership))
    raise typer.Exit(_attached(folder, membership))


def down(state: FactoryStateOption = None) -> None:
    """End this machine's factory: it takes nothing new, and what it runs gets 10 seconds to finish. 0 if none runs."""
    folder = factory_folder(state)
    refuse_stack(folder)
    if not folder.is_held():
        say(f"No factory runs from {folder.path}")
        return
    pid = _holder(folder)
    if pid is None:
        raise Refusal(exits.FAILED, f"Something holds {folder.lock}, but does not say who it is; end it by hand")
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    with working("Ending it"):
        ended = _within(END_SECONDS, lambda: not folder.is_held() and _is_gone(pid))
    if not ended:
        raise Refusal(
            exits.FAILED, f"Process {pid} has not ended within {END_SECONDS:.0f} s; see {folder.log(LOG)}, or kill it"
        )
    say(f"The factory has ended; `corporation factory up{state_words(folder)}` starts it again")


def _attached(folder: StateFolder, membership: Membership) -> int:
    # Late: the servers and the ledger take a third of a second to import, which no other command needs.
    from corporation.cli.screen import Screen
    from corporation.cli.session import Session
    from corporation.cli.stop_requests import StopRequests
    from corporation.own_process import hide_environment

    hide_environment()  # ours holds more than any mission may know
    environ = membership.environment(os.environ)
    launch = factory_launch(environ)
    folder.prepare()
    _refuse_second(folder, membership)
    requests = StopRequests()
    with folder.held(), requests.heard(), Screen() as screen:
        folder.ready_file(ONLINE).unlink(missing_ok=True)
        started, door = clock.monotonic(), HqsDoor(folder, membership)

        def news(stack: Stack) -> Generator[list[str], None, demo.Outcome]:
            del stack
            return until_online(folder, membership, environ, started)

        session = Session(folder, screen, requests, launch, once=False, news=news, meanwhile=door.lines)
        try:
            return session.run()
        finally:
            folder.ready_file(ONLINE).unlink(missing_ok=True)
            session.end()


def factory_launch(environ: Mapping[str, str]) -> Launch:
    """What a factory runs: all that a LOCAL_WORKER does, but no API of its own. Raises SettingsError."""
    launch = launch_of(Shape.WORKER, environ)
    nodes = tuple(
        Node(node.policy, tuple(one for one in node.components if one.name != NEEDS_NO_API)) for node in launch.nodes
    )
    return replace(launch, nodes=nodes)


def until_online(
    folder: StateFolder,
    membership: Membership,
    environ: Mapping[str, str],
    started: float,
    moment: Callable[[], float] = clock.monotonic,
) -> Generator[list[str], None, demo.Outcome]:
    """Nothing to tell until HQ has accepted a beat of this run, `started` then; every minute it is told why not yet."""
    asked, told = 0.0, moment()
    while True:
        now = moment()
        if now - asked < LOOK_EVERY_SECONDS:
            yield []
            continue
        asked = now
        found = look(folder, membership, environ)
        since = now - started
        if found.is_online and found.last_beat_seconds is not None and found.last_beat_seconds <= since:
            folder.ready_file(ONLINE).touch()
            paused = f", but paused by {found.paused_by}" if found.paused_by else ""
            return demo.Outcome(True, f"{membership.factory_id} is online at {membership.hq_base_url}{paused}")
        if now - told >= TELL_EVERY_SECONDS:
            told = now
            yield [f"{membership.factory_id} is not online yet: {why_not_online(found)}"]
        else:
            yield []


def _detached(folder: StateFolder, membership: Membership) -> int:
    factory_launch(membership.environment(os.environ))  # a wrong environment is told here and now
    folder.prepare()
    _refuse_second(folder, membership)
    ready, log = folder.ready_file(ONLINE), folder.log(LOG)
    ready.unlink(missing_ok=True)
    child = _spawn(folder, log)
    with working(f"Starting {membership.factory_id}"):
        _within(DETACHED_SECONDS, lambda: ready.exists() or child.poll() is not None)
    if ready.exists() and child.poll() is None:
        say(f"{membership.factory_id} is online at {membership.hq_base_url} (process {child.pid}, log {log})")
        return exits.OK
    return _failed(folder, membership, child, log)


def _refuse_second(folder: StateFolder, membership: Membership) -> None:
    if folder.is_held():
        raise StackRunsAlready(
            f"{membership.factory_id} runs already from {folder.path}; "
            f"`corporation factory status{state_words(folder)}` shows it, "
            f"`corporation factory down{state_words(folder)}` ends it"
        )


def _spawn(folder: StateFolder, log: Path) -> "subprocess.Popen[bytes]":
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "corporation.cli", "factory", "up", "--state", str(folder.path)],
            env=without_hqs(os.environ),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def _failed(folder: StateFolder, membership: Membership, child: "subprocess.Popen[bytes]", log: Path) -> int:
    status = child.poll()
    if status is None:
        why = why_not_online(look(folder, membership, membership.environment(with_secrets(os.environ))))
        child.terminate()
        if not _within(END_SECONDS, lambda: child.poll() is not None):
            child.kill()
        warn(
            f"{membership.factory_id} was not online within {DETACHED_SECONDS:.0f} s and was ended: {why} (log: {log})"
        )
        return exits.TRY_LATER
    warn(f"{membership.factory_id} did not start: {_last_words(log)} (log: {log})")
    return status if status > 0 else exits.FAILED


def _last_words(log: Path) -> str:
    """The reason in `log`: what stands before the supervisor's farewell."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-40:]
    except OSError:
        return last_line(log)
    said = [line.strip() for line in lines if line.strip() and not line.startswith(FAREWELL)]
    return said[-1] if said else "it said nothing"


FAREWELL: Final = ("Stopped;", "Stopping;", "stopped ")


def _holder(folder: StateFolder) -> int | None:
    try:
        return int(folder.lock.read_text(encoding="utf-8").strip())
    except (OSError, ValueError):
        return None


def _is_gone(pid: int) -> bool:
    import psutil  # late: no other command of this group needs it

    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.Error:
        return True


def _within(seconds: float, condition: Callable[[], bool]) -> bool:
    deadline = clock.monotonic() + seconds
    while not condition():
        if clock.monotonic() >= deadline:
            return False
        clock.pause(POLL_SECONDS)
    return True
