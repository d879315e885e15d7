"""The streams under fire: producers add, the consumer and Valkey are killed, and every mission still ends once.

`ops/bench/streams_chaos [--missions 10000] [--producers 4] [--kills 20] [--restarts 5] [--seed 1] [--mutant NAME]
[--json]`; `--mutants` runs a small chaos with each mistake built into the consumer and fails if one goes unnoticed.

The kills fall where progress is: right after a read, a commit, an acknowledgement, a telling or a marking, in an order
that the seed decides. At the end the history of all clients is held against the ledger (`streams_chaos_history.py`).
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any, Final

import psycopg
import redis

from corporation.db import migrate
from corporation.embedded.postgres import start_postgres
from corporation.embedded.postgres_place import home_of
from corporation.embedded.server_process import Server
from corporation.embedded.valkey import start_valkey
from ops.bench.streams_chaos_clients import GROUP, KEPT, LETTERS, MISSIONS, RESULTS, Clients, connect
from ops.bench.streams_chaos_consumer import MUTANTS
from ops.bench.streams_chaos_history import Crash, EntryId, History, Recorded, Verdict, counted, entry_id, judge

ROOT: Final = Path(__file__).resolve().parent.parent.parent
LIMIT_SECONDS: Final = 180.0
QUIET_SECONDS: Final = 15.0
"""After so long without any progress nothing more will happen: a loop's longest backoff is 5 s."""
NOTICE_SECONDS: Final = 3.0
LOOK_SECONDS: Final = 0.001
STREAMS: Final = {"missions": MISSIONS, "results": RESULTS, "letters": LETTERS}
SMALL: Final = {"missions": 1000, "producers": 4, "kills": 8, "restarts": 2}

RECORDED = """
    SELECT m.job_id, m.state, m.event_seq, count(*) AS events, max(e.seq) AS last,
           count(*) FILTER (WHERE e.type = 'imported') AS imported,
           max(e.detail ->> 'entry_id') FILTER (WHERE e.type = 'result_published') AS result_entry,
           max(e.detail ->> 'entry_id') FILTER (WHERE e.type = 'dead_lettered') AS letter_entry,
           array_agg(e.detail ->> 'entry_id') FILTER (WHERE e.type = 'duplicate') AS duplicates
      FROM corporation.missions m JOIN corporation.mission_events e ON e.mission_id = m.id GROUP BY m.id
"""


class Stalled(Exception):
    """Nothing goes on any more, or the time is over."""


@dataclass(frozen=True)
class Plan:
    """How much is sent, and how often what is killed."""

    missions: int
    producers: int
    kills: int
    restarts: int
    seed: int
    mutant: str | None = None

    @property
    def window(self) -> int:
        """Missions on the way at once: more than the stream keeps, so that trimming has to wait."""
        return max(KEPT * 7 // 2, self.missions // 4)

    def actions(self, steps: list[str]) -> list[tuple[str, str, float]]:
        """What is killed, at which step, and at which part of the whole way, in order.

        The first falls into the import of the backlog; then each step has its turn.
        """
        chance = random.Random(self.seed)
        victims = ["consumer"] * self.kills + ["valkey"] * self.restarts
        chance.shuffle(victims)
        turns: list[str] = []
        while len(turns) < len(victims):
            turns += chance.sample(steps, len(steps))
        if self.kills:
            victims.remove("consumer")
            victims, turns = ["consumer", *victims], ["read", *turns]
        places = sorted(chance.uniform(0.02, 0.92) for _ in victims)
        return list(zip(victims, turns, places, strict=False))


@dataclass
class Chaos:
    """One run on a Valkey of its own, whose folder is `place/valkey`, and a migrated, empty ledger."""

    plan: Plan
    place: Path
    database_url: str
    valkey: Server
    limit_seconds: float = LIMIT_SECONDS
    history: History = field(default_factory=History)
    _consumer: subprocess.Popen[bytes] | None = None
    _own_ends: list[int] = field(default_factory=list[int])
    _kills: Counter[str] = field(default_factory=Counter[str])
    _pause: Event = field(default_factory=Event)

    def run(self) -> tuple[Verdict, dict[str, Any]]:
        """All is sent, killed, waited for and judged; nothing of it runs afterwards."""
        plan, began = self.plan, time.monotonic()
        self._until = began + self.limit_seconds
        with ExitStack() as stack:
            stack.callback(self._end_consumer)
            self._ledger = stack.enter_context(psycopg.connect(self.database_url, autocommit=True))
            self._redis = connect(self.valkey.url)
            stack.callback(self._redis.close)
            self._clients = Clients(
                self.valkey.url, self.database_url, plan.producers, plan.missions, plan.window, plan.seed, self.history
            )
            stack.callback(self._clients.join)
            problems = self._strike_and_wait()
            seconds = time.monotonic() - began
            problems += self._stop_consumer()
            self._clients.join()
            self._look()
        verdict = judge(self.history)
        return Verdict(problems + verdict.problems, verdict.counts), self._report(seconds)

    def _strike_and_wait(self) -> list[str]:
        try:
            self._clients.start()
            self._wait("the backlog", lambda: self._clients.added >= min(self.plan.window, self.plan.missions))
            self._start_consumer()
            for victim, step, part in self.plan.actions(list(self._steps())):
                self._strike(victim, step, part)
            self._wait("the last result", self._all_is_told)
        except Stalled as stalled:
            return [str(stalled)]
        return []

    def _strike(self, victim: str, step: str, part: float) -> None:
        """Wait until `step` has done `part` of all it has to do, and one more, and kill in this moment."""
        count, total = self._steps()[step]
        before = max(count(), int(part * total))
        self._wait(f"{step} after {before}", lambda: count() > before or count() >= total)
        self._kills[f"{victim} at {step}"] += 1
        if victim == "consumer":
            self._kill_consumer()
            self._start_consumer()
        else:
            self._restart_valkey()

    def _steps(self) -> dict[str, tuple[Callable[[], int], int]]:
        """The steps of the way: how far each is, and how far it has to go."""
        jobs = self.plan.missions
        return {
            "read": (lambda: self._group()[0], jobs),
            "imported": (lambda: self._count("SELECT count(*) FROM corporation.missions"), jobs),
            "acknowledged": (lambda: self._group()[0] - self._group()[1], jobs),
            "told": (lambda: self._added(RESULTS), jobs),
            "marked": (lambda: self._count("SELECT count(result_published_at) FROM corporation.missions"), jobs),
            "buried": (lambda: self._added(LETTERS), jobs // 10),
        }

    def _restart_valkey(self) -> None:
        """Valkey is killed and comes back; every second time only after the consumer has noticed."""
        log = self._log.stat().st_size
        os.killpg(self.valkey.pid, signal.SIGKILL)
        self.valkey.process.wait()
        at_ms = time.time_ns() // 1_000_000
        if self._kills.total() % 2:
            with suppress(Stalled):
                self._wait("a line of the consumer", lambda: self._log.stat().st_size > log, NOTICE_SECONDS)
        self.valkey = start_valkey(self.place / "valkey", port=self.valkey.port)
        survived = {name: self._last_before(stream, at_ms) for name, stream in STREAMS.items()}
        self.history.crashes.append(Crash("valkey", at_ms, survived))

    def _last_before(self, stream: str, at_ms: int) -> EntryId:
        entries = self._redis.xrevrange(stream, str(at_ms), "-", count=1)
        return entry_id(entries[0][0].decode()) if entries else (0, 0)

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
            self._consumer = subprocess.Popen(
                [sys.executable, "-m", *module],
                cwd=ROOT,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _kill_consumer(self) -> None:
        self._end_consumer()
        self.history.crashes.append(Crash("consumer", time.time_ns() // 1_000_000))

    def _end_consumer(self) -> None:
        if self._consumer is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._consumer.pid, signal.SIGKILL)
            self._consumer.wait()
            self._consumer = None

    def _stop_consumer(self) -> list[str]:
        """It ends by itself when it is asked to; what is wrong, if it does not."""
        if self._consumer is None:
            return []
        self._consumer.send_signal(signal.SIGTERM)
        try:
            status = self._consumer.wait(timeout=10)
        except subprocess.TimeoutExpired:
            return ["the consumer did not end within 10 s of SIGTERM"]
        return [f"the consumer ended with status {status} after SIGTERM"] if status else []

    def _wait(self, what: str, condition: Callable[[], bool], limit_seconds: float | None = None) -> None:
        """Return once it holds; Stalled when nothing goes on any more, or the time is over."""
        marks, since = self._clients.marks, time.monotonic()
        until = self._until if limit_seconds is None else since + limit_seconds
        while not self._holds(condition):
            now = time.monotonic()
            if self._clients.marks != marks:
                marks, since = self._clients.marks, now
            if self._consumer is not None and (status := self._consumer.poll()) is not None:
                raise Stalled(f"the consumer ended by itself with status {status}: {self._log.read_text()[-1000:]}")
            if self._clients.failure is not None:
                raise Stalled(f"a client failed: {self._clients.failure!r}")
            if now > until or now - since > QUIET_SECONDS:
                quiet = f"nothing for {now - since:.0f} s" if now <= until else "the time is over"
                raise Stalled(f"waited for {what}: {quiet}")
            self._pause.wait(LOOK_SECONDS)

    def _holds(self, condition: Callable[[], bool]) -> bool:
        """Whether it does; of a Redis that was just restarted the connection is gone, and it does not yet."""
        try:
            return condition()
        except (redis.RedisError, OSError):
            return False

    def _all_is_told(self) -> bool:
        clients, jobs = self._clients, self.plan.missions
        if clients.added < jobs or clients.ended < jobs or clients.seen < jobs:
            return False
        read, pending = self._group()
        return pending == 0 and self._untold() == 0 and read >= self._added(MISSIONS)

    def _group(self) -> tuple[int, int]:
        """How many entries the group was given, and how many of them it has not acknowledged."""
        groups = self._redis.xinfo_groups(MISSIONS) if self._redis.exists(MISSIONS) else []
        found = next((one for one in groups if one["name"] == GROUP.encode()), None)
        return (int(found["entries-read"] or 0), int(found["pending"])) if found else (0, 0)

    def _added(self, stream: str) -> int:
        return int(self._redis.xinfo_stream(stream)["entries-added"]) if self._redis.exists(stream) else 0

    def _untold(self) -> int:
        return self._count("SELECT count(*) FROM corporation.stream_outbox")

    def _count(self, statement: str) -> int:
        row = self._ledger.execute(statement.encode()).fetchone()
        return int(row[0]) if row else 0

    def _look(self) -> None:
        """What the ledger and the group say at the end, into the history."""
        rows = self._ledger.execute(RECORDED)
        for job, state, seq, events, last, imported, result, letter, duplicates in rows:
            self.history.missions[job] = Recorded(
                state,
                gap=not seq == events == last,
                imported=imported,
                result_entry=entry_id(result) if result else None,
                letter_entry=entry_id(letter) if letter else None,
                duplicates=tuple(duplicates or ()),
            )
        read, self.history.pending = self._group()
        self.history.unread = max(0, self._added(MISSIONS) - read)
        self.history.untold = self._untold()
        self.history.malformed = self._count(
            "SELECT count(*) FROM corporation.dead_letters WHERE cause IN ('malformed', 'conflict')"
        )

    def _report(self, seconds: float) -> dict[str, Any]:
        rate = len(self.history.missions) / seconds
        return {
            "seconds": round(seconds, 1),
            "missions_per_second": round(rate),
            "killed": dict(sorted(self._kills.items())),
            "failed_ticks": counted(self._failures()),
        }

    def _failures(self) -> Iterator[str]:
        """What the consumer's loops complained of, over all its lives."""
        for line in self._log.read_text(errors="replace").splitlines():
            with suppress(ValueError):
                said = json.loads(line)
                if said.get("level") != "info":
                    yield " ".join(str(said[key]) for key in ("event", "loop", "kind") if key in said)

    @property
    def _log(self) -> Path:
        return self.place / "consumer.log"


def main() -> int:
    """Run one chaos, or one with each mutant; 1 when a promise was broken, or a mutant went unnoticed."""
    options = _options()
    with _servers() as (place, database_url):
        if options.mutants:
            return _mutants(options, place, database_url)
        plan = Plan(options.missions, options.producers, options.kills, options.restarts, options.seed, options.mutant)
        verdict, report = run(plan, place / "one", database_url)
    _print(options, plan, verdict, report)
    return 1 if verdict.problems else 0


def run(plan: Plan, place: Path, database_url: str) -> tuple[Verdict, dict[str, Any]]:
    """One chaos in a folder that is made for it, on an empty ledger; its Valkey is gone afterwards."""
    place.mkdir()
    chaos = Chaos(plan, place, database_url, start_valkey(place / "valkey"))
    try:
        return chaos.run()
    finally:
        chaos.valkey.stop()


def _mutants(options: argparse.Namespace, place: Path, database_url: str) -> int:
    unnoticed: list[str] = []
    for name in [None, *MUTANTS]:
        _empty(database_url)
        plan = Plan(**SMALL, seed=options.seed, mutant=name)
        verdict, report = run(plan, place / (name or "none"), database_url)
        _print(options, plan, verdict, report)
        if bool(verdict.problems) != bool(name):
            unnoticed.append(name or "none")
    return 1 if unnoticed else 0


@contextmanager
def _servers() -> Iterator[tuple[Path, str]]:
    """A folder and a durable, migrated ledger; both are gone afterwards, also after SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        place = Path(folder) / "postgres"
        postgres = start_postgres(place)
        stack.callback(lambda: shutil.rmtree(home_of(place), ignore_errors=True))
        stack.callback(postgres.stop)
        migrate(postgres.url)
        yield Path(folder), postgres.url


def _empty(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as ledger:
        ledger.execute("DROP SCHEMA corporation, mailbox CASCADE; DROP TABLE IF EXISTS alembic_version")
    migrate(database_url)


def _print(options: argparse.Namespace, plan: Plan, verdict: Verdict, report: dict[str, Any]) -> None:
    said = {"seed": plan.seed, "mutant": plan.mutant, **verdict.counts, **report, "problems": verdict.problems}
    if options.json:
        print(json.dumps(said), flush=True)
        return
    for key, value in said.items():
        print(f"{key:30} {value}")
    print("broken" if verdict.problems else "all promises kept", flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="ops/bench/streams_chaos", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--missions", type=int, default=10_000)
    parser.add_argument("--producers", type=int, default=4)
    parser.add_argument("--kills", type=int, default=20, help="of the consumer, with SIGKILL")
    parser.add_argument("--restarts", type=int, default=5, help="of Valkey, after SIGKILL")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--mutant", choices=MUTANTS, help="build this mistake into the consumer")
    parser.add_argument("--mutants", action="store_true", help="a small chaos with each mistake, which must be noticed")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
