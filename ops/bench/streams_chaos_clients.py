"""Who else is at the streams while they are under fire: producers, a reader, and a factory that ends missions by SQL.

Each is a thread with connections of its own that goes on through every crash, as programs outside would, and writes
down what it saw.
"""

import json
import random
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event, Lock, Thread
from typing import Any, Final

import psycopg
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from ops.bench.streams_chaos_history import History, Told, entry_id

MISSIONS: Final = "ua:missions:delegation"
RESULTS: Final = MISSIONS + ":results"
LETTERS: Final = "ua:missions:dlq"
GROUP: Final = "ua_workers"
KEPT: Final = 200
"""UA_DELEGATION_STREAM_MAXLEN: so short that the backlog exceeds it, and trimming has to wait."""
UNSEEN: Final = KEPT // 2
"""So many ends at most are under way to the reader; told twice they still fit into KEPT entries and none is missed."""
LOST_ANSWERS: Final = 0.02
"""So often a producer's connection breaks between its XADD and the answer, besides the crashes."""
FAILS: Final = "7"
"""A job whose name ends so fails."""
BREATH_SECONDS: Final = 0.005

# The whole life of a mission after its import in one statement; a factory would take a second for each.
END_SOME = """
    WITH due AS (
      SELECT id FROM corporation.missions WHERE state = 'waiting' ORDER BY id LIMIT %(limit)s FOR UPDATE SKIP LOCKED
    ), over AS (
      UPDATE corporation.missions m
         SET attempt = 1, factory_id = 'bench', finished_at = now(), event_seq = event_seq + 1,
             state = CASE WHEN right(job_id, 1) = %(fails)s THEN 'failed' ELSE 'succeeded' END,
             error = CASE WHEN right(job_id, 1) = %(fails)s THEN 'exit code 2: tests failed' END,
             result = json_build_object('mission_id', job_id, 'attempts', 1, 'factory_id', 'bench')
        FROM due WHERE m.id = due.id
      RETURNING m.id, m.state, m.event_seq
    )
    INSERT INTO corporation.mission_events (mission_id, seq, type, attempt) SELECT id, event_seq, state, 1 FROM over
"""


def connect(url: str) -> Any:
    """A client that repeats nothing by itself and waits two seconds for an answer."""
    return redis.Redis.from_url(url, socket_timeout=2.0, socket_connect_timeout=2.0, retry=Retry(NoBackoff(), 0))


@dataclass
class Clients:
    """All of them; `jobs` missions in all, of which at most `window` are on the way at once.

    After `join` nothing of them runs, and `failure` says what ended one before its time.
    """

    redis_url: str
    database_url: str
    producers: int
    jobs: int
    window: int
    seed: int
    history: History
    stop: Event = field(default_factory=Event)
    added: int = 0
    ended: int = 0
    failure: BaseException | None = None
    _lock: Lock = field(default_factory=Lock)
    _results_seen: set[str] = field(default_factory=set[str])
    _letters_seen: set[str] = field(default_factory=set[str])
    _threads: list[Thread] = field(default_factory=list[Thread])

    @property
    def seen(self) -> int:
        """How many missions' results the reader has."""
        return len(self._results_seen)

    @property
    def letters_seen(self) -> int:
        """How many missions' dead letters the reader has."""
        return len(self._letters_seen)

    @property
    def marks(self) -> tuple[int, int, int, int]:
        """What changes while anything goes on."""
        return self.added, self.ended, self.seen, self.letters_seen

    def start(self) -> None:
        """Everybody is at work."""
        works: list[Callable[[], None]] = [
            lambda number=number: self._produce(number) for number in range(self.producers)
        ]
        for work in [*works, self._end_missions, self._read]:
            thread = Thread(target=self._guarded, args=(work,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def join(self) -> None:
        """Everybody has gone."""
        self.stop.set()
        for thread in self._threads:
            thread.join(timeout=10)

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            self.failure = error

    def _produce(self, number: int) -> None:
        """Send this producer's jobs one after the other, each until Redis acknowledged it."""
        chance = random.Random(f"{self.seed}-{number}")
        client = connect(self.redis_url)
        for serial in range(number, self.jobs, self.producers):
            self._wait_for_room()
            if self.stop.is_set():
                return
            self._send(client, f"job-{serial:06d}", "x" * chance.randrange(400), chance.random() < LOST_ANSWERS)
        client.close()

    def _wait_for_room(self) -> None:
        while self.added - self.ended >= self.window and not self.stop.is_set():
            self.stop.wait(BREATH_SECONDS)

    def _send(self, client: Any, job: str, text: str, lose_the_answer: bool) -> None:
        envelope = {"job_id": job, "idempotency_key": f"key-{job}", "payload": {"task": f"Do {text}", "context": {}}}
        fields = {"job_id": job, "idempotency_key": f"key-{job}", "envelope": json.dumps(envelope)}
        self.history.sent.add(job)
        if lose_the_answer:
            self.history.repeated.add(job)
            with _forgiving(self.stop):
                _send_and_hang_up(client, fields)
        while not self.stop.is_set():
            with _forgiving(self.stop):
                entry = client.xadd(MISSIONS, fields)
                self.history.acknowledged[job] = entry_id(entry.decode())
                with self._lock:
                    self.added += 1
                return
            self.history.repeated.add(job)

    def _end_missions(self) -> None:
        with psycopg.connect(self.database_url, autocommit=True) as ledger:
            while not self.stop.is_set():
                room = UNSEEN - (self.ended - self.seen)
                changed = ledger.execute(END_SOME, {"limit": room, "fails": FAILS}).rowcount if room > 0 else 0
                self.ended += changed
                if not changed:
                    self.stop.wait(BREATH_SECONDS)

    def _read(self) -> None:
        """Follow both streams from their beginning, over every restart."""
        client = connect(self.redis_url)
        places: dict[str, str] = {RESULTS: "0", LETTERS: "0"}
        while not self.stop.is_set():
            with _forgiving(self.stop):
                for stream, entries in client.xread(places, count=500, block=100) or []:
                    for entry, fields in entries:
                        places[stream.decode()] = entry.decode()
                        self._note(stream.decode(), entry.decode(), fields)
        client.close()

    def _note(self, stream: str, entry: str, fields: dict[bytes, bytes]) -> None:
        envelope = json.loads(fields[b"envelope"])
        results = stream == RESULTS
        word = str(envelope.get("status" if results else "failure_error") or "")
        told = Told(entry_id(entry), str(envelope.get("job_id", "")), word)
        (self.history.results if results else self.history.letters).append(told)
        (self._results_seen if results else self._letters_seen).add(told.job_id)


def _send_and_hang_up(client: Any, fields: Mapping[str, str]) -> None:
    """What a producer sees as a lost answer: Redis mostly adds the entry, and nobody hears of it."""
    pool = client.connection_pool
    connection = pool.get_connection()
    try:
        connection.send_command("XADD", MISSIONS, "*", *(word for pair in fields.items() for word in pair))
    finally:
        connection.disconnect()
        pool.release(connection)


@contextmanager
def _forgiving(stop: Event) -> Generator[None]:
    """Redis is away: a moment later the caller tries again."""
    try:
        yield
    except (redis.RedisError, OSError):
        stop.wait(BREATH_SECONDS)
