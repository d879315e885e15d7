"""Which processes live: a process is known by the kernel's own count, so that no setting of the clock takes it away."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import psutil
import pytest

from corporation.federation import processes
from corporation.federation.processes import BOOTS, TICK_BITS, ProcessIdentity, is_alive, my_identity
from corporation.federation.spool import Duplicate, Finished, Spool


@pytest.fixture
def child() -> Iterator["subprocess.Popen[bytes]"]:
    """Another living process."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def identity_of(pid: int) -> ProcessIdentity:
    # Without what is remembered of an earlier process.
    return processes._identity_of.__wrapped__(pid)  # pyright: ignore[reportPrivateUsage]


@pytest.fixture
def _jumped_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """As after `date -s '+2 days'`: the kernel's boot time moves with the clock, and so does all that adds to it."""
    real = psutil.Process.create_time

    def jumped(process: psutil.Process) -> float:
        return real(process) + 172_800

    monkeypatch.setattr(psutil.Process, "create_time", jumped)


@pytest.mark.usefixtures("_jumped_clock")
def test_a_jump_of_the_clock_kills_nobody(child: "subprocess.Popen[bytes]") -> None:
    """As a process looked before the jump, so it looks after it."""
    known = identity_of(child.pid)

    assert known.born < 0
    assert is_alive(known)
    assert is_alive(my_identity())


@pytest.mark.usefixtures("_jumped_clock")
def test_an_attempt_is_neither_lost_nor_run_twice_by_a_jump_of_the_clock(
    child: "subprocess.Popen[bytes]", tmp_path: Path
) -> None:
    spool = Spool(tmp_path / "spool.db")
    spool.accept("at-1", "j-1", 1, identity_of(child.pid), "now")

    assert isinstance(spool.accept("at-1", "j-1", 1, my_identity(), "now"), Duplicate)
    assert spool.bury_the_dead() == 0
    assert [one.attempt_id for one in spool.running()] == ["at-1"]


def test_a_later_process_with_the_same_pid_is_another_one(child: "subprocess.Popen[bytes]") -> None:
    known = identity_of(child.pid)

    assert not is_alive(ProcessIdentity(child.pid, known.born + 1))
    assert not is_alive(ProcessIdentity(child.pid, known.born + 2.0**TICK_BITS))  # same ticks, after another boot


def test_a_dead_process_and_a_zombie_do_not_live(
    child: "subprocess.Popen[bytes]", wait_until: Callable[..., Any]
) -> None:
    known = identity_of(child.pid)

    os.kill(child.pid, signal.SIGKILL)

    wait_until(lambda: not is_alive(known), 10, "the zombie is seen as dead")
    child.wait(10)
    assert not is_alive(known)


def test_a_name_with_brackets_and_spaces_hides_nothing(tmp_path: Path) -> None:
    """The program's name stands in the middle of the line that is read."""
    program = tmp_path / "a) Z 0 (b"
    program.symlink_to(sys.executable)
    with subprocess.Popen([str(program), "-c", "input()"], stdin=subprocess.PIPE) as process:
        assert is_alive(identity_of(process.pid))
        process.kill()


def test_a_process_that_proc_does_not_show_is_taken_for_the_one_asked_for(
    child: "subprocess.Popen[bytes]", monkeypatch: pytest.MonkeyPatch
) -> None:
    """systemd's ProtectProc=invisible hides a worker's pool from the worker itself."""
    known = identity_of(child.pid)
    monkeypatch.setattr(processes, "_state_and_ticks", Mock(return_value=None))

    assert is_alive(known)
    child.kill()
    child.wait(10)
    assert not is_alive(known)


def test_what_an_older_version_wrote_is_judged_as_it_was(child: "subprocess.Popen[bytes]", tmp_path: Path) -> None:
    """Seconds since 1970, in the same column."""
    spool = Spool(tmp_path / "spool.db")
    owners = [
        ProcessIdentity(child.pid, psutil.Process(child.pid).create_time()),
        ProcessIdentity(child.pid, 1_600_000_000.0),
    ]
    for number, owner in enumerate(owners, 1):
        spool.accept(f"at-{number}", f"j-{number}", 1, owner, "now")
        spool.begin(f"at-{number}", owner, 0.0, 60.0)

    assert [one.attempt_id for one in spool.running()] == ["at-1"]
    child.kill()
    child.wait(10)
    assert spool.bury_the_dead() == 2
    assert isinstance(spool.accept("at-1", "j-1", 1, my_identity(), "now"), Finished)


def test_both_numbers_together_stay_whole_in_a_file(tmp_path: Path) -> None:
    """SQLite keeps a REAL of 64 bits: up to 2^53 every whole number is itself."""
    last = processes._as_one_number(2**TICK_BITS - 1, BOOTS)  # pyright: ignore[reportPrivateUsage]

    assert int(last) == -(2**53 - 1)
    assert last != processes._as_one_number(2**TICK_BITS - 2, BOOTS)  # pyright: ignore[reportPrivateUsage]


def test_where_the_kernel_names_no_boot_the_clock_has_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_this_boot", lambda: 0)

    here = processes._identity_of.__wrapped__(os.getpid())  # pyright: ignore[reportPrivateUsage]

    assert here.born == psutil.Process().create_time()
    assert is_alive(here)
