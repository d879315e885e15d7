"""A cluster whose processes start warm and can be made to die at an exact point, and the story of its missions."""

import json
import signal
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import httpx
import psycopg
import redis
from warm_starts import WarmStarts

from ops.bench.cluster import Cluster

RUN = f"import runpy; runpy.run_path({str(Path(__file__).parent)!r} + '/{{}}', run_name='__main__')"
QUICK = {
    "UA_MISSION_RETRY_BASE_SECONDS": "0.1",
    "UA_HEARTBEAT_INTERVAL_SECONDS": "10",
    "UA_ATTEMPT_LEASE_SECONDS": "20",
}
"""Retries come at once, and leases are as short as the rules allow."""

RESULTS = "ua:missions:delegation:results"
FINALS = """
    SELECT count(*) FROM corporation.mission_events
     WHERE mission_id = %s AND type IN ('succeeded', 'failed', 'timed_out', 'cancelled')
"""
LEFT = {
    "missions not final": "SELECT count(*) FROM corporation.missions WHERE finished_at IS NULL",
    "attempts not ended": "SELECT count(*) FROM corporation.attempts WHERE finished_at IS NULL",
    "messages not sent": "SELECT count(*) FROM corporation.outbox",
    "ends not told": "SELECT count(*) FROM corporation.stream_outbox",
    "reports not collected": "SELECT count(*) FROM mailbox.celery_taskmeta"
    " WHERE collected_at IS NULL AND status IN ('SUCCESS', 'FAILURE', 'REVOKED')",
}


@dataclass(frozen=True)
class Story:
    """What became of one mission, counted at every place that could have counted twice or not at all."""

    state: str
    attempts: tuple[str, ...]
    """How each attempt ended, by its number."""
    effects: tuple[int, ...]
    """The numbers of the attempts whose work was done, in the order of doing."""
    finals: int = 1
    told: int = 1
    """Entries about it on the results stream."""


@dataclass
class FaultyCluster(Cluster):
    """API, engine and workers that start without their second of imports, and crash where a test says."""

    warm: WarmStarts | None = None
    crashes: dict[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    clock: Path | None = None
    """The file by whose number of seconds the clock of every worker is wrong, if it is."""

    def __exit__(self, *exit: Any) -> None:
        try:
            super().__exit__(*exit)
        finally:
            if "db" in self.__dict__:
                self.db.close()

    def start(self) -> None:
        """API, engine and one worker with two slots; HQ has heard of it."""
        self.start_api()
        self.start_engine()
        self.start_worker()
        self.wait(lambda: self.value("SELECT 1 FROM corporation.factories WHERE slots = 2"))

    def arm(self, name: str, point: str, *, alone: bool = False, nth: int = 1) -> None:
        """The next process that is started under this name is killed at `point`, with its whole group unless `alone`.

        `point` is `before MODULE:NAME` or `after MODULE:NAME`; `nth` is the how manieth time it comes there.
        """
        self._flag(name).unlink(missing_ok=True)
        self.crashes[name] = (str(self._flag(name)), "process" if alone else "group", str(nth), *point.split())

    def crashed(self, name: str) -> None:
        """The process of this name has come to its point, and is dead with all of its group when this returns."""
        process = self.processes[name]
        self.wait(lambda: process.poll() is not None)
        assert process.wait() == -signal.SIGKILL, self.log(name)[-3000:]
        self.kill(name)
        assert self._flag(name).exists()

    def crashed_alone(self, name: str) -> None:
        """A child of the process of this name has come to its point and is dead; the others live on."""
        self.wait(self._flag(name).exists)
        assert self.processes[name].poll() is None, self.log(name)[-3000:]

    def _flag(self, name: str) -> Path:
        return self.folder / f"{name}.crashed"

    def _spawn(self, name: str, arguments: Sequence[str], env: Mapping[str, str], output: BinaryIO) -> Any:
        given = list(arguments)
        if point := self.crashes.pop(name, None):
            given = ["-c", RUN.format("crash_here.py"), *point, *given]
        elif self.clock and "celery" in given:
            given = ["-m", "ops.bench.strange_clock", str(self.clock), *given]
        if self.warm:
            return self.warm.popen(given, env, output, output, start_new_session=True)
        return super()._spawn(name, given, env, output)

    @cached_property
    def db(self) -> psycopg.Connection[Any]:
        """A connection to the ledger, each statement a transaction of its own."""
        return psycopg.connect(self.database_url, autocommit=True)

    def value(self, statement: str, *values: Any) -> Any:
        """The first column of the first row, or None."""
        row = self.db.execute(statement.encode(), values).fetchone()
        return row[0] if row else None

    @property
    def marks(self) -> Path:
        """Where missions leave their effects."""
        return self.folder / "marks"

    def order(self, job_id: str, max_retries: int = 3, timeout_seconds: int = 60, **context: Any) -> dict[str, Any]:
        """The body of a mission that leaves its mark."""
        given = {"mission_kind": "noop", "mark": str(self.marks), **context}
        payload = {"task": "t", "context": given}
        return {
            "job_id": job_id,
            "idempotency_key": f"k-{job_id}",
            "payload": payload,
            "max_retries": max_retries,
            "timeout_seconds": timeout_seconds,
        }

    def ask(self, *orders: Mapping[str, Any]) -> httpx.Response:
        """HQ's answer to these orders, as one call."""
        body = orders[0] if len(orders) == 1 else {"missions": list(orders)}
        with self.client as client:
            return client.post("/api/v1/delegation/publish", json=body)

    def publish(self, *orders: Mapping[str, Any]) -> None:
        """These orders are accepted when this returns."""
        answer = self.ask(*orders)
        assert answer.status_code == 202, answer.text[:500]

    def cancel(self, job_id: str) -> httpx.Response:
        """HQ's answer to somebody who wants this mission stopped."""
        with self.client as client:
            return client.post(f"/api/v1/missions/{job_id}/cancel")

    def effects(self) -> list[tuple[str, int]]:
        """Mission and attempt of each piece of work that was done, in the order of doing."""
        lines = self.marks.read_text().splitlines() if self.marks.exists() else []
        return [(job_id, int(number)) for job_id, number in (line.rsplit(" ", 1) for line in lines)]

    def lease_over(self) -> None:
        """What a wait of one lease makes true, at once: the database's clock is the only one that counts."""
        self.db.execute(
            "UPDATE corporation.attempts SET lease_expires_at = now() - interval '1 second' WHERE finished_at IS NULL"
        )

    def silence(self, seconds: float) -> None:
        """What so many seconds without a word make true for every lease, at once."""
        self.db.execute(
            "UPDATE corporation.attempts SET lease_expires_at = lease_expires_at - %s * interval '1 second'"
            " WHERE finished_at IS NULL",
            [seconds],
        )

    def spool_owner(self, job_id: str, factory: str = "bench") -> int:
        """The pid of the process that works on this mission."""
        with closing(sqlite3.connect(self.spool_of(factory), timeout=15)) as spool:
            [(pid,)] = spool.execute("SELECT owner_pid FROM attempts WHERE job_id = ? AND state = 'running'", [job_id])
            return int(pid)

    def heard_of(self, factory: str) -> None:
        """HQ hears of a factory that has no slot and runs nothing, so that it knows itself to be reachable."""
        beat = {"factory_id": factory, "registration_status": "online", "capabilities": [], "slots": 0, "queues": []}
        with self.client as client:
            client.post("/api/v1/factory/registrations", json=beat).raise_for_status()

    def messages(self, factory: str = "bench") -> int:
        """How many lie in this factory's queue."""
        with redis.Redis.from_url(self.redis_url) as broker:
            return int(broker.llen(f"factory.{factory}"))  # pyright: ignore[reportArgumentType]

    def left(self, factory: str = "bench") -> dict[str, int]:
        """All that is not finished anywhere; empty once there is nothing to do and nothing is stuck."""
        found = {
            **{what: int(self.value(count)) for what, count in LEFT.items()},
            "messages in the queue": self.messages(factory),
            "messages not acknowledged": len(self.unacknowledged(factory) - self._over()),
            "spool rows not reported": self._spooled(factory),
        }
        return {what: number for what, number in found.items() if number}

    def waiting_reports(self, factory: str = "bench") -> int:
        """How many reports lie on this factory's disk that HQ does not have."""
        return self._spooled(factory, "state = 'finished'")

    def unacknowledged(self, factory: str = "bench") -> set[str]:
        """The attempts whose messages this factory took and has not acknowledged."""
        with redis.Redis.from_url(self.redis_url) as broker:
            taken: Any = broker.hvals(f"unacked:{factory}")
            return {json.loads(entry)[0]["headers"]["id"] for entry in taken}

    def story(self, job_id: str) -> Story:
        """The whole story of one mission."""
        mission = self.value("SELECT id FROM corporation.missions WHERE job_id = %s", job_id)
        attempts = "SELECT state FROM corporation.attempts WHERE mission_id = %s ORDER BY number"
        return Story(
            state=self.value("SELECT state FROM corporation.missions WHERE id = %s", mission),
            attempts=tuple(row[0] for row in self.db.execute(attempts, [mission])),
            effects=tuple(number for job, number in self.effects() if job == job_id),
            finals=self.value(FINALS, mission),
            told=self.told().count(job_id),
        )

    def told(self) -> list[str]:
        """The missions that the results stream speaks of, one for each entry."""
        with redis.Redis.from_url(self.redis_url) as broker:
            entries: Any = broker.xrange(RESULTS)
            return [fields[b"job_id"].decode() for _, fields in entries]

    def _over(self) -> set[str]:
        """The attempts that have ended; what a killed worker held of them stays in Redis for 48 hours, harmlessly."""
        ended = self.db.execute("SELECT id::text FROM corporation.attempts WHERE finished_at IS NOT NULL")
        return {row[0] for row in ended}

    def _spooled(self, factory: str, states: str = "state <> 'reported'") -> int:
        if not self.spool_of(factory).exists():
            return 0
        with closing(sqlite3.connect(self.spool_of(factory), timeout=15)) as spool:
            [(rows,)] = spool.execute(f"SELECT count(*) FROM attempts WHERE {states}")  # noqa: S608 - a text of ours
            return int(rows)
