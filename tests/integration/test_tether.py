"""No process that was started on a tether outlives it: daemons, the stubborn, and orphans of ours alike."""

import contextlib
import os
import select
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from bootstrap_builders import PATIENCE_SECONDS, alive_with

import factory_tasks.tether as tether_module
from factory_tasks.tether import descendants, tethered

Start = Callable[..., "subprocess.Popen[str]"]

# Leaves its session and its parent, ignores SIGTERM, and closes everything: what a daemon does.
STUBBORN_DAEMON = (
    "( setsid bash -c 'trap \"\" TERM; echo up; exec >/dev/null 2>&1 </dev/null; exec sleep 1000' & ) ;read -r < {fifo}"
)


@pytest.fixture
def mark() -> str:
    return f"TETHER_TEST={uuid.uuid4()}"


@pytest.fixture
def start(mark: str) -> Iterator[Start]:
    """Starts a command on a tether; what a failed test leaves of it is ended."""
    with contextlib.ExitStack() as stack:

        def starting(*argv: str, grace_seconds: float = 0.3) -> "subprocess.Popen[str]":
            process = subprocess.Popen(
                tethered(list(argv), grace_seconds=grace_seconds),
                env=dict([mark.split("=")]) | {"PATH": "/usr/bin:/bin"},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                stdin=subprocess.DEVNULL,
                text=True,
                start_new_session=True,
            )
            stack.callback(process.communicate, timeout=PATIENCE_SECONDS)
            stack.callback(process.terminate)
            return process

        yield starting


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "go")
    return tmp_path / "go"


def line_of(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    assert select.select([process.stdout], [], [], PATIENCE_SECONDS)[0], "the command said nothing"
    return process.stdout.readline().strip()


def ended(process: "subprocess.Popen[str]") -> int:
    return process.wait(PATIENCE_SECONDS)


@pytest.mark.parametrize(
    ("command", "code"),
    [("exit 0", 0), ("exit 7", 7), ("kill -KILL $$", 137), ("kill -TERM $$", 143)],
)
def test_the_exit_code_is_the_commands_own(start: Start, command: str, code: int) -> None:
    assert ended(start("bash", "-c", command)) == code


def test_a_command_that_does_not_exist_is_named_in_the_error(start: Start) -> None:
    process = start("no-such-command")
    _, error = process.communicate(timeout=PATIENCE_SECONDS)

    assert (process.returncode, "no-such-command: not found" in error) == (127, True)


def test_a_command_that_cannot_be_executed_is_named_in_the_error(start: Start, tmp_path: Path) -> None:
    process = start(str(tmp_path))
    _, error = process.communicate(timeout=PATIENCE_SECONDS)

    assert (process.returncode, "cannot be started" in error) == (126, True)


def test_a_daemon_left_by_a_command_that_ended_well_is_ended(start: Start, fifo: Path, mark: str) -> None:
    process = start("bash", "-c", STUBBORN_DAEMON.format(fifo=fifo))
    line_of(process)
    assert any("sleep 1000" in line or "trap" in line for line in alive_with(mark))
    fifo.write_text("go\n")

    assert (ended(process), alive_with(mark)) == (0, [])


def test_sigterm_to_the_tether_ends_everything_the_stubborn_too(start: Start, fifo: Path, mark: str) -> None:
    process = start("bash", "-c", STUBBORN_DAEMON.format(fifo=fifo))
    line_of(process)
    process.terminate()

    assert (ended(process), alive_with(mark)) == (143, [])


def test_a_process_may_tidy_up_within_the_grace(start: Start, tmp_path: Path, mark: str) -> None:
    tidied = tmp_path / "tidied"
    process = start("bash", "-c", f"trap 'echo yes > {tidied}; exit 3' TERM; echo up; while :; do sleep 0.01; done")
    line_of(process)
    process.terminate()

    assert (ended(process), tidied.read_text(), alive_with(mark)) == (3, "yes\n", [])


def test_killing_the_owner_ends_everything(fifo: Path, mark: str) -> None:
    argv = ["bash", "-c", STUBBORN_DAEMON.format(fifo=fifo)]
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(Path(tether_module.__file__).parent), *argv],
        env=dict([mark.split("=")]) | {"PATH": "/usr/bin:/bin"},
        stdout=subprocess.PIPE,
        text=True,
    )
    with owner:
        held = os.pidfd_open(int(line_of(owner)))
        line_of(owner)
        owner.kill()
        assert owner.wait(PATIENCE_SECONDS) == -signal.SIGKILL
        assert select.select([held], [], [], PATIENCE_SECONDS)[0], "the tether outlives its owner"
        os.close(held)

    assert alive_with(mark) == []


OWNER = """
import subprocess, sys
sys.path.insert(0, sys.argv[1])
from tether import tethered
held = subprocess.Popen(tethered(sys.argv[2:], grace_seconds=0.3), start_new_session=True)
print(held.pid, flush=True)
held.wait()
"""


def test_a_tether_whose_owner_is_dead_already_starts_nothing(tmp_path: Path) -> None:
    argv = [sys.executable, tether_module.__file__, "--owner", "1", "--grace", "1", "--"]
    ran = subprocess.run([*argv, "touch", str(tmp_path / "started")], timeout=PATIENCE_SECONDS, check=False)

    assert (ran.returncode, (tmp_path / "started").exists()) == (143, False)


def test_a_script_that_kills_its_process_group_does_not_reach_the_tether(start: Start, mark: str) -> None:
    process = start("bash", "-c", "setsid sleep 1000 & kill -KILL 0")

    assert (ended(process), alive_with(mark)) == (137, [])


def test_many_processes_that_fork_while_they_are_ended_are_all_ended(start: Start, mark: str) -> None:
    forking = "spawn() { setsid bash -c 'trap \"\" TERM; while :; do sleep 0.01 & wait; done' & }; "
    process = start("bash", "-c", forking + "for n in {1..20}; do spawn; done; echo up; exit 0")
    line_of(process)

    assert (ended(process), alive_with(mark)) == (0, [])


def test_the_command_gets_no_file_that_the_tether_holds() -> None:
    mine, held = os.pipe()
    argv = tethered(["test", "-e", f"/proc/self/fd/{held}"], grace_seconds=0.3)
    ran = subprocess.run(argv, pass_fds=[held], start_new_session=True, timeout=PATIENCE_SECONDS, check=False)
    os.close(mine)
    os.close(held)

    assert ran.returncode == 1


def test_a_stopped_process_is_ended_too(start: Start, mark: str) -> None:
    process = start("bash", "-c", "sleep 1000 & kill -STOP $!; echo up; exit 0")
    line_of(process)

    assert (ended(process), alive_with(mark)) == (0, [])


def test_the_walk_over_proc_finds_children_of_children(start: Start) -> None:
    process = start("bash", "-c", "(sleep 1000; :) & echo up; wait")
    line_of(process)
    deep = descendants(process.pid)

    assert len(deep) >= 2


def test_wrong_use_is_answered_with_the_right_one() -> None:
    ran = subprocess.run([sys.executable, tether_module.__file__, "ls"], capture_output=True, text=True, check=False)

    assert (ran.returncode, "--owner PID" in ran.stderr) == (64, True)
