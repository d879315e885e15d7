"""One run of the chaos, from the first process to the verdict: what strikes when, what is waited for, and how long."""

import json
import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event, Thread
from typing import Any, Final

import redis

from ops.bench import strange_clock
from ops.bench.chaos_checks import judge
from ops.bench.chaos_clients import can_cancel, log_of, read_log, write_orders
from ops.bench.chaos_faults import Faults, small_disk
from ops.bench.chaos_history import History, Problem, Told, Verdict
from ops.bench.chaos_ledger import AWAY, Servers
from ops.bench.chaos_marks import CHILD, Tail, uptime_ms
from ops.bench.chaos_mutants import DOES_NOT_APPLY, MUTANTS
from ops.bench.chaos_plan import Fault, Plan
from ops.bench.chaos_story import write_stories
from ops.bench.chaos_system import BESIDES, FACTORIES, STREAM_CLIENT, TOKEN, WORKERS, Starter, System, start_cold
from ops.bench.chaos_traces import Held, grown, held, leaks_in_files, leaks_in_ledger, secrets_of

START_SECONDS: Final = 90.0
IMPATIENT_SECONDS: Final = 4.0
"""Without any mission ending for so long the next fault strikes all the same: the one before may have stopped all."""
QUIET_SECONDS: Final = 6.0
"""So long what is left in Redis may take to go once all missions have ended."""
AHEAD: Final = 80
"""So many missions are asked for beyond those after whose end the next fault is due: enough to keep everybody busy."""
LOOK_SECONDS: Final = 0.02
COUNT_SECONDS: Final = 0.15
LIMIT_SECONDS: Final = 1500.0
RESULTS: Final = "ua:missions:delegation:results"


class MutantDoesNotApply(Exception):
    """The product has changed, and the mistake finds nothing to change."""


class Stuck(Exception):
    """What was waited for did not come."""


@dataclass
class Reader:
    """Follows the results stream in a thread, over every restart, and writes down what it is told."""

    servers: Servers
    told: list[Told] = field(default_factory=list[Told])
    stop: Event = field(default_factory=Event)
    thread: Thread | None = None

    def start(self) -> None:
        """It reads from the beginning of the stream."""
        self.thread = Thread(target=self._run, name="reader", daemon=True)
        self.thread.start()

    def end(self) -> None:
        """It reads nothing any more; safe to call twice."""
        self.stop.set()
        if self.thread is not None:
            self.thread.join(timeout=10)

    def _run(self) -> None:
        place = "0"
        while not self.stop.is_set():
            try:
                with self.servers.redis() as client:
                    while not self.stop.is_set():
                        for _, entries in client.xread({RESULTS: place}, count=500, block=200) or []:
                            for entry, fields in entries:
                                place = entry.decode()
                                self.told.append(_told(json.loads(fields[b"envelope"])))
            except (redis.RedisError, OSError):
                self.stop.wait(0.02)


def _told(envelope: dict[str, Any]) -> Told:
    content = json.dumps([envelope["result"], envelope["error"]], sort_keys=True)
    return Told(uptime_ms(), str(envelope["job_id"]), f"{envelope['status']} {content}")


@dataclass
class Run:
    """The parts of a run in the folder `place`, where its logs stay; `say` hears how it goes."""

    plan: Plan
    system: System
    servers: Servers
    faults: Faults
    tail: Tail
    reader: Reader
    say: Callable[[str], None]
    began: float = field(default_factory=time.monotonic)
    ended: int = 0
    problems: list[Problem] = field(default_factory=list[Problem])
    drained_seconds: float | None = None
    pause: Event = field(default_factory=Event)
    strangers: set[str] = field(default_factory=set[str])
    before: Held = field(default_factory=Held)
    """What every process held when all were ready and no mission had been asked for."""
    after: Held = field(default_factory=Held)
    """The same when everything was at rest."""
    spared: list[str] = field(default_factory=list[str])
    """Faults that never found a victim."""
    most: float = 0.0
    """So many missions may be asked for until the next fault has struck."""
    _counted: float = 0.0
    _moved: float = 0.0
    _swept: float = 0.0

    def run(self) -> tuple[Verdict, dict[str, Any]]:
        """Everything is started, asked for, struck, waited for and judged."""
        self._start()
        history = History(wishes={wish.key: wish for wish in self.plan.wishes()})
        struck = time.monotonic()
        try:
            self._strike_all()
            struck = time.monotonic()
            self._drain(struck)
        except Stuck as stuck:
            self.problems.append(Problem("stuck", "", str(stuck)))
        fire_seconds = struck - self.began
        self._write_down(history)
        verdict = judge(history)
        problems = [*self.problems, *verdict.problems]
        (self.system.folder / "stories").write_text("\n".join(write_stories(history)) + "\n")
        return Verdict(problems, verdict.counts), self._report(verdict, fire_seconds)

    def _start(self) -> None:
        names = ["api", "engine", *WORKERS, *(BESIDES if self.plan.whole else ())]
        for name in names:
            self.system.start(name)
        if self.plan.mutant and (statement := MUTANTS[self.plan.mutant].ledger):
            self.servers.execute(statement)
        self._wait("all processes to be ready", lambda: all(self.system.ready(name) for name in names), START_SECONDS)
        factories = len(FACTORIES) + self.plan.whole
        self._wait("every factory to be registered", lambda: self.servers.registered(factories), START_SECONDS)
        self.before = held(self.system.pids(), self.servers)
        if self.plan.cancels and not can_cancel(self.system.port, TOKEN):
            self.say("the API has no route to cancel a mission: none is cancelled")
            self.plan = replace(self.plan, cancels=0.0)
        write_orders(self.system.folder, self.plan, self.system.port, TOKEN, self.servers.redis_url)
        self.reader.start()
        self._allow()
        for name in self.system.clients:
            self.system.start(name)
        self.most = AHEAD
        self.began = self._moved = time.monotonic()
        self.say(f"started; {self.plan.missions} missions, {len(self.plan.faults())} faults")

    def _strike_all(self) -> None:
        for fault in self.plan.faults():
            self.most = fault.share * self.plan.missions + AHEAD
            self._wait_for(fault)
            while not self.faults.strike(fault):
                self._look()
                if self.ended >= self.most - 1:
                    self.most += AHEAD
                if self._is_over() and not self._somebody_comes_back():
                    self.spared.append(f"{fault.kind} {fault.how}".strip())
                    break
            self.say(f"{time.monotonic() - self.began:6.1f} s  {self.ended:6d} ended  {fault.kind} {fault.how}")
            self._moved = time.monotonic()
        self.most = float(self.plan.missions)
        while self.faults.later.waits:
            self._look()

    def _somebody_comes_back(self) -> bool:
        """Whether a fault is still to be made good, or a process is starting: a victim may yet be there."""
        waits = bool(self.faults.later.waits)
        return waits or not all(self.system.ready(name) for name in self.system.processes)

    def _wait_for(self, fault: Fault) -> None:
        """Until its share of the missions has ended, or nothing ends any more."""
        not_before = time.monotonic() + fault.after_seconds
        while time.monotonic() < not_before:
            self._look()
        while self.ended < fault.share * self.plan.missions:
            self._look()
            if time.monotonic() - self._moved > IMPATIENT_SECONDS:
                return

    def _look(self) -> None:
        """A moment passes, in which whatever is due is done."""
        now = time.monotonic()
        if now - self.began > LIMIT_SECONDS:
            raise Stuck(f"the run took longer than {LIMIT_SECONDS:.0f} s")
        self.faults.make_good()
        if now - self._counted > COUNT_SECONDS:
            self._counted = now
            self._count(now)
            self._mourn()
        if now - self._swept > 1:
            self._swept = now
            self.system.sweep()
            with suppress(*AWAY):
                self.strangers.update(self.servers.strangers())
        self.pause.wait(LOOK_SECONDS)

    def _count(self, now: float) -> None:
        ended = self.servers.ended()
        if ended is not None and ended > self.ended:
            self.ended, self._moved = ended, now
        self._allow()

    def _allow(self) -> None:
        """The clients may ask for so many that the window is full, and not run ahead of what is to strike them."""
        path = self.system.folder / "allowance"
        fresh = path.with_suffix(".new")
        fresh.write_text(str(round(min(self.ended + self.plan.window, self.most))))
        fresh.replace(path)

    def _mourn(self) -> None:
        """Whoever ended without being killed is started again, and is a problem unless it was done."""
        for name, status in self.system.ended_by_themselves():
            if name.startswith("client") and status == 0:
                continue
            tail = self.system.log(name)[-600:]
            if self.plan.mutant and status == DOES_NOT_APPLY:
                raise MutantDoesNotApply(tail)
            self.problems.append(Problem("ended by itself", "", f"{name} with status {status}: {tail}"))
            self.system.start(name)

    def _drain(self, struck: float) -> None:
        """Until everything has come to rest, and how long that took; then a moment for what is left in Redis."""
        deadline = struck + self.plan.drain_seconds
        while not self._is_over():
            self._look()
            if time.monotonic() > deadline:
                raise Stuck(f"not everything had ended {self.plan.drain_seconds:.0f} s after the last fault")
        quiet = time.monotonic() + QUIET_SECONDS
        while time.monotonic() < quiet and not self._is_at_rest():
            self._look()
        self.drained_seconds = round(time.monotonic() - struck, 1)

    def _is_over(self) -> bool:
        """Whether every wish was accepted, and what was accepted has ended."""
        clients_left = any(name in self.system.processes for name in self.system.clients)
        return not clients_left and self.servers.unended() == 0

    def _is_at_rest(self) -> bool:
        try:
            return not any(self.servers.left().values()) and not self.servers.unacknowledged()
        except AWAY:
            return False

    def _write_down(self, history: History) -> None:
        self.faults.make_good(everything=True)
        history.clients_ended = not any(name in self.system.processes for name in self.system.clients)
        with suppress(*AWAY):
            history.left = self.servers.left()
            history.unacknowledged = self.servers.unacknowledged()
        self.servers.write_down(history)
        self._write_traces(history)
        # What was told before the ledger was read is on the stream, and the reader is at most a moment behind.
        self._wait("the reader", lambda: len({one.job_id for one in self.reader.told}) >= self._told_count(history), 3)
        self.tail.look()
        history.survivors = list(children_of_missions(self.system.folder))
        self.reader.end()
        history.marks, history.told = self.tail.marks, self.reader.told
        history.disturbances = self.faults.disturbances
        history.strangers = sorted(self.strangers)
        for number in range(self.plan.clients + 1):  # the last is the one of the stream
            for one in read_log(log_of(self.system.folder, number)):
                if one.what == "published":
                    history.accepted.append((one.asked, one.key, one.job_id))
                elif one.what == "imported":
                    history.imported.append((one.asked, one.key))
                else:
                    history.cancels.setdefault(one.key, set()).add(one.job_id)

    def _write_traces(self, history: History) -> None:
        """What every process holds now, where the secrets stand, and what of both breaks a promise."""
        secrets = secrets_of([self.servers.database_url, self.servers.redis_url])
        history.leaks = [*leaks_in_files(self.system.folder, secrets), *leaks_in_ledger(self.servers, secrets)]
        self.after = held(self.system.pids(), self.servers)
        history.grown = [*grown(self.before, self.after)]

    def _told_count(self, history: History) -> int:
        return sum(any(e.type == "result_published" for e in one.events) for one in history.missions.values())

    def _wait(self, what: str, condition: Callable[[], bool], limit_seconds: float) -> None:
        end = time.monotonic() + limit_seconds
        while not condition():
            self._mourn()
            if time.monotonic() > end:
                if what == "the reader":
                    return
                raise Stuck(f"waited {limit_seconds:.0f} s for {what}")
            self.pause.wait(LOOK_SECONDS)

    def _report(self, verdict: Verdict, fire_seconds: float) -> dict[str, Any]:
        kills = self.faults.kills
        extra = verdict.counts["lost_attempts"]
        return {
            "kills": kills,
            "held_before": vars(self.before),
            "held_after": vars(self.after),
            "faults": dict(sorted(self.faults.done.items())),
            "faults_without_a_victim": self.spared,
            "sessions_that_waited_for_a_lock": self.faults.below.waited,
            "extra_attempts_per_kill": round(extra / kills, 3) if kills else 0.0,
            "fire_seconds": round(fire_seconds, 1),
            "drained_seconds_after_the_last_fault": self.drained_seconds,
            "seconds": round(time.monotonic() - self.began, 1),
        }


def run_chaos(
    plan: Plan,
    place: Path,
    servers: "Callable[[Path], Any]",
    say: Callable[[str], None] = lambda _: None,
    starter: Starter = start_cold,
    durable: bool = True,
) -> tuple[Verdict, dict[str, Any]]:
    """One run in the folder `place`, which is made; nothing of it is alive afterwards. Call it from the main thread.

    `servers(place)` gives, as a context, a running Valkey and PostgreSQL with an empty ledger, in `place/valkey` and
    `place/postgres`, so that they can be killed and started again.
    """
    place.mkdir(parents=True, exist_ok=True)
    folder = place / "run"
    folder.mkdir()
    clients = [*(f"client-{number}" for number in range(plan.clients)), *([STREAM_CLIENT] if plan.streams else [])]
    with ExitStack() as stack:
        valkey, postgres = stack.enter_context(servers(place))
        disk = stack.enter_context(small_disk(folder / "beta"))
        # A process that is forked from a warm one has its libraries already.
        faketime = strange_clock.libfaketime() if starter is start_cold else None
        system = System(
            folder, valkey, postgres, postgres.url, clients, mutant=plan.mutant, starter=starter, faketime=faketime
        )
        say(f"clocks are set by {'libfaketime' if faketime else 'ops/bench/strange_clock.py'}")
        stack.callback(lambda: system.valkey.stop())
        stack.callback(lambda: system.postgres.stop())
        stack.enter_context(system)
        addresses = Servers(postgres.url, valkey.url)
        tail = Tail(system.marks)
        faults = Faults(
            system, addresses, tail, place, random.Random(f"victims-{plan.seed}"), durable=durable, disk=disk
        )
        run = Run(plan, system, addresses, faults, tail, Reader(addresses), say)
        stack.callback(run.reader.end)
        return run.run()


def children_of_missions(folder: Path) -> Iterator[str]:
    """Every living process that a mission of the run in `folder` started, by the variable that it inherited."""
    wanted = f"{CHILD}={folder} ".encode()
    for path in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            for variable in path.read_bytes().split(b"\0"):
                if variable.startswith(wanted):
                    yield f"{path.parent.name} {variable.decode(errors='replace')}"
