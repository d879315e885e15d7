"""A whole HQ and one factory as separate processes on given servers, for benches and fault tests.

Every process has its own group and log, and can be killed and started again; leaving the block ends them all.
"""

import os
import signal
import ssl
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import httpx

from corporation.embedded.ports import free_port
from corporation.roles import control_queue

ROOT = Path(__file__).resolve().parent.parent.parent
TOKEN = "a-token-for-one-minute-on-loopback"  # noqa: S105
Waiting = Callable[[Callable[[], Any]], Any]


@dataclass
class Cluster:
    """The processes by name: `api`, `engine`, and as many workers as are started.

    `wait` blocks until a condition holds, and fails otherwise; `more` are further variables for every process.
    """

    folder: Path
    database_url: str
    redis_url: str
    wait: Waiting
    more: Mapping[str, str] = field(default_factory=dict[str, str])
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict[str, "subprocess.Popen[bytes]"])
    port: int = field(default_factory=lambda: free_port(None))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for name in list(self.processes):
            self.kill(name)

    @property
    def client(self) -> httpx.Client:
        """A fresh client of this cluster's API that may do everything."""
        base = f"http://127.0.0.1:{self.port}"
        # Reading the system's certificates takes 18 ms a client, and nothing here is encrypted.
        empty = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        return httpx.Client(base_url=base, headers={"x-ua-ops-token": TOKEN}, timeout=30, verify=empty)

    def start_api(self) -> None:
        """The API answers when this returns."""
        self._start("api", ["-m", "hq_api"], self._hq())
        self.wait(self._healthy)

    def start_engine(self, name: str = "engine", only: Sequence[str] = ()) -> None:
        """Every loop of the engine, or those named, has ticked when this returns."""
        ready = self._fresh(name)
        loops = [word for loop in only for word in ("--only", loop)]
        self._start(name, ["-m", "corporation.engine", "--ready-file", str(ready), *loops], self._hq())
        self.wait(ready.exists)

    def start_worker(
        self, name: str = "worker", slots: int = 2, queue: str = "local_factory", factory: str = "bench"
    ) -> None:
        """The worker takes missions when this returns; workers of one `factory` share its spool."""
        ready = self._fresh(name)
        # A factory's rights in Redis let it ask no neighbours when it starts, which would take a second too.
        alone = ["--without-mingle", "--without-gossip"]
        arguments = ["-m", "celery", "-A", "factory_tasks", "worker", "-Q", queue, "-n", f"{name}@%h", "-l", "INFO"]
        env = {**self._factory(factory), "UA_FACTORY_SLOTS": str(slots), "UA_READY_FILE": str(ready)}
        self._start(name, [*arguments, *alone], env)
        self.wait(ready.exists)

    def start_control(self, name: str = "control", factory: str = "bench") -> None:
        """The control worker of `factory` hears HQ when this returns."""
        ready = self._fresh(name)
        arguments = ["-m", "celery", "-A", "factory_tasks", "worker", "-Q", control_queue(factory), "-P", "solo"]
        env = {**self._factory(factory), "UA_READY_FILE": str(ready)}
        self._start(name, [*arguments, "-n", f"{name}@%h", "--without-mingle", "--without-gossip"], env)
        self.wait(ready.exists)

    def start_pull(self, name: str = "pull", slots: int = 2, factory: str = "bench", *, standby: bool = True) -> None:
        """The process that gets `factory` its missions over HTTPS is ready: always, or with `standby` without Redis."""
        ready = self._fresh(name)
        env = {**self._factory(factory), "UA_FACTORY_SLOTS": str(slots), "UA_READY_FILE": str(ready)}
        if not standby:
            del env["UA_RESULT_BACKEND_URL"], env["UA_REDIS_URL"]
            env["UA_DELEGATION_REDIS_ENABLED"] = "0"
        self._start(name, ["-m", "factory_tasks.pull", *(["--standby"] if standby else [])], env)
        self.wait(ready.exists)

    def kill(self, name: str) -> None:
        """SIGKILL to the process and its whole group: what a power cut looks like to the others."""
        process = self.processes.pop(name)
        with suppress(ProcessLookupError):  # it has ended and left no child
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def stop(self, name: str, limit_seconds: float = 20) -> int:
        """SIGTERM, as a supervisor does, and the exit status; SIGKILL for the group when it takes too long."""
        process = self.processes.pop(name)
        process.send_signal(signal.SIGTERM)
        try:
            return process.wait(timeout=limit_seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return process.wait()

    def log(self, name: str) -> str:
        """All that the process named `name` wrote, over its restarts."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def _hq(self) -> dict[str, str]:
        return {
            "FACTORY_ROLE": "HEADQUARTERS",
            "UA_FACTORY_ID": "bench-hq",
            "UA_DATABASE_URL": self.database_url,
            "UA_GATEWAY_PORT": str(self.port),
            "UA_ARTIFACT_ROOT": str(self.folder / "artifacts"),
            **self._shared(),
        }

    def spool_of(self, factory: str = "bench") -> Path:
        """The file in which this factory remembers its attempts."""
        return self.folder / ("spool.db" if factory == "bench" else f"spool-{factory}.db")

    def _factory(self, factory: str = "bench") -> dict[str, str]:
        return {
            "FACTORY_ROLE": "LOCAL_WORKER",
            "UA_FACTORY_ID": factory,
            "UA_RESULT_BACKEND_URL": self.database_url,
            "UA_HQ_BASE_URL": f"http://127.0.0.1:{self.port}",
            "UA_HANDLER_MODULES": "ops.bench.noop",
            "UA_VP_DB_PATH": str(self.spool_of(factory)),
            "UA_TUTORIAL_BOOTSTRAP_LOCAL_ROOT": str(self.folder / "repositories"),
            **self._shared(),
        }

    def _shared(self) -> dict[str, str]:
        inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        return {**inherited, "UA_REDIS_URL": self.redis_url, "UA_OPS_TOKEN": TOKEN, **self.more}

    def _start(self, name: str, arguments: Sequence[str], env: Mapping[str, str]) -> None:
        with (self.folder / f"{name}.log").open("ab") as output:
            self.processes[name] = self._spawn(name, arguments, env, output)

    def _spawn(
        self, name: str, arguments: Sequence[str], env: Mapping[str, str], output: BinaryIO
    ) -> "subprocess.Popen[bytes]":
        """`python ARGUMENTS…` in a group of its own; tests that start processes in another way replace this."""
        del name
        return subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )

    def _fresh(self, name: str) -> Path:
        ready = self.folder / f"{name}.ready"
        ready.unlink(missing_ok=True)
        return ready

    def _healthy(self) -> bool:
        try:
            with self.client as client:
                return client.get("/api/v1/health").status_code == 200
        except httpx.HTTPError:
            return False
