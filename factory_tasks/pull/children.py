"""A process for each attempt, forked from one that has imported everything: it takes some ten milliseconds."""

import ctypes
import os
import signal
import socket
import sys
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import Final

import structlog
from celery.exceptions import Ignore, Reject

from corporation.own_process import hide_environment
from factory_tasks.handlers import Registration
from factory_tasks.mission_task import attempt, is_wanted
from factory_tasks.node import Node
from factory_tasks.process_tree import become_pool_process
from factory_tasks.pull.orders import Claimed
from factory_tasks.stopping import exit_when_told

log = structlog.get_logger()

_PR_SET_PDEATHSIG: Final = 1
FAILED: Final = 70


class Children:
    """The processes of the attempts that run now; their parent has no other thread."""

    def __init__(self, here: Node, registered: Mapping[str, Registration]) -> None:
        self._here = here
        self._registered = registered
        self._attempts: dict[int, str] = {}

    def pids(self) -> set[int]:
        """The living and the dead that were not collected yet."""
        return set(self._attempts)

    def attempt_ids(self) -> list[str]:
        """The attempts of those processes."""
        return list(self._attempts.values())

    def start(self, claimed: Claimed, *not_theirs: socket.socket) -> None:
        """A process of its own works on the attempt from now on; it gets none of the sockets `not_theirs`."""
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid:
            self._attempts[pid] = claimed.attempt_id
            return
        status = FAILED
        try:
            for sock in not_theirs:
                sock.close()
            status = _work(self._here, self._registered.get(claimed.kind), claimed)
        except BaseException as error:
            # Nothing may get out of here: below lies the parent's own loop.
            log.error("attempt_process_failed", attempt_id=claimed.attempt_id, error=type(error).__name__)
        finally:
            with suppress(OSError, ValueError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(status)

    def collect(self) -> list[str]:
        """The attempts whose processes have ended since the last call, well or not."""
        ended = [pid for pid in self._attempts if _has_ended(pid)]
        return [self._attempts.pop(pid) for pid in ended]

    def kill(self) -> None:
        """All are dead; what they had begun is lost, and what they had started is this process's now."""
        for pid in self.pids():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for pid in self.pids():
            with suppress(ChildProcessError):
                os.waitpid(pid, 0)


def die_with_parent() -> None:
    """This process is killed when the thread that forked it ends; on Linux, elsewhere nothing happens."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _has_ended(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return True


def _work(here: Node, registration: Registration | None, claimed: Claimed) -> int:
    """In the child: run the attempt unless HQ or the spool says no. Its report is in the spool when this returns."""
    _become_child()
    if registration is None:
        log.error("kind_unknown", attempt_id=claimed.attempt_id, kind=claimed.kind)
        return FAILED
    with suppress(Ignore, Reject):
        attempt(here, registration, claimed.attempt_id, claimed.order, partial(is_wanted, here))
    return 0


def _become_child() -> None:
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    # A supervisor may tell the whole group to end, and not only the claiming process.
    signal.signal(signal.SIGTERM, exit_when_told)
    # Ctrl-C is for the claiming process, which lets its attempts finish.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Without its nurse nobody would keep its time limit, or tell what became of it before the next start.
    die_with_parent()
    hide_environment()
    become_pool_process()
