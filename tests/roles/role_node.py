"""One node of some role as real processes, each with its own log, started the way an operator starts it."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import httpx
from canary import secret
from warm_starts import Started, WarmStarts

from corporation.embedded.ports import free_port

ROOT = Path(__file__).resolve().parent.parent.parent
OPS_TOKEN = secret("ops-token")
JWT_SECRET = secret("jwt-secret")
QUEUES = {"HEADQUARTERS": "headquarters", "LOCAL_WORKER": "local_factory", "STANDALONE_NODE": "headquarters"}


@dataclass
class Node(AbstractContextManager["Node"]):
    """The processes of one node; leaving the block ends them all. `more` are further variables for each.

    With `warm` they start without their second of imports.
    """

    role: str
    folder: Path
    database_url: str
    redis_url: str
    wait: Callable[..., Any]
    hq_url: str | None = None
    more: Mapping[str, str] = field(default_factory=dict[str, str])
    port: int = field(default_factory=lambda: free_port(None))
    processes: dict[str, "subprocess.Popen[bytes] | Started"] = field(
        default_factory=dict[str, "subprocess.Popen[bytes] | Started"]
    )
    warm: WarmStarts | None = None

    @property
    def url(self) -> str:
        """Where this node's API answers."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def factory_id(self) -> str:
        """The identity of the node: from its role, unless `more` names another."""
        return self.more.get("UA_FACTORY_ID", f"the-{self.role.lower()}")

    def __exit__(self, *_: object) -> None:
        for name in list(self.processes):
            self.end(name)

    def end(self, name: str) -> int:
        """SIGTERM to the process, SIGKILL to its group when that takes ten seconds; the exit status."""
        process = self.processes.pop(name)
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            return process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return process.wait()

    def start(self, name: str) -> None:
        """The component `name` runs and has said that it is ready when this returns."""
        ready = self.spawn(name)
        self.wait(lambda: ready.exists() or self.processes[name].poll() is not None, 60, f"{self.role}'s {name}")
        assert self.processes[name].poll() is None, self.log(name)

    def refusal(self, name: str) -> tuple[int, str]:
        """The exit status of the component `name`, which must not start, and what it said."""
        self.spawn(name)
        return self.processes.pop(name).wait(timeout=60), self.log(name)

    def start_api(self) -> None:
        """The API answers its health route when this returns."""
        self.spawn("api")
        self.wait(self._healthy, 60, f"{self.role}'s API")

    def get(self, path: str, token: str | None = OPS_TOKEN, **headers: str) -> httpx.Response:
        """The answer to a GET with the operator's token, or with none."""
        given = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx.get(self.url + path, headers={**given, **headers}, timeout=20)

    def log(self, name: str) -> str:
        """All that the component `name` wrote."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def environment(self, name: str) -> dict[str, str]:
        """All variables of the component `name`."""
        inherited = {one: os.environ[one] for one in ("PATH", "LANG") if one in os.environ}
        hq = {"UA_HQ_BASE_URL": self.hq_url} if self.hq_url else {}
        return {
            **inherited,
            "HOME": str(self.folder),
            "FACTORY_ROLE": self.role,
            "UA_FACTORY_ID": self.factory_id,
            "UA_DATABASE_URL": self.database_url,
            "UA_RESULT_BACKEND_URL": self.database_url,
            "UA_REDIS_URL": self.redis_url,
            "UA_GATEWAY_PORT": str(self.port),
            "UA_OPS_TOKEN": OPS_TOKEN,
            "UA_OPS_JWT_SECRET": JWT_SECRET,
            "UA_HEARTBEAT_INTERVAL_SECONDS": "10",
            "UA_VP_DB_PATH": str(self.folder / "spool.db"),
            "UA_HANDLER_MODULES": "tests.roles.coding_kind",
            "UA_READY_FILE": str(self.folder / f"{name}.ready"),
            "UA_DOTENV_PATH": str(self.folder / "no.env"),
            **hq,
            **self.more,
        }

    def spawn(self, name: str) -> Path:
        """The component `name` was started; its ready file appears when it is ready, if it writes one."""
        if name in self.processes:
            self.end(name)
        ready = self.folder / f"{name}.ready"
        ready.unlink(missing_ok=True)
        with (self.folder / f"{name}.log").open("ab") as output:
            self.processes[name] = self._process(name, output)
        return ready

    def _process(self, name: str, output: BinaryIO) -> "subprocess.Popen[bytes] | Started":
        arguments, environ = self._arguments(name), self.environment(name)
        if self.warm:
            return self.warm.popen(arguments, environ, output, output, start_new_session=True)
        return subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )

    def _arguments(self, name: str) -> Sequence[str]:
        celery = ["-m", "celery", "-A", "factory_tasks"]
        ready = str(self.folder / f"{name}.ready")
        return {
            "api": ["-m", "hq_api"],
            "engine": ["-m", "corporation.engine", "--ready-file", ready],
            "telegram": ["-m", "hq_api.telegram"],
            "missions": [*celery, "worker", "-l", "INFO", "-Q", QUEUES[self.role], "-n", f"missions-{self.role}@%h"],
            "control": [*celery, "worker", "-Q", f"{self.factory_id}.control", "-P", "solo", "-n", f"{self.role}@%h"],
            "beat": [*celery, "beat", "-s", str(self.folder / "schedule")],
        }[name]

    def _healthy(self) -> bool:
        try:
            return self.get("/api/v1/health", None).status_code == 200
        except httpx.HTTPError:
            return False
