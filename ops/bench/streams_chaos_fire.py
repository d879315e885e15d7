"""One run of the streams under fire: what is killed and when, what is waited for, and how long at most."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any, Final

import redis

from corporation.embedded.server_process import Server, tied_to_us
from corporation.embedded.valkey import start_valkey
from ops.bench.streams_chaos_clients import KEPT, LETTERS, MISSIONS, RESULTS, Clients
from ops.bench.streams_chaos_history import Crash, History, Verdict, counted, judge
from ops.bench.streams_chaos_probe import Probe, Step

ROOT: Final = Path(__file__).resolve().parent.parent.parent
LIMIT_SECONDS: Final = 180.0
QUIET_SECONDS: Final = 15.0
"""After so long without any progress nothing more will happen: a loop's longest backoff is 5 s."""
STILL_SECONDS: Final = 3.0
"""The same when nobody has anything to do any more, and yet something is missing."""
NOTICE_SECONDS: Final = 3.0
LOOK_SECONDS: Final = 0.0005
SWITCH_SECONDS: Final = 0.0005
STREAMS: Final = {"missions": MISSIONS, "results": RESULTS, "letters": LETTERS}


class Stalled(Exception):
    """Nothing goes on any more, or the time is over."""


@dataclass(frozen=True)
class Plan:
    """How much is sent, how often what is killed (`kills` >= 2), and the mistake built into the consumer, if any."""

    missions: int
    producers: int
    kills: int
    restarts: int
    seed: int
    mutant: str | None = None
    limit_seconds: float = LIMIT_SECONDS

    @property
    def window(self) -> int:
        """Missions on the way at once: more than the stream keeps, so that trimming has to wait."""
        return min(self.missions, max(KEPT * 7 // 2, self.missions // 4))

    def actions(self, steps: list[str]) -> list[tuple[str, str, float]]:
        """What is killed, at which step, and at which part of the whole way, in order.

        The first two kills fall into the import of the backlog, where much is under way; then each step has its turn.
        """
        chance = random.Random(self.seed)
        others = ["consumer"] * (self.kills - 2) + ["valkey"] * self.restarts
        chance.shuffle(others)
        victims, turns = ["consumer", "consumer", *others], ["read", "acknowledged"]
        while len(turns) < len(victims):
            turns += chance.sample(steps, len(steps))
        places = [0.0, 0.0, *sorted(chance.uniform(0.02, 0.92) for _ in others)]
        return list(zip(victims, turns, places, strict=False))


def run(plan: Plan, place: Path, database_url: str) -> tuple[Verdict, dict[str, Any]]:
    """One run in a folder that is made for it, on an empty ledger; nothing of it is alive afterwards.

    Call it from the main thread. The second value tells how long it took and what happened on the way.
    """
    place.mkdir()
    with ExitStack() as stack:
        # Else the clients' threads keep the one that kills waiting for longer than the moment lasts that it aims at.
        stack.callback(sys.setswitchinterval, sys.getswitchinterval())
        sys.setswitchinterval(SWITCH_SECONDS)
        fire = _Fire(plan, place, database_url, start_valkey(place / "valkey"))
        stack.callback(lambda: fire.valkey.stop())
        stack.callback(fire.end_consumer)
        return fire.run(stack)


@dataclass
class _Fire:
    plan: Plan
    place: Path
    database_url: str
    valkey: Server
    history: History = field(default_factory=History)
    kills: Counter[str] = field(default_factory=Counter[str])
    consumer: "subprocess.Popen[bytes] | None" = None
    pause: Event = field(default_factory=Event)
    clients: Clients = field(init=False)
    probe: Probe = field(init=False)
    until: float = field(init=False)

    def run(self, stack: ExitStack) -> tuple[Verdict, dict[str, Any]]:
        """Everything is sent, struck, waited for and judged."""
        plan, began = self.plan, time.monotonic()
        self.until = began + plan.limit_seconds
        self.probe = stack.enter_context(Probe(self.valkey.url, self.database_url))
        self.clients = Clients(
            self.valkey.url, self.database_url, plan.producers, plan.missions, plan.window, plan.seed, self.history
        )
        stack.callback(self.clients.join)
        problems = self._strike_and_wait()
        seconds = time.monotonic() - began
        problems += self._stop_consumer()
        self.clients.join()
        self.probe.write_down(self.history)
        verdict = judge(self.history)
        return Verdict(problems + verdict.problems, verdict.counts), self._report(seconds)

    def _strike_and_wait(self) -> list[str]:
        steps = self.probe.steps(self.plan.missions)
        try:
            self.clients.start()
            self._wait("the backlog", lambda: self.clients.added >= self.plan.window)
            self._start_consumer()
            for victim, name, part in self.plan.actions(list(steps)):
                self._wait_for_a_step(name, steps[name], part)
                self.kills[f"{victim} at {name}"] += 1
                self._strike(victim)
            self._wait("the last result", self._all_is_told)
        except Stalled as stalled:
            return [str(stalled)]
        return []

    def _wait_for_a_step(self, name: str, step: Step, part: float) -> None:
        """Until the step has gone `part` of its way and then one more, so that the blow falls right behind it."""
        count, whole = step
        here = max(count(), int(part * whole))
        self._wait(f"{name} after {here}", lambda: count() > here or count() >= whole)

    def _strike(self, victim: str) -> None:
        if victim == "valkey":
            self._restart_valkey()
        else:
            self.end_consumer()
            self.history.crashes.append(Crash("consumer", _now_ms()))
            self._start_consumer()

    def _restart_valkey(self) -> None:
        """Valkey is killed and comes back; every second time only after the consumer has noticed."""
        said = self._log.stat().st_size
        os.killpg(self.valkey.pid, signal.SIGKILL)
        self.valkey.process.wait()
        at_ms = _now_ms()
        if self.kills.total() % 2:
            with suppress(Stalled):
                self._wait("a complaint of the consumer", lambda: self._log.stat().st_size > said, NOTICE_SECONDS)
        self.valkey = start_valkey(self.place / "valkey", port=self.valkey.port)
        self._wait("Valkey to read its file", self.probe.loaded)
        survived = {name: self.probe.last_before(stream, at_ms) for name, stream in STREAMS.items()}
        self.history.crashes.append(Crash("valkey", at_ms, survived))

    def _start_consumer(self) -> None:
        mutant = self.plan.mutant
        module = ["ops.bench.streams_chaos_consumer", mutant] if mutant else ["corporation.delegation.consumer"]
        env = {
            "PATH": os.environ["PATH"],
            "FACTORY_ROLE": "HEADQUARTERS",
            "UA_FACTORY_ID": "bench-hq",
            "UA_DATABASE_URL": self.database_url,
            "UA_REDIS_URL": self.valkey.url,
            "UA_DELEGATION_STREAM_MAXLEN": str(KEPT),
            "UA_DOTENV_PATH": os.devnull,
        }
        with self._log.open("ab") as log:
            # Tied to us: it ends with the bench even when that is killed.
            self.consumer = subprocess.Popen(
                [*tied_to_us(signal.SIGKILL), sys.executable, "-m", *module],
                cwd=ROOT,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def end_consumer(self) -> None:
        """SIGKILL to its group; safe to call twice."""
        if self.consumer is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.consumer.pid, signal.SIGKILL)
            self.consumer.wait()
            self.consumer = None

    def _stop_consumer(self) -> list[str]:
        """It ends by itself when it is asked to; what is wrong, if it does not."""
        if self.consumer is None:
            return []
        self.consumer.send_signal(signal.SIGTERM)
        try:
            status = self.consumer.wait(timeout=10)
        except subprocess.TimeoutExpired:
            return ["the consumer did not end within 10 s of SIGTERM"]
        return [f"the consumer ended with status {status} after SIGTERM"] if status else []

    def _wait(self, what: str, condition: Callable[[], bool], limit_seconds: float = LIMIT_SECONDS) -> None:
        """Return once it holds; Stalled when nothing goes on any more, or the time is over."""
        began = since = time.monotonic()
        marks = self.clients.marks
        while not self._holds(condition):
            now = time.monotonic()
            if self.clients.marks != marks:
                marks, since = self.clients.marks, now
            if why := self._why_not(now, since, min(self.until, began + limit_seconds)):
                raise Stalled(f"waited for {what}: {why}")
            self.pause.wait(LOOK_SECONDS)

    def _why_not(self, now: float, since: float, until: float) -> str:
        """Why waiting any longer is in vain, or nothing."""
        if self.consumer is not None and (status := self.consumer.poll()) is not None:
            return f"the consumer ended by itself with status {status}: {self._log.read_text()[-1000:]}"
        if self.clients.failure is not None:
            return f"a client failed: {self.clients.failure!r}"
        quiet = now - since
        if quiet > QUIET_SECONDS or (quiet > STILL_SECONDS and self._holds(self.probe.is_done)):
            return f"nothing happened for {quiet:.0f} s"
        return "the time is over" if now > until else ""

    def _holds(self, condition: Callable[[], bool]) -> bool:
        """Whether it does; while Redis is away it does not."""
        try:
            return condition()
        except (redis.RedisError, OSError):
            return False

    def _all_is_told(self) -> bool:
        jobs = self.plan.missions
        return min(self.clients.added, self.clients.ended, self.clients.seen) >= jobs and self.probe.is_done()

    def _report(self, seconds: float) -> dict[str, Any]:
        return {
            "seconds": round(seconds, 1),
            "missions_per_second": round(len(self.history.missions) / seconds),
            "killed": dict(sorted(self.kills.items())),
            "complaints": counted(self._complaints()),
        }

    def _complaints(self) -> Iterator[str]:
        """What the consumer warned of, over all its lives."""
        for line in self._log.read_text(errors="replace").splitlines():
            with suppress(ValueError):
                said = json.loads(line)
                if said.get("level") != "info":
                    yield " ".join(str(said[key]) for key in ("event", "loop", "kind", "error") if key in said)

    @property
    def _log(self) -> Path:
        return self.place / "consumer.log"


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
