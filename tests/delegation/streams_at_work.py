"""The streams, the ledger behind them, and HQ's two loops by hand or as a process."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import redis
from sqlalchemy import Engine, text

from corporation.db import transaction
from corporation.delegation.importer import Importer
from corporation.delegation.keys import StreamKeys
from corporation.delegation.mission_stream import MissionStream
from corporation.delegation.publisher import Publisher
from corporation.delegation.redis_errors import open_stream_client
from corporation.missions.routing import Assigned
from corporation.missions.store.dispatching import Assignment, Due, assign

ROOT = Path(__file__).resolve().parent.parent.parent
KEYS = StreamKeys("ua:missions:delegation", "ua:missions:dlq", "ua_workers", "worker_hq-test")


def envelope(job_id: str = "j-1", **changes: Any) -> dict[str, Any]:
    """A valid mission envelope as a producer writes it."""
    order = {"job_id": job_id, "idempotency_key": f"k-{job_id}", "payload": {"task": "Tidy the notes", "context": {}}}
    return order | changes


def _plain(value: Any) -> Any:
    return value


class StreamsAtWork:
    """What a producer, a reader and HQ do with the streams, one call each."""

    def __init__(self, engine: Engine, redis_url: str, database_url: str, wait_until: Callable[..., Any]) -> None:
        self.engine, self.redis_url, self.database_url, self.wait_until = engine, redis_url, database_url, wait_until
        self.redis: Any = redis.Redis.from_url(redis_url)
        # What is told is on disk at once, so that no test waits for the second of `everysec`.
        self.redis.config_set("appendfsync", "always")
        self._clients: list[redis.Redis] = []
        self._processes: list[subprocess.Popen[str]] = []
        self.importer = self.build_importer()
        self.publisher = self.build_publisher()

    def build_importer(self, consumer: str = KEYS.consumer, **changes: Any) -> Importer:
        """An importer that never waits."""
        keys = StreamKeys(KEYS.missions, KEYS.dead_letters, KEYS.group, consumer)
        fields: dict[str, Any] = {"default_ttl_seconds": 0, "stream_length": 0, "poll_seconds": 0.0} | changes
        return Importer(self.engine, MissionStream(self._client(), keys), **fields)

    def build_publisher(self, **changes: Any) -> Publisher:
        """A publisher that hides nothing."""
        fields: dict[str, Any] = {"stream_length": 100, "mask": _plain} | changes
        return Publisher(self.engine, self._client(), KEYS, **fields)

    def add(self, document: Any = None, entry_id: str = "*", **fields: Any) -> str:
        """A producer adds an entry as the contract says; `fields` replace or add fields, None removes one."""
        document = envelope() if document is None else document
        said = document if isinstance(document, dict) else {}
        entry = {
            "job_id": str(said.get("job_id", "")),
            "idempotency_key": str(said.get("idempotency_key", "")),
            "envelope": document if isinstance(document, str | bytes) else json.dumps(document),
        } | fields
        return self.redis.xadd(
            KEYS.missions, {name: value for name, value in entry.items() if value is not None}, id=entry_id
        ).decode()

    def pending(self) -> int:
        """How many entries were delivered and not acknowledged."""
        return self.redis.xpending(KEYS.missions, KEYS.group)["pending"]

    def results(self) -> list[dict[str, Any]]:
        """The results stream's envelopes, the oldest first."""
        return [json.loads(fields[b"envelope"]) for _, fields in self.redis.xrange(KEYS.results)]

    def dead_letters(self) -> list[dict[str, Any]]:
        """The dead-letter stream's envelopes, the oldest first."""
        return [json.loads(fields[b"envelope"]) for _, fields in self.redis.xrange(KEYS.dead_letters)]

    def sql(self, statement: str, **values: Any) -> list[Any]:
        """The rows of one statement, committed."""
        with transaction(self.engine) as connection:
            result = connection.execute(text(statement), values)
            return list(result.all()) if result.returns_rows else []

    def missions(self) -> list[str]:
        """The job_ids in the ledger, in the order in which they run."""
        return [
            row.job_id for row in self.sql("SELECT job_id FROM corporation.missions ORDER BY created_at, place, id")
        ]

    def mission(self, job_id: str = "j-1") -> Any:
        """One mission's row."""
        [row] = self.sql("SELECT * FROM corporation.missions WHERE job_id = :job_id", job_id=job_id)
        return row

    def letters(self) -> list[Any]:
        """The ledger's dead letters, the oldest first."""
        return self.sql("SELECT * FROM corporation.dead_letters ORDER BY id")

    def events(self, job_id: str = "j-1") -> list[str]:
        """The types of a mission's events in order."""
        rows = self.sql(
            """SELECT e.type FROM corporation.mission_events e JOIN corporation.missions m ON m.id = e.mission_id
                WHERE m.job_id = :job_id ORDER BY e.seq""",
            job_id=job_id,
        )
        return [row.type for row in rows]

    def end(self, job_id: str = "j-1", state: str = "succeeded", **result: Any) -> None:
        """The mission ends, as a factory's report would end it."""
        mission = self.mission(job_id)
        attempt_id = f"00000000-0000-4000-8000-{mission.id:012d}"
        due = Due(mission.id, mission.mission_kind, mission.target_factory_id, mission.attempt)
        with transaction(self.engine) as connection:
            assign(connection, [Assignment(due, attempt_id, Assigned("desk-7", "factory.desk-7"))], 60)
        said = {"mission_id": job_id, "mission_kind": mission.mission_kind, "factory_id": "desk-7", "attempts": 1}
        said |= {"result_ref": f"workspace://desk-7/{job_id}"} if state == "succeeded" else {"terminal_status": state}
        self.sql(
            """WITH over AS (
                 UPDATE corporation.missions SET state = :state, finished_at = now(), result = CAST(:result AS json),
                        error = :error, event_seq = event_seq + 1
                  WHERE job_id = :job_id RETURNING id, attempt, event_seq
               ), closed AS (
                 UPDATE corporation.attempts SET state = :state, finished_at = now()
                  WHERE mission_id = (SELECT id FROM over)
               )
               INSERT INTO corporation.mission_events (mission_id, seq, type, attempt)
               SELECT id, event_seq, :state, attempt FROM over""",
            job_id=job_id,
            state=state,
            result=json.dumps(said | result),
            error=None if state == "succeeded" else "exit code 2: tests failed",
        )

    def consumer(self, *arguments: str, environ: Mapping[str, str] | None = None) -> "subprocess.Popen[str]":
        """`python -m corporation.delegation.consumer`, ended with the test at the latest."""
        hq = {
            "FACTORY_ROLE": "HEADQUARTERS",
            "UA_FACTORY_ID": "hq-test",
            "UA_DATABASE_URL": self.database_url,
            "UA_REDIS_URL": self.redis_url,
            "UA_DOTENV_PATH": os.devnull,
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "corporation.delegation.consumer", *arguments],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], **hq, **(environ or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._processes.append(process)
        return process

    def close(self) -> None:
        """End what the test started."""
        for process in self._processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
        self.redis.config_set("appendfsync", "everysec")
        for client in [*self._clients, self.redis]:
            client.close()

    def _client(self) -> redis.Redis:
        client = open_stream_client(self.redis_url, 2.0)
        self._clients.append(client)
        return client
