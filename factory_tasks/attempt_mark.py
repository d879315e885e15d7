"""The mark that every process of an attempt carries, by which a later worker finds what a killed one left running.

Programs that a handler starts inherit the variable `UA_ATTEMPT_ID`. A process that only forked has no environment of
its own to be read by, and hides it (`hide_environment`): its name is made of the attempt's id instead. Who takes off
both is not found. This is the last net, for a worker that was killed together with all who watch its processes.
"""

import ctypes
import os
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from hashlib import blake2b
from threading import current_thread, main_thread
from typing import Final

import psutil
import structlog

from corporation.federation.processes import ProcessIdentity, is_alive
from corporation.federation.spool import Spool
from factory_tasks.process_tree import end

log = structlog.get_logger()

VARIABLE: Final = "UA_ATTEMPT_ID"
MOST_LOOKS: Final = 5
"""After so many rounds whoever is still there starts others faster than they can be ended."""
_PREFIX: Final = "ua-"
_PR_SET_NAME: Final = 15
_PR_GET_NAME: Final = 16


@contextmanager
def marked(attempt_id: str) -> Generator[None]:
    """For the block, what this process starts carries the mark of the attempt.

    Only in the main thread: threads share one environment, so in a pool of threads nothing is marked.
    """
    if current_thread() is not main_thread():
        yield
        return
    before = _renamed(name_of(attempt_id))
    os.environ[VARIABLE] = attempt_id
    try:
        yield
    finally:
        os.environ.pop(VARIABLE, None)
        _renamed(before)


def name_of(attempt_id: str) -> str:
    """What a process of the attempt is called: 48 bits of a hash, in the 15 characters that the kernel keeps."""
    return _PREFIX + blake2b(attempt_id.encode(), digest_size=6).hexdigest()


def end_leftovers_of_the_dead(spool: Spool) -> int:
    """No process of this user works any more for an attempt of this factory whose own process is dead.

    Returns how many were ended. Safe at any time: what living processes started is left alone, and so is this process
    with those that it descends from, whatever they carry. Looked for until none is found: a shell that loses its
    command goes on to the next one, while it is being ended itself.
    """
    ended = 0
    for _ in range(MOST_LOOKS):
        found = _left_by_the_dead(spool)
        if not found:
            break
        everybody = _with_descendants(found)
        left = end(partial(_pids_of_the_living, everybody))
        log.warning("leftovers_ended", processes=len(everybody), left=left)
        ended += len(found)
    return ended


def _left_by_the_dead(spool: Spool) -> list[psutil.Process]:
    carried = _signs_by_process()
    dead = _signs_of_the_dead(spool.owners()) if carried else set[str]()
    return [process for process, signs in carried.items() if signs & dead]


def _pids_of_the_living(processes: set[psutil.Process]) -> set[int]:
    return {process.pid for process in processes if _lives(process)}


def _signs_by_process() -> dict[psutil.Process, set[str]]:
    """The signs of every process of this user that carries one."""
    me = psutil.Process()
    spared = {me, *me.parents()}
    ours = (process for process in psutil.process_iter() if process not in spared and _uid_of(process) == os.getuid())
    return {process: signs for process in ours if (signs := _signs_of(process))}


def _signs_of(process: psutil.Process) -> set[str]:
    signs: set[str] = set()
    with suppress(psutil.Error, OSError):
        signs |= {name for name in [process.name()] if name.startswith(_PREFIX)}
        signs |= {value for name, value in process.environ().items() if name == VARIABLE}
    return signs


def _uid_of(process: psutil.Process) -> int | None:
    # Not who owns /proc/<pid>: that is root for a process that hides its environment.
    try:
        return process.uids().real
    except psutil.Error:
        return None


def _signs_of_the_dead(owners: Mapping[str, ProcessIdentity]) -> set[str]:
    dead = [attempt_id for attempt_id, owner in owners.items() if not is_alive(owner)]
    return {*dead, *(name_of(attempt_id) for attempt_id in dead)}


def _with_descendants(processes: list[psutil.Process]) -> set[psutil.Process]:
    everybody = set(processes)
    for process in processes:
        with suppress(psutil.Error):
            everybody |= set(process.children(recursive=True))
    return everybody


def _lives(process: psutil.Process) -> bool:
    """Whether that very process, and not a later one of its pid, is there and no zombie."""
    with suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def _renamed(name: str) -> str:
    """This thread is called `name`, as far as the system knows such names; the name it had."""
    if sys.platform != "linux":
        return name
    libc, before = ctypes.CDLL(None, use_errno=True), ctypes.create_string_buffer(16)
    libc.prctl(_PR_GET_NAME, before, 0, 0, 0)
    libc.prctl(_PR_SET_NAME, ctypes.c_char_p(os.fsencode(name)), 0, 0, 0)
    return os.fsdecode(before.value)
