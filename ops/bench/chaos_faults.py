"""What strikes: each fault of a plan finds a busy victim, does its harm, and knows how it is made good again."""

import contextlib
import os
import random
import resource
import signal
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ops.bench.chaos_history import Disturbance
from ops.bench.chaos_ledger import AWAY, Servers
from ops.bench.chaos_marks import Tail, uptime_ms
from ops.bench.chaos_plan import ALONE, KILLS, Fault
from ops.bench.chaos_proxy import Proxy, Way
from ops.bench.chaos_server_faults import Later, ServerFaults
from ops.bench.chaos_system import BEATS, BRIDGE, CONTROLS, ENGINES, FACTORIES, FACTORY_OF, PULL, System

SMALL_DISK: Final = "24m"
SMALL_FILE_BYTES: Final = 4096
"""Where no disk can be made, no file of the worker may grow beyond this."""


@dataclass
class Faults:
    """Strikes; `later` holds what has still to be made good, and `below` is what strikes the servers.

    Call it from the main thread, which is the one that may start servers.
    """

    system: System
    servers: Servers
    tail: Tail
    place: Path
    chance: random.Random
    done: dict[str, int] = field(default_factory=dict[str, int])
    disturbances: list[Disturbance] = field(default_factory=list[Disturbance])
    later: Later = field(default_factory=Later)
    stopped: set[str] = field(default_factory=set[str])
    kills: int = 0
    durable: bool = True
    """Whether PostgreSQL, started again, outlives a power failure too."""
    disk: Path | None = None
    """Where the spool of `beta` has a small disk of its own."""
    below: ServerFaults = field(init=False)

    def __post_init__(self) -> None:
        self.below = ServerFaults(self.system, self.servers, self.place, self.later, self.durable)

    def strike(self, fault: Fault) -> bool:
        """Do the fault; False when its victim is not there or idle right now, and then nothing was done."""
        strike: Callable[[Fault], frozenset[str] | None]
        strike = getattr(self.below, fault.kind, None) or getattr(self, f"_{fault.kind}")
        touches = None
        with contextlib.suppress(*AWAY):
            touches = strike(fault)
        if touches is None:
            return False
        name = f"{fault.kind} {fault.how}".strip()
        self.done[name] = self.done.get(name, 0) + 1
        self.kills += fault.kind in KILLS
        now = uptime_ms()
        until = now + round(fault.seconds * 1000)
        clocks = frozenset({"beta"} if fault.kind == "set_clock" else ())
        self.disturbances.append(Disturbance(fault.kind, now - 50, until, touches, fault.how, clocks))
        return True

    def make_good(self, *, everything: bool = False) -> None:
        """What is due is made good: processes start again, ways open, disks have room."""
        self.below.aof.look(uptime_ms())
        self.later.act(everything=everything)

    def _start_again(self, name: str, seconds: float) -> None:
        self.later.after(seconds, lambda: self.system.start(name))

    # Kills.

    def _kill_child(self, fault: Fault) -> frozenset[str] | None:
        pid = self._busy_child()
        if pid is None:
            return None
        mark = self.tail.busy.pop(pid)
        os.kill(pid, signal.SIGKILL)
        return frozenset({mark.factory_id})

    def _kill_worker(self, fault: Fault) -> frozenset[str] | None:
        return self._kill_busy_worker(fault, group=True)

    def _kill_parent(self, fault: Fault) -> frozenset[str] | None:
        return self._kill_busy_worker(fault, group=False)

    def _kill_busy_worker(self, fault: Fault, *, group: bool) -> frozenset[str] | None:
        name = self._worker(fault.how)
        if name is None:
            return None
        self.system.kill(name, group=group)
        self._start_again(name, fault.seconds)
        return frozenset({FACTORY_OF[name]})

    def _worker(self, named: str) -> str | None:
        """The worker of this name, busy or not; without a name one that is busy; None when there is none."""
        if named:
            return named if named in self.system.processes and named not in self.stopped else None
        pid = self._busy_child()
        return self.system.worker_of(pid) if pid is not None else None

    def _busy_child(self, worker: str = "") -> int | None:
        """A process in the midst of a mission, of a worker (or that one) that is up; the dead are forgotten."""
        self.tail.look()
        workers = {pid: self.system.worker_of(pid) for pid in self.tail.busy}
        for pid in [pid for pid, name in workers.items() if name is None]:
            self.tail.busy.pop(pid)
        up = [pid for pid, name in workers.items() if name and name not in self.stopped and worker in ("", name)]
        return self.chance.choice(sorted(up)) if up else None

    def _kill_engine(self, fault: Fault) -> frozenset[str] | None:
        return self._kill_one_of(ENGINES, fault)

    def _kill_api(self, fault: Fault) -> frozenset[str] | None:
        return self._kill_one_of(("api",), fault)

    def _kill_client(self, fault: Fault) -> frozenset[str] | None:
        return self._kill_one_of(self.system.clients, fault)

    def _kill_bridge(self, fault: Fault) -> frozenset[str] | None:
        return self._kill_one_of((BRIDGE,), fault)

    def _kill_pull(self, fault: Fault) -> frozenset[str] | None:
        return self._kill_one_of((PULL,), fault, group=fault.how != ALONE)

    def _kill_control(self, fault: Fault) -> frozenset[str] | None:
        return self._kill_one_of(_named(fault, CONTROLS), fault)

    def _kill_beat(self, fault: Fault) -> frozenset[str] | None:
        return self._kill_one_of(_named(fault, BEATS), fault)

    def _kill_one_of(self, names: Sequence[str], fault: Fault, *, group: bool = True) -> frozenset[str] | None:
        up = self._up(names)
        if not up:
            return None
        name = self.chance.choice(up)
        self.system.kill(name, group=group)
        self._start_again(name, fault.seconds)
        return frozenset({FACTORY_OF.get(name, "hq")})

    # Silence.

    def _stop_worker(self, fault: Fault) -> frozenset[str] | None:
        pid = self._busy_child(fault.how)
        name = self.system.worker_of(pid) if pid is not None else None
        if name is None:
            return None
        self._stop(name, fault.seconds)
        return frozenset({FACTORY_OF[name]})

    def _stop_engine(self, fault: Fault) -> frozenset[str] | None:
        return self._stop_one_of(ENGINES, fault)

    def _stop_api(self, fault: Fault) -> frozenset[str] | None:
        return self._stop_one_of(("api",), fault)

    def _stop_beside(self, fault: Fault) -> frozenset[str] | None:
        return self._stop_one_of((fault.how,), fault)

    def _stop_one_of(self, names: Sequence[str], fault: Fault) -> frozenset[str] | None:
        up = self._up(names)
        if not up:
            return None
        name = self.chance.choice(up)
        self._stop(name, fault.seconds)
        return frozenset({FACTORY_OF.get(name, "hq")})

    def _up(self, names: Sequence[str]) -> list[str]:
        """Those who work, and are not held."""
        return [name for name in names if name not in self.stopped and self.system.ready(name)]

    def _stop(self, name: str, seconds: float) -> None:
        def go_on() -> None:
            self.stopped.discard(name)
            if name in self.system.processes:
                self.system.signal_group(name, signal.SIGCONT)

        self.stopped.add(name)
        self.system.signal_group(name, signal.SIGSTOP)
        self.later.after(seconds, go_on)

    def _second_engine(self, fault: Fault) -> frozenset[str] | None:
        """The second engine starts, or ends as a supervisor would end it."""
        name = ENGINES[1]
        if name not in self.system.processes:
            self.system.start(name)
        elif name in self.stopped or not self.system.ready(name):
            return None
        else:
            self.system.signal_group(name, signal.SIGTERM)
            self.system.processes.pop(name).wait(timeout=30)
        return frozenset({"hq"})

    def _term_worker(self, fault: Fault) -> frozenset[str] | None:
        """A worker is ended as a supervisor does: it finishes what it runs, and gives back the rest."""
        name = self._worker(fault.how)
        if name is None or not self.system.ready(name):
            return None
        self._end_softly(name, fault.seconds)
        return frozenset({FACTORY_OF[name]})

    def _term_engine(self, fault: Fault) -> frozenset[str] | None:
        return self._term(ENGINES[0], fault)

    def _term_api(self, fault: Fault) -> frozenset[str] | None:
        return self._term("api", fault)

    def _term_beside(self, fault: Fault) -> frozenset[str] | None:
        return self._term(fault.how, fault)

    def _term(self, name: str, fault: Fault) -> frozenset[str] | None:
        if not self._up((name,)):
            return None
        self._end_softly(name, fault.seconds)
        return frozenset({FACTORY_OF.get(name, "hq")})

    def _end_softly(self, name: str, seconds: float) -> None:
        process = self.system.processes.pop(name)
        os.kill(process.pid, signal.SIGTERM)

        def start_when_gone() -> None:
            if process.poll() is None:
                self.later.after(0.2, start_when_gone)
            else:
                self.system.start(name)

        self.later.after(seconds, start_when_gone)

    # The factories that are far away.

    def _partition(self, fault: Fault) -> frozenset[str] | None:
        name = self.chance.choice(["redis", "postgres", "api", "all"])
        cuts = list(self.system.cuts.values()) if name == "all" else [self.system.cuts[name]]
        return frozenset({"beta"}) if self._cut(cuts, fault) else None

    def _cut_pull(self, fault: Fault) -> frozenset[str] | None:
        return frozenset({FACTORY_OF[PULL]}) if self._cut([self.system.pull_cut], fault) else None

    def _cut(self, cuts: Sequence[Proxy], fault: Fault) -> bool:
        way: Any = fault.how
        if any(cut.way != "open" for cut in cuts):
            return False
        _change(cuts, way)
        self.later.after(fault.seconds, lambda: _change(cuts, "open"))
        return True

    def _fill_log(self, fault: Fault) -> frozenset[str] | None:
        """The disk of the log of one of HQ's processes takes nothing more; it writes no other files."""
        if not self._up((fault.how,)):
            return None
        pids = [pid for pid in _all_pids() if self.system.worker_of(pid) == fault.how]
        _limit_files(pids, 1)
        self.later.after(fault.seconds, lambda: _limit_files(pids, resource.RLIM_INFINITY))
        return frozenset({"hq"})

    def _set_clock(self, fault: Fault) -> frozenset[str] | None:
        """It touches nobody: no clock of a factory decides anything (I11)."""
        self.system.set_clock(fault.how)
        return frozenset()

    def _fill_disk(self, fault: Fault) -> frozenset[str] | None:
        worker = FACTORIES["beta"][0]
        if worker in self.stopped or not self.system.ready(worker):
            return None
        if self.disk is not None:
            ballast = self.disk / "ballast"
            _fill(ballast)
            self.later.after(fault.seconds, lambda: ballast.unlink(missing_ok=True))
        else:
            pids = [pid for pid in _all_pids() if self.system.worker_of(pid) == worker]
            _limit_files(pids, SMALL_FILE_BYTES)
            self.later.after(fault.seconds, lambda: _limit_files(pids, resource.RLIM_INFINITY))
        return frozenset({"beta"})


def _change(cuts: Sequence[Proxy], way: Way) -> None:
    for cut in cuts:
        cut.change(way)


def _named(fault: Fault, names: Sequence[str]) -> Sequence[str]:
    return (fault.how,) if fault.how else names


def _fill(ballast: Path) -> None:
    """Nothing more fits on the disk of this file."""
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while file.write(b"\0" * 4096):
            pass


def _limit_files(pids: list[int], size: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def _all_pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208


@contextlib.contextmanager
def small_disk(folder: Path) -> Any:
    """`folder` is a disk of a few megabytes while the block lasts, and None is given where none can be made."""
    folder.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK},mode=700", "tmpfs", str(folder)]
    made = False
    if os.geteuid() == 0:
        with contextlib.suppress(OSError):
            made = subprocess.run(command, capture_output=True, check=False).returncode == 0
    try:
        yield folder if made else None
    finally:
        if made:
            subprocess.run(["umount", "-l", str(folder)], capture_output=True, check=False)
