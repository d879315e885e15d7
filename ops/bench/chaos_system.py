"""The whole system as processes that can be struck one by one: HQ, its factories, clients, and the servers below them.

Factory `alpha` has two workers with two slots each on one spool and speaks to the servers directly; `beta` has one
worker and a spool of its own, and reaches everything through proxies that can be cut. In a run of the whole also
`gamma` works, which gets its missions over HTTPS by way of a proxy and knows neither server, `alpha` and HQ have a beat
and a control worker each, and the streams have a bridge of their own beside the engine's.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol
from urllib.parse import urlsplit

from corporation.embedded.ports import free_port
from corporation.embedded.server_process import Server, tied_to_us
from corporation.roles import control_queue
from ops.bench import strange_clock
from ops.bench.chaos_proxy import Proxy

ROOT: Final = Path(__file__).resolve().parent.parent.parent
TOKEN: Final = "a-token-for-one-minute-on-loopback"  # noqa: S105
LEASE_SECONDS: Final = 20
"""The shortest that goes with the shortest heartbeat."""
SHARED: Final = {
    "UA_MISSION_RETRY_BASE_SECONDS": "0.1",
    "UA_MISSION_RETRY_CAP_SECONDS": "1",
    "UA_HEARTBEAT_INTERVAL_SECONDS": str(LEASE_SECONDS // 2),
    "UA_ATTEMPT_LEASE_SECONDS": str(LEASE_SECONDS),
    "UA_FACTORY_STALE_SECONDS": str(LEASE_SECONDS),
    "UA_FACTORY_OFFLINE_SECONDS": str(2 * LEASE_SECONDS),
    "UA_MISSION_WAITING_LIMIT": "20000",
    "UA_DOTENV_PATH": os.devnull,
}
FACTORIES: Final[Mapping[str, tuple[str, ...]]] = {"alpha": ("alpha-1", "alpha-2"), "beta": ("beta-1",)}
PULL: Final = "gamma-1"
CONTROL: Final = "alpha-control"
BEAT: Final = "alpha-beat"
HQ_CONTROL: Final = "hq-control"
HQ_BEAT: Final = "hq-beat"
CONTROLS: Final = (CONTROL, HQ_CONTROL)
BEATS: Final = (BEAT, HQ_BEAT)
BRIDGE: Final = "bridge"
STREAM_CLIENT: Final = "client-stream"
WORKERS: Final = tuple(worker for workers in FACTORIES.values() for worker in workers)
FACTORY_OF: Final = {worker: factory for factory, workers in FACTORIES.items() for worker in workers} | {
    PULL: "gamma",
    CONTROL: "alpha",
    BEAT: "alpha",
}
BESIDES: Final = (PULL, *CONTROLS, *BEATS, BRIDGE)
"""What runs in a run of the whole only."""
HQ: Final = "chaos-hq"
"""The name of headquarters' own node."""
ENGINES: Final = ("engine", "engine-2")
SLOTS: Final = 2


class Process(Protocol):
    """What of `subprocess.Popen` is used here."""

    pid: int

    def poll(self) -> int | None: ...

    def wait(self, timeout: float | None = None) -> int: ...


Starter = Callable[[Sequence[str], Mapping[str, str], BinaryIO], Process]
"""Starts `python ARGUMENTS…` with exactly these variables in a session of its own, its output in the file."""


def start_cold(arguments: Sequence[str], env: Mapping[str, str], output: BinaryIO) -> Process:
    """A fresh Python, which ends with us even when we are killed; call it from the main thread."""
    return subprocess.Popen(
        [*tied_to_us(signal.SIGKILL), sys.executable, *arguments],
        cwd=ROOT,
        env=dict(env),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
    )


@dataclass
class System:
    """Every process by name; leaving the block ends them all, with everything that they started in their sessions."""

    folder: Path
    valkey: Server
    postgres: Server
    database_url: str
    clients: Sequence[str]
    mutant: str | None = None
    starter: Starter = start_cold
    more: Mapping[str, Mapping[str, str]] = field(default_factory=dict[str, Mapping[str, str]])
    """Further variables by the name of the process."""
    processes: dict[str, Process] = field(default_factory=dict[str, Process])
    port: int = field(default_factory=lambda: free_port(None))
    faketime: Path | None = None
    """The library by which the clock of `beta` is wrong; None: by Python's own means."""
    cuts: dict[str, Proxy] = field(default_factory=dict[str, Proxy])
    """The ways of `beta`: to `redis`, `postgres` and `api`."""
    pull_cut: Proxy = field(init=False)
    """The only way of `gamma`: to the API."""
    _sessions: dict[int, str] = field(default_factory=dict[int, str])
    _stack: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> "System":
        targets = {"redis": self.valkey.port, "postgres": self.postgres.port, "api": self.port}
        for name, target in targets.items():
            self.cuts[name] = self._stack.enter_context(Proxy(target))
        self.pull_cut = self._stack.enter_context(Proxy(self.port))
        for node in {*FACTORY_OF.values(), HQ}:
            (self.folder / node).mkdir(exist_ok=True)
        self.set_clock("+0")
        return self

    def __exit__(self, *_: object) -> None:
        self.end_all()
        self._stack.close()

    @property
    def marks(self) -> Path:
        """Where missions leave their marks."""
        return self.folder / "marks"

    @property
    def clock(self) -> Path:
        """By how many seconds the clock of `beta` is wrong."""
        return self.folder / "clock"

    def set_clock(self, seconds: str) -> None:
        """The clock of `beta` is wrong by so much, as `+7200`, from now on."""
        fresh = self.clock.with_suffix(".new")
        fresh.write_text(f"{seconds}\n")
        fresh.replace(self.clock)

    def start(self, name: str) -> None:
        """The process was started; `ready` says when it works."""
        self._ready_file(name).unlink(missing_ok=True)
        arguments = self._arguments(name)
        if self.mutant is not None and not name.startswith("client"):
            arguments = ["-m", "ops.bench.chaos_mutants", self.mutant, *arguments]
        if FACTORY_OF.get(name) == "beta" and self.faketime is None:
            arguments = ["-m", "ops.bench.strange_clock", str(self.clock), *arguments]
        with (self.folder / f"{name}.log").open("ab") as output:
            process = self.starter(arguments, self._environment(name), output)
        self.processes[name] = process
        self._sessions[process.pid] = name

    def ready(self, name: str) -> bool:
        """Whether the process runs and does its work, as far as it says so itself; a client just runs."""
        runs = name in self.processes and self.processes[name].poll() is None
        return runs and (name in BEATS or name.startswith("client") or self._ready_file(name).exists())

    def kill(self, name: str, *, group: bool = True) -> None:
        """SIGKILL, to the process with all its children or to itself alone; it is forgotten."""
        process = self.processes.pop(name)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL) if group else os.kill(process.pid, signal.SIGKILL)
        process.wait(timeout=30)

    def signal_group(self, name: str, number: signal.Signals) -> None:
        """The process and its children get the signal, unless they are gone."""
        with suppress(ProcessLookupError):
            os.killpg(self.processes[name].pid, number)

    def ended_by_themselves(self) -> list[tuple[str, int]]:
        """Processes that nobody killed and that are gone, with their status; each is named once."""
        gone = [(name, status) for name, one in self.processes.items() if (status := one.poll()) is not None]
        for name, _ in gone:
            del self.processes[name]
        return gone

    def pids(self) -> dict[str, int]:
        """The first process of everybody who runs, by name; without the clients."""
        return {name: one.pid for name, one in self.processes.items() if not name.startswith("client")}

    def worker_of(self, pid: int) -> str | None:
        """The worker in whose pool the process `pid` runs missions; None when that worker is dead."""
        with suppress(ProcessLookupError):
            return next((name for name, one in self.processes.items() if one.pid == os.getsid(pid)), None)
        return None

    def sweep(self) -> None:
        """Sessions in which nobody lives any more are forgotten, so that their numbers may be used by others."""
        started = {process.pid for process in self.processes.values() if process.poll() is None}
        for pid in set(self._sessions) - started:
            try:
                os.killpg(pid, 0)
            except (ProcessLookupError, PermissionError):
                del self._sessions[pid]

    def end_all(self) -> None:
        """Everybody in every session that is still alive is killed; safe to call twice."""
        self.sweep()
        for pid in self._sessions:
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
        for process in self.processes.values():
            process.wait(timeout=30)
        self.processes.clear()
        self._sessions.clear()

    def log(self, name: str) -> str:
        """All that the process wrote, over its restarts."""
        path = self.folder / f"{name}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def _arguments(self, name: str) -> list[str]:
        ready = ["--ready-file", str(self._ready_file(name))]
        orders = str(self.folder / "clients.json")
        if name in WORKERS:
            return _celery(name, "-Q", "local_factory")
        others = {
            "api": ["-m", "hq_api"],
            **{engine: ["-m", "corporation.engine", *ready] for engine in ENGINES},
            BRIDGE: ["-m", "corporation.delegation.consumer", *ready],
            PULL: ["-m", "factory_tasks.pull"],
            **{one: _celery(name, "-Q", control_queue(FACTORY_OF.get(one, HQ)), "-P", "solo") for one in CONTROLS},
            **{one: ["-m", "celery", "-A", "factory_tasks", "beat", "-l", "INFO"] for one in BEATS},
            STREAM_CLIENT: ["-m", "ops.bench.chaos_streams", orders],
        }
        return others.get(name) or ["-m", "ops.bench.chaos_clients", orders, name.removeprefix("client-")]

    def _environment(self, name: str) -> dict[str, str]:
        inherited = {key: os.environ[key] for key in ("PATH", "HOME", "LANG") if key in os.environ}
        env = {**inherited, **SHARED, "UA_OPS_TOKEN": TOKEN, "UA_READY_FILE": str(self._ready_file(name))}
        env |= self._factory(FACTORY_OF[name]) if name in FACTORY_OF else self._hq()
        if self.faketime is not None and FACTORY_OF.get(name) == "beta":
            env |= strange_clock.variables(self.faketime, self.clock)
        return {**env, **self.more.get(name, {})}

    def _hq(self) -> dict[str, str]:
        return {
            "FACTORY_ROLE": "HEADQUARTERS",
            "UA_FACTORY_ID": HQ,
            "UA_DATABASE_URL": self.database_url,
            "UA_REDIS_URL": self.valkey.url,
            "UA_GATEWAY_PORT": str(self.port),
            "UA_HQ_BASE_URL": f"http://127.0.0.1:{self.port}",
            "UA_ARTIFACT_ROOT": str(self.folder / "artifacts"),
            "UA_VP_DB_PATH": str(self.folder / HQ / "spool.db"),
        }

    def _factory(self, factory: str) -> dict[str, str]:
        far = factory == "beta"
        servers = {
            "UA_REDIS_URL": _through(self.valkey.url, self.cuts["redis"].port if far else None),
            "UA_RESULT_BACKEND_URL": _through(self.database_url, self.cuts["postgres"].port if far else None),
        }
        api = self.cuts["api"].port if far else self.port
        if factory == FACTORY_OF[PULL]:
            servers, api = {"UA_DELEGATION_REDIS_ENABLED": "0"}, self.pull_cut.port
        return {
            **servers,
            "FACTORY_ROLE": "LOCAL_WORKER",
            "UA_FACTORY_ID": factory,
            "UA_FACTORY_SLOTS": str(SLOTS),
            "UA_HQ_BASE_URL": f"http://127.0.0.1:{api}",
            "UA_HANDLER_MODULES": "ops.bench.chaos_kind",
            "UA_VP_DB_PATH": str(self.folder / factory / "spool.db"),
            "UA_TUTORIAL_BOOTSTRAP_LOCAL_ROOT": str(self.folder / factory / "repositories"),
        }

    def _ready_file(self, name: str) -> Path:
        return self.folder / f"{name}.ready"


def _celery(name: str, *options: str) -> list[str]:
    return ["-m", "celery", "-A", "factory_tasks", "worker", *options, "-n", f"{name}@%h", "-l", "INFO"]


def _through(url: str, port: int | None) -> str:
    """The same address by way of a proxy at `port`."""
    if port is None:
        return url
    parts: Any = urlsplit(url)
    return parts._replace(netloc=f"{parts.netloc.rpartition(':')[0]}:{port}").geturl()
