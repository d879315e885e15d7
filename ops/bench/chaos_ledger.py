"""What the servers know: how far the run is, whether everything is at rest, and in the end the whole history."""

import base64
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import psycopg
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from celeryconfig import HEARTBEAT_TASK
from corporation.roles import control_queue, private_queue
from ops.bench.chaos_history import Attempt, Event, History, MissionRow
from ops.bench.chaos_marks import uptime_ms
from ops.bench.chaos_system import FACTORIES

AWAY: Final = (psycopg.OperationalError, psycopg.InterfaceError, redis.RedisError, OSError)
"""What a server that was just killed looks like."""

MISSIONS: Final = """
    SELECT id, job_id, idempotency_key, state, attempt, attempts_total, event_seq, error, result, finished_at
      FROM corporation.missions ORDER BY id
"""
EVENTS: Final = (
    "SELECT mission_id, seq, type, attempt, factory_id, at, detail FROM corporation.mission_events ORDER BY 1, 2"
)
ATTEMPTS: Final = """
    SELECT a.mission_id, a.id, a.number, a.factory_id, a.state, a.created_at, a.finished_at, a.took_worker, a.sends,
           t.status, t.result
      FROM corporation.attempts a LEFT JOIN mailbox.celery_taskmeta t ON t.task_id = a.id::text ORDER BY 1, a.number
"""
SESSIONS: Final = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
MISSION_STREAM: Final = "ua:missions:delegation"
ECHO_TASK: Final = "corporation.echo"
EVERYBODY: Final = "everybody"
"""The addressee of a message that names none and needs none."""

UNENDED: Final = "SELECT count(*) FROM corporation.missions WHERE finished_at IS NULL"
ENDED: Final = "SELECT count(*) FROM corporation.missions WHERE finished_at IS NOT NULL"
LEFT: Final[Mapping[str, str]] = {
    "missions not ended": UNENDED,
    "messages in the outbox": "SELECT count(*) FROM corporation.outbox",
    "ends and letters not told": "SELECT count(*) FROM corporation.stream_outbox",
    "reports not collected": """
        SELECT count(*) FROM mailbox.celery_taskmeta
         WHERE collected_at IS NULL AND status IN ('SUCCESS', 'FAILURE', 'REVOKED')""",
    "attempts with a lease": """
        SELECT count(*) FROM corporation.attempts WHERE state IN ('queued', 'claimed', 'running')""",
}


@dataclass(frozen=True)
class Servers:
    """The addresses of both; every call opens what it needs and closes it, since they are killed all the time."""

    database_url: str
    redis_url: str

    def ended(self) -> int | None:
        """How many missions have ended; None while nobody can say."""
        return self._count(ENDED)

    def unended(self) -> int | None:
        """How many missions have not; None while nobody can say."""
        return self._count(UNENDED)

    def _count(self, statement: str) -> int | None:
        try:
            with self.ledger() as ledger:
                row = ledger.execute(statement.encode()).fetchone()
        except AWAY:
            return None
        return int(row[0]) if row else 0

    @contextmanager
    def ledger(self) -> Iterator["psycopg.Connection[Any]"]:
        """A connection of our own, which commits each statement, and waits for no lock for long."""
        # Whoever lets a lock go again is the one who asks here.
        bounded: Any = {"autocommit": True, "connect_timeout": 2, "options": "-c lock_timeout=2000"}
        with psycopg.connect(self.database_url, **bounded) as connection:
            yield connection

    @contextmanager
    def redis(self) -> Iterator[Any]:
        """A client that repeats nothing by itself."""
        once = Retry(NoBackoff(), 0)
        with redis.Redis.from_url(self.redis_url, socket_timeout=2, socket_connect_timeout=2, retry=once) as client:
            yield client

    def execute(self, statement: str) -> int:
        """The statement was run, and changed so many rows."""
        with self.ledger() as ledger:
            return ledger.execute(statement.encode()).rowcount

    def registered(self, factories: int) -> bool:
        """Whether so many factories have said how many missions they run at once."""
        query = "SELECT count(*) FROM corporation.factories WHERE slots > 0"
        return self._count(query) == factories

    def connections(self) -> dict[str, int]:
        """The sessions of each server, without the one that asks; raises one of AWAY."""
        with self.ledger() as ledger, self.redis() as broker:
            sessions: Any = ledger.execute(SESSIONS.encode()).fetchone()
            return {"PostgreSQL": sessions[0] - 1, "Redis": broker.info("clients")["connected_clients"] - 1}

    def left(self) -> dict[str, int]:
        """What should be empty in the end, and how much of it there is; raises one of AWAY."""
        with self.ledger() as ledger, self.redis() as broker:
            counts = {what: int(ledger.execute(query.encode()).fetchone()[0]) for what, query in LEFT.items()}  # pyright: ignore[reportOptionalSubscript]
            for factory in FACTORIES:
                counts[f"messages in the queue of {factory}"] = broker.llen(private_queue(factory))
                orders = broker.lrange(control_queue(factory), 0, -1)
                # A beat may come at any moment, and nothing is lost with it.
                waiting = sum(task_of(body) != HEARTBEAT_TASK for body in orders)
                counts[f"messages in the control queue of {factory}"] = waiting
            counts |= _left_on_stream(broker)
        return counts

    def unacknowledged(self) -> list[tuple[str, str]]:
        """Factory and attempt of every mission's message that was taken and not acknowledged; raises one of AWAY.

        An order with which a control worker died is put back by the next; a beat is said again anyway.
        """
        found: list[tuple[str, str]] = []
        with self.redis() as broker:
            for factory in FACTORIES:
                for entry in broker.hvals(f"unacked:{factory}"):
                    message = json.loads(entry)[0]
                    if str(message["headers"]["task"]).startswith("mission."):
                        found.append((factory, str(message["headers"]["id"])))
        return found

    def strangers(self) -> list[str]:
        """Messages in a factory's queue that are addressed to another one (I8)."""
        found: list[str] = []
        with self.redis() as broker:
            for factory in FACTORIES:
                for body in broker.lrange(private_queue(factory), 0, -1):
                    addressee = addressee_of(body)
                    if addressee not in (factory, EVERYBODY):
                        found.append(f"a message for {addressee} lay in the queue of {factory}")
        return found

    def write_down(self, history: History) -> None:
        """What the ledger holds stands in `history` afterwards."""
        # Both clocks are read at once: the ledger's rows are dated by the wall clock, which nobody here bends.
        start_ms = time.time() * 1000 - uptime_ms()
        with self.ledger() as ledger:
            ledger.execute("SET timezone = 'UTC'")
            rows = ledger.execute(MISSIONS).fetchall()
            events = _by_mission(ledger.execute(EVENTS), lambda row: _event(row, start_ms))
            attempts = _by_mission(ledger.execute(ATTEMPTS), lambda row: _attempt(row, start_ms))
        for key, job_id, idempotency_key, state, attempt, total, seq, error, result, finished in rows:
            history.missions[job_id] = MissionRow(
                job_id=job_id,
                key=idempotency_key,
                state=state,
                attempt=attempt,
                attempts_total=total,
                event_seq=seq,
                error=error,
                result=result if isinstance(result, dict) else {},
                finished_ms=_ms(finished, start_ms),
                events=events.get(key, []),
                attempts=attempts.get(key, []),
            )


def _by_mission(rows: Any, read: Any) -> dict[int, list[Any]]:
    grouped: dict[int, list[Any]] = {}
    for row in rows:
        grouped.setdefault(row[0], []).append(read(row[1:]))
    return grouped


def _event(row: Any, start_ms: float) -> Event:
    seq, kind, attempt, factory_id, at, detail = row
    return Event(seq, kind, attempt, factory_id, _ms(at, start_ms) or 0, detail)


def _attempt(row: Any, start_ms: float) -> Attempt:
    attempt_id, number, factory_id, state, created, finished, took_worker, sends, status, result = row
    said = _word(bytes(result or b"")) if status in ("SUCCESS", "FAILURE", "REVOKED") else ""
    created_ms = _ms(created, start_ms) or 0
    ended_ms = _ms(finished, start_ms)
    return Attempt(str(attempt_id), number, factory_id, state, created_ms, ended_ms, took_worker, sends, said)


def _word(report: bytes) -> str:
    try:
        fields = json.loads(report)
    except ValueError:
        return "unreadable"
    return str(fields.get("outcome") or fields.get("exc_type") or "unreadable")


def _ms(at: datetime | None, start_ms: float) -> int | None:
    return round(at.timestamp() * 1000 - start_ms) if at else None


def _left_on_stream(broker: Any) -> dict[str, int]:
    """What was added to the mission stream and is no mission yet, as far as its group knows."""
    pending = waiting = 0
    if broker.exists(MISSION_STREAM):
        for group in broker.xinfo_groups(MISSION_STREAM):
            pending, waiting = pending + group["pending"], waiting + (group.get("lag") or 0)
    return {"entries of the stream not acknowledged": pending, "entries of the stream not read": waiting}


def task_of(body: bytes) -> str:
    """The task of a message, or nothing when that cannot be read."""
    try:
        return str(json.loads(body)["headers"]["task"])
    except (ValueError, KeyError, TypeError):
        return ""


def addressee_of(body: bytes) -> str:
    """Whom a message in a mission queue is for: a factory, EVERYBODY, or `nobody` when that cannot be read.

    An echo asks whoever takes from the queue that it lies in whether he does; what is signed names its factory.
    """
    try:
        message = json.loads(body)
        headers = message["headers"]
        if str(headers["task"]).startswith("mission."):
            return str(json.loads(base64.b64decode(message["body"]))[1]["order"]["factory_id"])
        if headers["task"] == ECHO_TASK:
            return str((headers.get("corp_env") or {}).get("factory", EVERYBODY))
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        pass
    return "nobody"
