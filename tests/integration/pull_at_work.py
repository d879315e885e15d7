"""A factory that gets its missions over HTTPS as a real process, and a headquarters that hands out what a test says."""

import json
import os
import signal
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Condition, Thread
from typing import Any

import psutil
from warm_starts import Started, WarmStarts

from corporation.clock import new_id
from corporation.federation.spool import Spool
from factory_tasks.attempt_mark import VARIABLE, name_of

FACTORY = "desk-7"
TOKEN = "a-token-for-one-minute-on-loopback"
LONGEST_WAIT_SECONDS = 1.0
"""This headquarters is less patient than it is asked to be, so that no test waits for an open question."""

Answer = tuple[int, dict[str, Any]]


def lives(process: psutil.Process) -> bool:
    """Whether it does more than wait for somebody to hear of its end."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@dataclass
class HandingHq(AbstractContextManager["HandingHq"]):
    """Hands out `waiting`, and keeps all it hears; `down` and `refused` say which routes answer otherwise from now on.

    Routes are `claim`, `start`, `progress`, `result` and `registrations`.
    """

    waiting: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    down: set[str] = field(default_factory=set[str])
    """Routes that answer 503."""
    refused: dict[tuple[str, str], Answer] = field(default_factory=dict[tuple[str, str], Answer])
    """What a route answers about an attempt, or `""` for any."""
    cancelled: dict[str, str] = field(default_factory=dict[str, str])
    instructions: dict[str, Any] = field(default_factory=dict[str, Any])
    heard: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list[tuple[str, str, dict[str, Any]]])
    """Route, attempt and body of each request that was not refused, in their order."""

    def __enter__(self) -> "HandingHq":
        hq = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                sent = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))))
                status, answer = hq.answer(self.path, sent)
                body = json.dumps(answer).encode()
                with suppress(ConnectionError):  # it was killed meanwhile
                    self.send_response(status)
                    self.send_header("content-length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.changed = Condition()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def said(self, route: str, attempt_id: str = "") -> list[dict[str, Any]]:
        """The bodies of these requests, in their order."""
        return [body for name, about, body in list(self.heard) if name == route and attempt_id in ("", about)]

    def slots(self) -> int | None:
        """What the last beat said, or None before the first."""
        beats = self.said("registrations")
        return beats[-1]["slots"] if beats else None

    def hand_out(self, attempt: dict[str, Any]) -> None:
        """The next claim of its kind is answered with this attempt."""
        with self.changed:
            self.waiting.append(attempt)
            self.changed.notify_all()

    def answer(self, path: str, body: dict[str, Any]) -> Answer:
        """What is answered to a request, once it is written down."""
        *_, attempt_id, route = path.split("/")
        if route in self.down:
            return 503, {"detail": "ledger_unavailable: come again"}
        for about in (attempt_id, ""):
            if refusal := self.refused.get((route, about)):
                return refusal
        with self.changed:
            self.heard.append((route, attempt_id, body))
        if route == "claim":
            return 200, {"attempts": self._claimed(body), "paused": self.instructions.get("paused", False)}
        if route == "registrations":
            return 200, {"ok": True, "registration": {}, "instructions": self.instructions}
        why = self.cancelled.get(attempt_id)
        told = {"cancel_requested": True, "cancel_reason": why} if why else {"cancel_requested": False}
        return 200, {"attempt_id": attempt_id, "accepted": True, **told}

    def _claimed(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        def fitting() -> list[dict[str, Any]]:
            return [one for one in self.waiting if one["mission_kind"] in body["mission_kinds"]][: body["max"]]

        with self.changed:
            self.changed.wait_for(fitting, min(body["wait_seconds"], LONGEST_WAIT_SECONDS))
            found = fitting()
            self.waiting = [one for one in self.waiting if one not in found]
        return found


@dataclass
class Pull(AbstractContextManager["Pull"]):
    """The process, and what a test wants of it; leaving the block ends it with all it started."""

    folder: Path
    wait: Callable[..., Any]
    warm: WarmStarts
    hq: HandingHq
    slots: int = 1
    process: Started | None = None
    handed: list["Handed"] = field(default_factory=list["Handed"])

    def __post_init__(self) -> None:
        self.spool = Spool(self.folder / "spool.db")

    def __exit__(self, *_: object) -> None:
        self.kill()
        for one in self.handed:
            for process in one.left():
                process.kill()

    def start(self, **variables: str) -> "Pull":
        """It asks for missions when this returns."""
        ready = self.folder / "pull.ready"
        ready.unlink(missing_ok=True)
        self.spawn(UA_READY_FILE=str(ready), **variables)
        self.wait(ready.exists, 30, f"ready: {self.log()}")
        return self

    def spawn(self, **variables: str) -> Started:
        """The process is on its way."""
        with (self.folder / "pull.log").open("ab") as log:
            env = {name: value for name, value in {**self._environment(), **variables}.items() if value}
            self.process = self.warm.popen(["-m", "factory_tasks.pull"], env, log, log, start_new_session=True)
        return self.process

    @property
    def running(self) -> Started:
        """The process that was started last and not killed since."""
        assert self.process is not None
        return self.process

    def kill(self) -> None:
        """SIGKILL to the process and to its group."""
        process, self.process = self.process, None
        if process is not None and process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)

    def children(self) -> list[psutil.Process]:
        """The nursery, then the processes of attempts."""
        return psutil.Process(self.running.pid).children(recursive=True)

    def log(self) -> str:
        return (self.folder / "pull.log").read_text(errors="replace")[-4000:]

    def hand_out(self, kind: str = "stubborn", *, seconds: int = 600, **context: Any) -> "Handed":
        """An attempt that the next claim is answered with."""
        attempt_id = new_id()
        handed = Handed(self, attempt_id, self.folder / f"{attempt_id}.pids")
        self.handed.append(handed)
        self.hq.hand_out(handed.order(kind, seconds, context))
        return handed

    def _environment(self) -> dict[str, str]:
        return {
            **{name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ},
            "FACTORY_ROLE": "LOCAL_WORKER",
            "UA_FACTORY_ID": FACTORY,
            "UA_FACTORY_SLOTS": str(self.slots),
            "UA_DELEGATION_REDIS_ENABLED": "0",
            "UA_HQ_BASE_URL": self.hq.url,
            "UA_OPS_TOKEN": TOKEN,
            "UA_HANDLER_MODULES": "tests.integration.stubborn_kind",
            "UA_VP_DB_PATH": str(self.folder / "spool.db"),
            "UA_TUTORIAL_BOOTSTRAP_LOCAL_ROOT": str(self.folder / "repositories"),
            "UA_MISSION_TIMEOUT_GRACE_SECONDS": "1",
            "UA_HEARTBEAT_INTERVAL_SECONDS": "10",
            "UA_ATTEMPT_LEASE_SECONDS": "60",
        }


@dataclass(frozen=True)
class Handed:
    """One attempt that a test handed out."""

    pull: Pull
    attempt_id: str
    told: Path

    def order(self, kind: str, seconds: int, context: dict[str, Any]) -> dict[str, Any]:
        """It as HQ's answer to a claim says it (contract http §8)."""
        payload = {"task": "t", "context": {"pids": str(self.told), **context}}
        return {
            "attempt_id": self.attempt_id,
            "attempt": 1,
            "job_id": f"j-{self.attempt_id}",
            "mission_kind": kind,
            "lease_expires_at": "2026-06-01T08:07:00.000000+00:00",
            "timeout_seconds": seconds,
            "envelope": {"job_id": f"j-{self.attempt_id}", "payload": payload},
        }

    def begun(self) -> "Handed":
        """Its handler has started all it wanted to when this returns."""
        self.pull.wait(self.told.exists, 30, f"{self.attempt_id} begun: {self.pull.log()}")
        return self

    def report(self, limit_seconds: float = 30) -> dict[str, Any]:
        """What HQ was told, as soon as it was told something."""
        said = self.pull.wait(
            lambda: self.pull.hq.said("result", self.attempt_id),
            limit_seconds,
            f"a report on {self.attempt_id}: {self.pull.log()}",
        )
        return {"error": said[0]["error"], "result": said[0]["result"], **said[0]["report"]}

    def left(self) -> list[psutil.Process]:
        """Every process of this attempt that still lives, found by its pid or by its mark."""
        pids = [int(pid) for pid in self.told.read_text().split()] if self.told.exists() else []
        return [process for process in psutil.process_iter() if self._is_of(process, pids)]

    def _is_of(self, process: psutil.Process, pids: Sequence[int]) -> bool:
        try:
            if not lives(process):
                return False
            marked = process.name() == name_of(self.attempt_id) or process.environ().get(VARIABLE) == self.attempt_id
            return marked or process.pid in pids
        except psutil.Error:
            return False
