"""What strikes the servers below the system: Valkey and PostgreSQL are killed, frozen, emptied, locked and filled up.

Each fault is a method of the name of its kind. It answers whom it touches, or None when nothing was done, and what it
leaves to be made good stands in `later`.
"""

import contextlib
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psycopg
import redis

from corporation.embedded.postgres import start_postgres
from corporation.embedded.valkey import start_valkey
from corporation.roles import private_queue
from ops.bench.chaos_aof import AppendOnlyFile
from ops.bench.chaos_ledger import AWAY, Servers
from ops.bench.chaos_marks import uptime_ms
from ops.bench.chaos_plan import Fault
from ops.bench.chaos_system import FACTORIES, System

EVERYBODY: Final = frozenset({"everybody"})
REDIS: Final = frozenset({"redis"})
AGAIN_SECONDS: Final = 0.2
"""So long after what could not be made good it is tried again."""
MOST_SESSIONS: Final = 500
CLIENTS: Final = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
     WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'
"""


@dataclass
class Later:
    """What has still to be made good, each at its time in milliseconds of the machine's life."""

    waits: list[tuple[int, Callable[[], None]]] = field(default_factory=list[tuple[int, Callable[[], None]]])

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        """The action is due so many seconds from now."""
        self.waits.append((uptime_ms() + round(seconds * 1000), action))

    def act(self, *, everything: bool = False) -> None:
        """What is due was done, the longest due first; what could not be done is tried again in a moment."""
        now = uptime_ms()
        due = [one for one in self.waits if everything or one[0] <= now]
        self.waits = [one for one in self.waits if one not in due]
        for _, action in sorted(due, key=lambda one: one[0]):
            try:
                action()
            except AWAY:
                self.after(AGAIN_SECONDS, action)


@dataclass
class ServerFaults:
    """Strikes the servers of `system`; call it from the main thread, which is the one that may start servers."""

    system: System
    servers: Servers
    place: Path
    later: Later
    durable: bool = True
    """Whether PostgreSQL, started again, outlives a power failure too."""
    waited: int = 0
    """So many sessions waited for the locks that were let go."""
    aof: AppendOnlyFile = field(init=False)

    def __post_init__(self) -> None:
        self.aof = AppendOnlyFile(self.place / "valkey")

    # Valkey.

    def copy_messages(self, fault: Fault) -> frozenset[str] | None:
        """What lies in the queues lies there twice, as after a reply that was lost; it touches nobody."""
        with self.servers.redis() as client:
            for queue in map(private_queue, FACTORIES):
                for body in client.lrange(queue, 0, -1):
                    client.lpush(queue, body)
        return frozenset()

    def kill_valkey(self, fault: Fault) -> frozenset[str] | None:
        """It dies with SIGKILL, and starts again after the fault's seconds."""
        if self.system.valkey.process.poll() is not None:
            return None
        os.killpg(self.system.valkey.pid, signal.SIGKILL)
        self.system.valkey.process.wait()
        self.later.after(fault.seconds, self._start_valkey)
        return REDIS

    def rewind_valkey(self, fault: Fault) -> frozenset[str] | None:
        """Redis dies and comes back without its last seconds: as after a power failure, or from a backup."""
        if self.kill_valkey(fault) is None:
            return None
        self.aof.rewind(uptime_ms() - round(float(fault.how) * 1000))
        return REDIS

    def _start_valkey(self) -> None:
        self.system.valkey = start_valkey(self.place / "valkey", port=self.system.valkey.port)

    def freeze_valkey(self, fault: Fault) -> frozenset[str] | None:
        """It keeps every connection and answers nobody."""
        process = self.system.valkey.process
        if process.poll() is not None:
            return None
        os.kill(process.pid, signal.SIGSTOP)

        def go_on() -> None:
            if process.poll() is None:
                os.kill(process.pid, signal.SIGCONT)

        self.later.after(fault.seconds, go_on)
        return REDIS

    def flush_valkey(self, fault: Fault) -> frozenset[str] | None:
        """All its keys are gone."""
        if self.system.valkey.process.poll() is not None:
            return None
        with self.servers.redis() as client:
            client.flushall()
        return REDIS

    def refuse_writes(self, fault: Fault) -> frozenset[str] | None:
        """Its memory is full: it answers, but takes nothing that is new."""
        with self.servers.redis() as client:
            client.config_set("maxmemory", 1)
            self.later.after(fault.seconds, self._take_writes)
            try:
                client.set("chaos:full", "1")
            except redis.OutOfMemoryError:
                return REDIS
        return None

    def _take_writes(self) -> None:
        with self.servers.redis() as client:
            client.config_set("maxmemory", 0)

    def cut_clients(self, fault: Fault) -> frozenset[str] | None:
        """Redis hangs up on everybody, once."""
        with self.servers.redis() as client:
            return REDIS if client.client_kill_filter(_type="normal", skipme=True) else None

    # PostgreSQL.

    def stop_postgres(self, fault: Fault) -> frozenset[str] | None:
        """It stops at once, and recovers when it starts after the fault's seconds."""
        if self.system.postgres.process.poll() is not None:
            return None
        self.system.postgres.process.send_signal(signal.SIGQUIT)  # an immediate stop: recovery when it starts
        self.system.postgres.process.wait()
        self.later.after(fault.seconds, self._start_postgres)
        return EVERYBODY

    def _start_postgres(self) -> None:
        folder, port = self.place / "postgres", self.system.postgres.port
        self.system.postgres = start_postgres(folder, port=port, durable=self.durable)

    def cut_sessions(self, fault: Fault) -> frozenset[str] | None:
        """Every session is ended, as an administrator does it."""
        return EVERYBODY if self.servers.execute(CLIENTS) else None

    def lock_ledger(self, fault: Fault) -> frozenset[str] | None:
        """Somebody keeps the table of missions to himself, as a migration does that waits for something."""
        session = self._session()
        try:
            session.execute("LOCK TABLE corporation.missions IN ACCESS EXCLUSIVE MODE")
        except AWAY:
            session.close()
            raise
        self.later.after(fault.seconds, lambda: self._let_go(session))
        return EVERYBODY

    def _let_go(self, session: "psycopg.Connection[Any]") -> None:
        # Its session may have been cut off meanwhile, and the lock is gone with it.
        with contextlib.suppress(*AWAY), session:
            [(waiting,)] = session.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchall()
            self.waited += waiting

    def take_sessions(self, fault: Fault) -> frozenset[str] | None:
        """Every session that it has to give is taken: whoever wants a fresh one is refused."""
        taken: list[psycopg.Connection[Any]] = []
        refused = False
        while not refused and len(taken) < MOST_SESSIONS:
            try:
                taken.append(self._session())
            except psycopg.OperationalError:
                refused = True
        self.later.after(fault.seconds, lambda: _close(taken))
        return EVERYBODY if refused and taken else None

    def _session(self) -> "psycopg.Connection[Any]":
        # The lock is waited for behind whoever works on missions now, and all others wait behind us.
        return psycopg.connect(self.servers.database_url, connect_timeout=2, options="-c lock_timeout=2000")

    def lapse(self, fault: Fault) -> frozenset[str] | None:
        """Every running attempt has been silent for too long, as far as the ledger knows."""
        changed = self.servers.execute(
            "UPDATE corporation.attempts SET lease_expires_at = now() - interval '1 second' WHERE state = 'running'"
        )
        return EVERYBODY if changed else None


def _close(sessions: "list[psycopg.Connection[Any]]") -> None:
    for session in sessions:
        session.close()
