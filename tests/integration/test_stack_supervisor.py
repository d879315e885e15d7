"""The supervisor with real processes: order, restarts, giving up, and leaving nothing behind."""

import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from corporation import clock
from corporation.embedded.stack import Member, PortTaken, StackFailed, Supervisor
from corporation.embedded.stack_environment import Stack
from corporation.embedded.stack_plan import ProcessPlan
from corporation.embedded.stack_state import StackRunsAlready, StateFolder, StateFolderError

GETS_READY = "import os, pathlib, time; pathlib.Path(os.environ['UA_READY_FILE']).touch(); time.sleep(600)"
NEVER_READY = "import time; time.sleep(600)"
WRONG = "import sys; print('UA_X is missing'); sys.exit(78)"
DIES = "import sys; print('no such thing'); sys.exit(3)"
IGNORES_SIGTERM = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + GETS_READY
HAS_A_CHILD = (
    "import subprocess, sys, pathlib, os\n"
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
    "pathlib.Path(os.environ['UA_READY_FILE'] + '.child').write_text(str(child.pid))\n" + GETS_READY
)


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    StateFolder(tmp_path).prepare()
    return Stack(tmp_path, sys.executable, "desk", "redis://127.0.0.1:1", "postgresql://x", 1, 2, "t", "j", "f", {})


@pytest.fixture
def supervise(stack: Stack) -> Iterator[Callable[..., Supervisor]]:
    started: list[Supervisor] = []

    def build(**scripts: str) -> Supervisor:
        plans = [ProcessPlan(name, (sys.executable, "-c", script), "file") for name, script in scripts.items()]
        started.append(Supervisor(stack, plans))
        return started[-1]

    yield build
    for supervisor in started:
        supervisor.stop(lambda: True)


def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = clock.monotonic() + seconds
    while not condition():
        assert clock.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def tick_until(supervisor: Supervisor, now: float, condition: Callable[[], bool]) -> None:
    def step() -> bool:
        supervisor.tick(now)
        return condition()

    until(step)


def lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def pid_of(member: Member) -> int:
    assert member.child
    return member.child.pid


def test_a_process_waits_for_those_it_needs(stack: Stack, supervise: Callable[..., Supervisor]) -> None:
    supervisor = supervise(api=GETS_READY)
    needy = ProcessPlan("beat", (sys.executable, "-c", GETS_READY), "file", needs=("api",))
    supervisor.members.append(Member(needy))

    supervisor.tick(0)
    assert supervisor.members[1].phase == "waiting"

    tick_until(supervisor, 1, lambda: supervisor.ready)


def test_a_process_that_dies_is_started_again_after_the_pause(supervise: Callable[..., Supervisor]) -> None:
    supervisor = supervise(api=GETS_READY)
    [member] = supervisor.members
    tick_until(supervisor, 0, lambda: supervisor.ready)

    os.kill(first := pid_of(member), signal.SIGKILL)
    tick_until(supervisor, 1, lambda: member.phase == "paused")
    supervisor.tick(1.9)
    assert member.phase == "paused"
    supervisor.tick(2)

    assert (member.phase, member.restarts) == ("starting", 1)
    assert pid_of(member) != first


def test_a_long_steady_life_forgets_old_failures(supervise: Callable[..., Supervisor]) -> None:
    supervisor = supervise(api=GETS_READY)
    [member] = supervisor.members
    member.failures = 4
    tick_until(supervisor, 0, lambda: supervisor.ready)

    os.kill(pid_of(member), signal.SIGKILL)
    tick_until(supervisor, 61, lambda: member.phase == "paused")

    assert member.resume_at == 62


@pytest.mark.parametrize(("script", "words"), [(WRONG, "UA_X is missing"), (DIES, "no such thing")])
def test_what_can_never_run_ends_the_stack_with_its_reason_and_log(
    stack: Stack, supervise: Callable[..., Supervisor], script: str, words: str
) -> None:
    supervisor = supervise(api=script)
    now = 0.0

    def tick_on() -> bool:
        nonlocal now
        now += 1
        supervisor.tick(now)
        return False

    with pytest.raises(StackFailed, match=words) as failed:
        until(tick_on)

    assert str(stack.folder.log("api")) in str(failed.value)
    assert "\n" not in str(failed.value)


def test_a_process_that_is_never_ready_is_started_once_more_and_then_ends_the_stack(
    supervise: Callable[..., Supervisor],
) -> None:
    supervisor = supervise(api=NEVER_READY)
    supervisor.tick(0)
    supervisor.tick(90)
    supervisor.tick(91)

    with pytest.raises(StackFailed, match="not ready within"):
        supervisor.tick(181)


@pytest.fixture
def somebody() -> Iterator[int]:
    """A port on which somebody else listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield int(listener.getsockname()[1])


def test_who_lost_the_race_for_its_port_is_told_apart_from_who_is_broken(stack: Stack, somebody: int) -> None:
    plan = ProcessPlan("api", (sys.executable, "-c", DIES), "healthy", port=somebody)
    supervisor = Supervisor(stack, [plan])

    with pytest.raises(PortTaken, match=str(somebody)):
        tick_until(supervisor, 0, lambda: False)


def test_an_optional_process_that_can_never_run_is_given_up_alone(
    stack: Stack, supervise: Callable[..., Supervisor]
) -> None:
    supervisor = supervise(api=GETS_READY)
    poller = ProcessPlan("telegram", (sys.executable, "-c", WRONG), "runs", optional=True)
    supervisor.members.append(Member(poller))

    tick_until(supervisor, 0, lambda: supervisor.members[1].phase == "stopped")
    tick_until(supervisor, 0, lambda: supervisor.ready)

    assert "configuration is wrong" in supervisor.members[1].why


def test_stopping_leaves_nothing_not_even_what_the_processes_started(
    stack: Stack, supervise: Callable[..., Supervisor]
) -> None:
    supervisor = supervise(api=HAS_A_CHILD, engine=GETS_READY)
    tick_until(supervisor, 0, lambda: supervisor.ready)
    grandchild = int(Path(f"{stack.folder.ready_file('api')}.child").read_text())
    pids = [pid_of(member) for member in supervisor.members]

    supervisor.stop(lambda: False)

    until(lambda: not lives(grandchild))
    assert not [pid for pid in pids if lives(pid)]


def test_a_second_request_does_not_wait_for_a_stubborn_process(supervise: Callable[..., Supervisor]) -> None:
    supervisor = supervise(api=IGNORES_SIGTERM)
    tick_until(supervisor, 0, lambda: supervisor.ready)

    supervisor.stop(lambda: True)

    assert not lives(pid_of(supervisor.members[0]))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends the children of a killed process")
def test_killing_the_launcher_ends_its_children(tmp_path: Path) -> None:
    launcher = f"""
import sys, time, pathlib
from corporation.embedded.stack_process import spawn
child = spawn([sys.executable, "-c", "import time; time.sleep(600)"], {{}}, pathlib.Path({str(tmp_path)!r}),
              pathlib.Path({str(tmp_path / "log")!r}))
print(child.pid, flush=True)
time.sleep(600)
"""
    process = subprocess.Popen([sys.executable, "-c", launcher], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    child = int(process.stdout.readline())

    process.kill()
    process.wait(30)
    process.stdout.close()

    until(lambda: not lives(child))


def test_a_folder_is_held_by_one_process_which_is_named(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path)

    with folder.held():
        assert folder.is_held()
        with pytest.raises(StackRunsAlready, match=f"Process {os.getpid()} "), folder.held():
            pass

    assert not folder.is_held()


def test_a_look_at_a_folder_does_not_keep_a_stack_from_starting(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("w") as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        threading.Timer(0.01, lambda: fcntl.flock(looking, fcntl.LOCK_UN)).start()

        with StateFolder(tmp_path).held():
            assert StateFolder(tmp_path).is_held()


def test_facts_are_for_the_owner_only(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path / "state")
    folder.prepare()
    folder.write_facts({"ops_token": "t"})

    assert folder.facts.stat().st_mode & 0o077 == 0
    assert folder.path.stat().st_mode & 0o077 == 0
    assert folder.read_facts() == {"ops_token": "t"}


def test_a_state_folder_that_cannot_be_made_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(StateFolderError, match="--state DIR"):
        StateFolder(tmp_path / "file" / "state").prepare()


def test_what_waits_for_a_server_of_others_is_waited_for_without_end(stack: Stack) -> None:
    plan = ProcessPlan("control", (sys.executable, "-c", NEVER_READY), "file", patient=True)
    supervisor = Supervisor(stack, [plan])
    try:
        for now in (0.0, 100.0, 1000.0, 100_000.0):
            supervisor.tick(now)

        assert [(one.phase, one.restarts) for one in supervisor.members] == [("starting", 0)]
        assert not supervisor.ready
    finally:
        supervisor.stop(lambda: True)


def test_nothing_waits_for_what_needs_a_redis_that_is_away(stack: Stack) -> None:
    plans = [
        ProcessPlan("control", (sys.executable, "-c", NEVER_READY), "file", patient=True),
        ProcessPlan("pull", (sys.executable, "-c", GETS_READY), "file"),
    ]
    supervisor = Supervisor(replace(stack, redis_away=True), plans)
    try:
        assert not supervisor.ready
        tick_until(supervisor, 0.0, lambda: supervisor.ready)

        assert [one.phase for one in supervisor.members] == ["starting", "ready"]
    finally:
        supervisor.stop(lambda: True)
