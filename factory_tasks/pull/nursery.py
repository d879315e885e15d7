"""A process with one thread that forks a child for each attempt, and watches over them.

Whoever forks while other threads run may take a lock along that nobody will ever let go. So the process that claims,
beats and reports forks once, before it has any thread; what is forked later is forked here.
"""

import json
import os
import select
import signal
import socket
import sqlite3
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from threading import Lock, Thread
from types import FrameType
from typing import Any, Final

import structlog

from corporation.federation.processes import my_identity
from factory_tasks.handlers import Registration
from factory_tasks.mission_task import Order
from factory_tasks.node import Node
from factory_tasks.process_tree import adopt_orphans
from factory_tasks.pull.children import Children, die_with_parent
from factory_tasks.pull.orders import Claimed
from factory_tasks.warden import Warden

log = structlog.get_logger()

ENDED: Final = "ended"
TELL: Final = "tell"
CHUNK: Final = 65_536


class Nursery:
    """The claiming process's side: attempts go in, and word of their ends comes out; from every thread.

    `changed` is called when an attempt has ended, `tell` when a report lies in the spool.
    """

    def __init__(
        self,
        here: Node,
        registered: Mapping[str, Registration],
        changed: Callable[[], None],
        tell: Callable[[], None],
    ) -> None:
        self._here = here
        self._registered = registered
        self._changed = changed
        self._tell = tell
        self._attempts: frozenset[str] = frozenset()
        self._changing = Lock()
        self._socket: socket.socket | None = None
        self._pid = 0
        self.broken = False
        """Whether it has ended unasked: then this whole process should be started anew."""

    def fork(self) -> None:
        """The nursery runs; to be called before this process has any other thread."""
        ours, theirs = socket.socketpair()
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid:
            theirs.close()
            self._socket, self._pid = ours, pid
            return
        ours.close()
        try:
            Nurse(self._here, self._registered, theirs).run()
        finally:
            os._exit(0)

    def listen(self) -> None:
        """Hear from it from now on, in a thread of its own."""
        Thread(target=self._listen, name="nursery", daemon=True).start()

    def attempt_ids(self) -> frozenset[str]:
        """The attempts that were given to it and have not ended."""
        return self._attempts

    def work_on(self, claimed: Claimed) -> None:
        """A process of its own works on the attempt soon."""
        with self._changing:
            self._attempts |= {claimed.attempt_id}
        self._say({**asdict(claimed), "order": {**asdict(claimed.order), "context": dict(claimed.order.context)}})

    def end(self) -> None:
        """No attempt of it runs any more, nor anything that one started; safe to call twice."""
        sock, self._socket = self._socket, None
        if sock is None:
            return
        with suppress(OSError):
            sock.shutdown(socket.SHUT_WR)
        with suppress(ChildProcessError):
            os.waitpid(self._pid, 0)
        sock.close()

    def _say(self, message: Mapping[str, Any]) -> None:
        try:
            if self._socket is not None:
                self._socket.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            self.broken = True

    def _listen(self) -> None:
        lines = _Lines()
        sock = self._socket
        while sock is not None and (data := _received(sock)):
            for message in lines.of(data):
                self._hear(message)
        self.broken = self._socket is not None
        self._changed()

    def _hear(self, message: Mapping[str, Any]) -> None:
        if ENDED in message:
            with self._changing:
                self._attempts -= frozenset(message[ENDED])
            self._changed()
        self._tell()


class Nurse:
    """The nursery's own side, with one thread: forks, collects, and ends what does not end by itself."""

    def __init__(self, here: Node, registered: Mapping[str, Registration], parent: socket.socket) -> None:
        self._here = here
        self._parent = parent
        self._parent_pid = os.getppid()
        self._lines = _Lines()
        self._children = Children(here, registered)
        self._warden = Warden(here, self._pool, lambda: self._say({TELL: True}))

    def run(self) -> None:
        """Do what the parent says until it says no more; then nothing of it is left."""
        _become_nurse()
        woken = _woken_by_children()
        self._warden.begin()
        wait = 0.0
        while self._obey(wait, woken):
            if ended := self._children.collect():
                self._here.spool.bury_the_dead()
                self._say({ENDED: ended})
            wait = self._look()
        self._hand_back()
        self._children.kill()
        self._warden.stop()

    def _obey(self, seconds: float, woken: socket.socket) -> bool:
        """Wait, but no longer than until there is something to do; False when the parent has no more to say."""
        ready, _, _ = select.select([self._parent, woken], [], [], seconds)
        if woken in ready:
            woken.recv(CHUNK)
        if self._parent not in ready:
            return True
        data = self._parent.recv(CHUNK)
        for message in self._lines.of(data):
            order = Order(**message["order"])
            self._children.start(Claimed(message["attempt_id"], message["kind"], order), self._parent)
        return bool(data)

    def _hand_back(self) -> None:
        """What is about to be killed took nobody down, if the parent wants it so and has not died itself."""
        if os.getppid() == self._parent_pid:
            with suppress(sqlite3.Error):
                self._here.spool.hand_back(self._children.attempt_ids(), my_identity())

    def _look(self) -> float:
        try:
            return self._warden.look()
        except Exception as error:
            # A locked spool or a full disk passes; without its nurse nobody would keep an attempt's time limit.
            log.warning("warden_failed", error=error)
            return 0.5

    def _pool(self) -> set[int]:
        # Never empty: the warden takes an empty pool for one that has not started yet.
        return self._children.pids() | {os.getpid()}

    def _say(self, message: Mapping[str, Any]) -> None:
        with suppress(OSError):
            self._parent.sendall(json.dumps(message).encode() + b"\n")


class _Lines:
    """JSON objects, one a line, out of bytes as they come."""

    def __init__(self) -> None:
        self._rest = b""

    def of(self, data: bytes) -> list[dict[str, Any]]:
        """The objects that are whole with `data`."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [json.loads(line) for line in lines]


def _received(sock: socket.socket) -> bytes:
    """Nothing once the other side is gone."""
    try:
        return sock.recv(CHUNK)
    except OSError:
        return b""


def _only_wake(number: int, frame: FrameType | None) -> None:
    """A signal that nobody answers does not write to the wakeup socket either."""


def _become_nurse() -> None:
    # Who ends this factory tells the parent, which lets attempts finish; the nurse ends when the parent does.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    die_with_parent()
    adopt_orphans()


def _woken_by_children() -> socket.socket:
    """A socket that can be read whenever a child has ended."""
    reading, writing = socket.socketpair()
    reading.setblocking(False)
    writing.setblocking(False)
    signal.signal(signal.SIGCHLD, _only_wake)
    signal.set_wakeup_fd(writing.detach(), warn_on_full_buffer=False)
    return reading
