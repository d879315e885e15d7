"""One factory as real processes, and a headquarters that is only what a factory sees: two addresses and a mailbox."""

import json
import os
import signal
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from uuid import uuid4

import psutil
import psycopg
from warm_starts import Started, WarmStarts

import celeryconfig
from corporation.federation.spool import Spool
from corporation.missions.store.sending import AttemptMessage
from corporation.roles import control_queue, private_queue
from corporation.settings import load_settings
from factory_tasks.attempt_mark import VARIABLE, name_of
from factory_tasks.broker import CeleryBroker

FACTORY = "desk-7"
TOKEN = "a-token-for-one-minute-on-loopback"


@dataclass
class SeenHq(AbstractContextManager["SeenHq"]):
    """Answers beats and progress; `cancel`, `status` and `instructions` say how from now on."""

    cancel: dict[str, str] = field(default_factory=dict[str, str])
    status: dict[str, int] = field(default_factory=dict[str, int])
    instructions: dict[str, Any] = field(default_factory=dict[str, Any])
    heard: dict[str, list[float]] = field(default_factory=lambda: defaultdict[str, list[float]](list))
    """When each attempt spoke, and the beats under ""."""
    beats: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    def __enter__(self) -> "SeenHq":
        seen = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                sent = self.rfile.read(int(self.headers.get("content-length", 0)))
                seen.beats += [json.loads(sent)] if self.path.endswith("/registrations") else []
                status, answer = seen.answer(self.path)
                body = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    detail = "not_current: the attempt is no longer current; stop it, and do not retry"

    def answer(self, path: str) -> tuple[int, dict[str, Any]]:
        if path.endswith("/registrations"):
            self.heard[""].append(time.monotonic())
            return 200, {"ok": True, "registration": {}, "instructions": self.instructions}
        attempt_id = path.split("/")[-2]
        self.heard[attempt_id].append(time.monotonic())
        if status := self.status.get(attempt_id):
            return status, {"detail": self.detail}
        why = self.cancel.get(attempt_id)
        told = {"cancel_requested": True, "cancel_reason": why} if why else {"cancel_requested": False}
        return 200, {"attempt_id": attempt_id, "lease_expires_at": "2026-06-01T08:07:00+00:00", **told}


@dataclass
class Factory(AbstractContextManager["Factory"]):
    """The processes of one factory by name, on real servers; leaving the block ends them all."""

    folder: Path
    database_url: str
    redis_url: str
    wait: Callable[..., Any]
    warm: WarmStarts
    hq: SeenHq
    grace_seconds: int = 1
    more_environment: dict[str, str] = field(default_factory=dict[str, str])
    processes: dict[str, Started] = field(default_factory=dict[str, Started])

    def __post_init__(self) -> None:
        self.broker = CeleryBroker(load_settings({"UA_REDIS_URL": self.redis_url, "UA_FACTORY_ID": "hq"}))
        self.db = psycopg.connect(self.database_url, autocommit=True)
        self.spool = Spool(self.folder / "spool.db")

    def __exit__(self, *_: object) -> None:
        for name in list(self.processes):
            self.kill(name)
        self.db.close()

    def start_worker(self, *more: str, name: str = "worker", queue: str = "local_factory") -> None:
        """The worker takes missions, one at a time, when this returns."""
        ready = self.folder / f"{name}.ready"
        ready.unlink(missing_ok=True)
        arguments = ["-m", "celery", "-A", "factory_tasks", "worker", "-Q", queue, "-n", f"{name}@%h", "-l", "INFO"]
        with (self.folder / f"{name}.log").open("ab") as log:
            env = self._environment() | {"UA_READY_FILE": str(ready)}
            self.processes[name] = self.warm.popen([*arguments, *more], env, log, log, start_new_session=True)
        self.wait(ready.exists, 30, f"{name} ready")

    def start_control_worker(self) -> None:
        """The control worker hears of cancels when this returns."""
        self.start_worker("-P", "solo", name="control", queue=control_queue(FACTORY))

    def kill(self, name: str) -> None:
        """SIGKILL to the process and to its group."""
        process = self.processes.pop(name)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)

    def kill_alone(self, name: str) -> None:
        """SIGKILL to the worker's main process alone."""
        process = self.processes.pop(name)
        process.kill()
        process.wait(10)

    def stop(self, name: str, number: signal.Signals = signal.SIGTERM) -> int:
        """End the process as a supervisor does; its exit status."""
        process = self.processes.pop(name)
        process.send_signal(number)
        return process.wait(30)

    def log(self, name: str = "worker") -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def send(self, kind: str = "stubborn", *, seconds: int = 600, **context: Any) -> "Sent":
        """An attempt is on the factory's private queue, as HQ sends it."""
        attempt_id = str(uuid4())
        sent = Sent(self, attempt_id, self.folder / f"{attempt_id}.pids")
        self.db.execute("INSERT INTO mailbox.celery_taskmeta (task_id, factory) VALUES (%s, %s)", (attempt_id, FACTORY))
        payload = {"task": "t", "context": {"pids": str(sent.told), **context}}
        queue = private_queue(FACTORY)
        envelope = {"payload": payload}
        message = AttemptMessage(1, attempt_id, 1, queue, FACTORY, f"j-{attempt_id}", kind, seconds, envelope)
        self.broker.send([message])
        return sent

    def order_to_stop(self, attempt_id: Any, reason: Any = "no longer wanted") -> None:
        """HQ's message is on the control queue."""
        queue = celeryconfig.direct_queue(control_queue(FACTORY))
        kwargs = {"attempt_id": attempt_id, "reason": reason}
        self.broker._app.send_task(  # pyright: ignore[reportPrivateUsage]
            celeryconfig.STOP_TASK, kwargs=kwargs, queue=queue
        )

    def _environment(self) -> dict[str, str]:
        return {
            **{name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ},
            "FACTORY_ROLE": "LOCAL_WORKER",
            "UA_FACTORY_ID": FACTORY,
            "UA_FACTORY_SLOTS": "1",
            "UA_REDIS_URL": self.redis_url,
            "UA_RESULT_BACKEND_URL": self.database_url,
            "UA_HQ_BASE_URL": self.hq.url,
            "UA_OPS_TOKEN": TOKEN,
            "UA_HANDLER_MODULES": "tests.integration.stubborn_kind",
            "UA_VP_DB_PATH": str(self.folder / "spool.db"),
            "UA_TUTORIAL_BOOTSTRAP_LOCAL_ROOT": str(self.folder / "repositories"),
            "UA_MISSION_TIMEOUT_GRACE_SECONDS": str(self.grace_seconds),
            "UA_HEARTBEAT_INTERVAL_SECONDS": "10",
            "UA_ATTEMPT_LEASE_SECONDS": "60",
            **self.more_environment,
        }


@dataclass(frozen=True)
class Sent:
    """One attempt that a test sent."""

    factory: Factory
    attempt_id: str
    told: Path

    def begun(self) -> "Sent":
        """Its handler has started all it wanted to when this returns."""
        self.factory.wait(self.told.exists, 30, f"{self.attempt_id} begun: {self.factory.log()[-3000:]}")
        return self

    @property
    def pids(self) -> list[int]:
        """The pool process, then what its handler started; nothing of a kind that does not tell."""
        return [int(pid) for pid in self.told.read_text().split()] if self.told.exists() else []

    def report(self) -> dict[str, Any]:
        """What the mailbox says, as soon as it says something."""
        statement = "SELECT result FROM mailbox.celery_taskmeta WHERE task_id = %s AND result IS NOT NULL"

        def read() -> Any:
            row = self.factory.db.execute(statement, (self.attempt_id,)).fetchone()
            return json.loads(bytes(row[0])) if row else None

        return self.factory.wait(read, 30, f"a report on {self.attempt_id}: {self.factory.log()[-3000:]}")

    def left(self, *, but: Sequence[int] = ()) -> list[str]:
        """Every process of this attempt that still lives, found by its pid or by its mark."""
        return [
            f"{process.pid} {process.cmdline()}"
            for process in psutil.process_iter()
            if process.pid not in but and _is_of(process, self)
        ]

    def gone(self, limit_seconds: float = 30, *, but: Sequence[int] = ()) -> float:
        """Nothing of this attempt lives when this returns; after how many seconds that was."""
        began = time.monotonic()
        self.factory.wait(lambda: not self.left(but=but), limit_seconds, "nothing left")
        return time.monotonic() - began


def _is_of(process: psutil.Process, sent: Sent) -> bool:
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        marked = process.name() == name_of(sent.attempt_id) or process.environ().get(VARIABLE) == sent.attempt_id
        return marked or process.pid in sent.pids[1:]
    except psutil.Error:
        return False
