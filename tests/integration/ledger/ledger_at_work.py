"""The real steps on a real ledger, one transaction each, and a broker that only remembers what it was given."""

from collections.abc import Collection, Sequence
from threading import Lock
from typing import Any

import builders
from sqlalchemy import Engine, text

from corporation import clock
from corporation.db import transaction
from corporation.factories.staleness import Thresholds
from corporation.factories.store import record_beat
from corporation.missions.cancel import DEFAULT_REASON, Cancelling, cancel
from corporation.missions.collect import collect_some
from corporation.missions.dispatch import DispatchRules, dispatch_some, explain_waiting
from corporation.missions.evict import evict_some
from corporation.missions.outbox import BrokerUnavailableError, send_some
from corporation.missions.outcomes import Done, Outcome
from corporation.missions.queues import TakenBack, Whereabouts
from corporation.missions.recall import recall_some
from corporation.missions.rescue import LookedAfter, look_after_queued, rescue_some
from corporation.missions.retry import RetryPolicy
from corporation.missions.store.leases import Renewed, Sign, renew
from corporation.missions.store.sending import AttemptMessage, EchoMessage, StopMessage
from corporation.missions.submit import Receipt, Submission, submit

POLICY = RetryPolicy()
AT_ONCE = RetryPolicy(base_seconds=0)

_KEPT_BY_THE_LEDGER = (
    *("missions", "mission_aliases", "attempts", "mission_events", "outbox", "mission_log", "factories"),
    *("dead_letters", "stream_outbox", "factory_access", "factory_echoes", "factory_events", "notifications"),
    *("factory_costs", "bootstrap_jobs", "audit_log", "redis_users", "queue_rebuilds", "loop_ticks"),
)
_FILLED = (*(f"corporation.{name}" for name in _KEPT_BY_THE_LEDGER), "mailbox.celery_taskmeta", "mailbox.factory_roles")
# Without the triggers of foreign keys the order does not matter. Measured: TRUNCATE takes many times as long.
EMPTY = text(f"""
    DO $$ BEGIN
        SET LOCAL session_replication_role = replica;
        {"".join(f"DELETE FROM {table};" for table in _FILLED)}
        PERFORM setval(s.oid::regclass, 1, false)
           FROM pg_class s JOIN pg_depend d ON d.objid = s.oid AND d.deptype = 'i'
          WHERE s.relkind = 'S' AND d.refobjid = ANY ('{{{",".join(_FILLED)}}}'::regclass[]);
    END $$
""")  # noqa: S608 - our own names
"""Afterwards no row is left, and the numbers begin at one again."""

# What the result backend does: one guarded statement, once per attempt.
FILL = """
    UPDATE mailbox.celery_taskmeta SET status = :status, result = :body
     WHERE task_id = :attempt_id AND status NOT IN ('SUCCESS', 'FAILURE', 'REVOKED')
"""


class RememberingBroker:
    """Stands in for Redis: messages lie in their queues until a test takes them."""

    def __init__(self) -> None:
        self.away = False
        self.sent: list[AttemptMessage] = []
        self.stopped: list[StopMessage] = []
        """The orders to stop that factories were sent."""
        self.echoes: list[EchoMessage] = []
        self.came_back: set[str] = set()
        """Attempts whose messages a worker had before."""
        self.run = 1
        """Which run of the server this is: a restart has another number."""
        self.foreign = 0
        """How many entries of each mission queue are no messages."""
        self.overfull: set[str] = set()
        """Queues in which more lies than is read."""
        self._lying: dict[str, list[AttemptMessage]] = {}
        self._held: dict[str, list[AttemptMessage]] = {}
        self._lock = Lock()

    def send(self, messages: Sequence[AttemptMessage]) -> None:
        """Put each message on its queue."""
        self._refuse_when_away()
        with self._lock:
            self.sent += messages
            for message in messages:
                self._lying.setdefault(message.queue, []).append(message)

    def stop(self, messages: Sequence[StopMessage]) -> None:
        """Take back what still lies there, and remember the orders for factories that listen."""
        self._refuse_when_away()
        for message in messages:
            unreceived = self.withdraw(message.queue, {message.attempt_id}).unreceived
            if message.control_queue is not None and not unreceived:
                self.stopped.append(message)

    def echo(self, messages: Sequence[EchoMessage]) -> None:
        """Remember that they were asked for."""
        self._refuse_when_away()
        self.echoes += messages

    def lying_in(self, queue: str) -> set[str]:
        """The attempts whose messages nobody took yet."""
        self._refuse_when_away()
        with self._lock:
            return {message.attempt_id for message in self._lying.get(queue, [])}

    def look_into(self, queue: str) -> Whereabouts:
        """What lies there, and what its factory took."""
        lying = frozenset(self.lying_in(queue))
        if queue in self.overfull:
            return Whereabouts(whole=False)
        held = frozenset(one.attempt_id for one in self._held.get(queue, []))
        return Whereabouts(lying, held, self.foreign if queue.startswith("factory.") else 0)

    def withdraw(self, queue: str, attempt_ids: Collection[str]) -> TakenBack:
        """Take these attempts' messages out of the queue."""
        held = self.look_into(queue).held
        if queue in self.overfull:
            return TakenBack()
        with self._lock:
            lying = self._lying.get(queue, [])
            self._lying[queue] = [message for message in lying if message.attempt_id not in attempt_ids]
            gone = frozenset(message.attempt_id for message in lying if message.attempt_id in attempt_ids)
            return TakenBack(gone, gone - self.came_back - held, gone & held)

    def incarnation(self) -> str:
        """The number of this run."""
        self._refuse_when_away()
        return str(self.run)

    def hand_over(self, message: AttemptMessage) -> None:
        """A worker of the factory takes this one, if it still lies there, and does not acknowledge it."""
        if self.withdraw(message.queue, {message.attempt_id}).removed:
            self._held.setdefault(message.queue, []).append(message)

    def acknowledge(self, attempt_id: str) -> None:
        """The worker that held this attempt's message is done with it."""
        for queue, held in self._held.items():
            self._held[queue] = [message for message in held if message.attempt_id != attempt_id]

    def take(self, queue: str) -> list[AttemptMessage]:
        """All messages of `queue`, which is empty afterwards; its factory holds them, and acknowledges none."""
        with self._lock:
            taken = self._lying.pop(queue, [])
            self._held.setdefault(queue, []).extend(taken)
            return taken

    def lose(self, queue: str) -> list[AttemptMessage]:
        """All messages of `queue`, which are nowhere afterwards: their worker was killed between pop and note."""
        with self._lock:
            return self._lying.pop(queue, [])

    def forget(self) -> None:
        """The server was killed and starts again with nothing."""
        with self._lock:
            self._lying.clear()
            self._held.clear()
            self.run += 1

    def _refuse_when_away(self) -> None:
        if self.away:
            raise BrokerUnavailableError("The broker does not answer")


class LedgerAtWork:
    """A ledger, and each step as HQ takes it, in a transaction of its own."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.broker = RememberingBroker()

    def sql(self, statement: str, **values: Any) -> list[Any]:
        """Look at the ledger, or change it behind the back of the steps."""
        with transaction(self.engine) as connection:
            result = connection.execute(text(statement), values)
            return list(result) if result.returns_rows else []

    def submit(self, *submissions: Submission, ttl_seconds: int = 0) -> list[Receipt]:
        """Submit them in one batch."""
        with transaction(self.engine) as connection:
            return submit(connection, submissions, ttl_seconds)

    def publish(self, *job_ids: str, **changes: Any) -> None:
        """Store one general mission for each of `job_ids`."""
        self.submit(*(builders.submission(job_id, **changes) for job_id in job_ids))

    def beat(self, factory_id: str = "desk-7", **changes: Any) -> None:
        """A factory says that it lives."""
        with transaction(self.engine) as connection:
            record_beat(connection, builders.beat(factory_id, **changes))

    def dispatch(self, rules: DispatchRules | None = None) -> int:
        """One round of the dispatcher."""
        with transaction(self.engine) as connection:
            return dispatch_some(connection, rules or builders.rules(), clock.new_id)

    def explain(self) -> None:
        """Say of all that waits why it does."""
        with transaction(self.engine) as connection:
            explain_waiting(connection, builders.rules())

    def send(self) -> int:
        """Empty the outbox into the broker."""
        with transaction(self.engine) as connection:
            return send_some(connection, self.broker, 500)

    def hand_out(self, *job_ids: str, **changes: Any) -> list[str]:
        """Publish, dispatch and send; the attempt ids are returned in the order of `job_ids`."""
        self.beat(slots=max(2, len(job_ids)))
        self.publish(*job_ids, **changes)
        self.dispatch()
        self.send()
        return [self.attempt_of(job_id) for job_id in job_ids]

    def cancel(self, job_id: str, reason: str = DEFAULT_REASON) -> Cancelling | None:
        """Somebody wants the mission stopped."""
        with transaction(self.engine) as connection:
            return cancel(connection, job_id, reason)

    def hear(self, *attempt_ids: str, factory_id: str = "desk-7", lease_seconds: float = 180) -> dict[str, Renewed]:
        """The factory says that it works on these attempts."""
        signs = [Sign(attempt_id) for attempt_id in attempt_ids]  # pyright: ignore[reportArgumentType]
        with transaction(self.engine) as connection:
            return renew(connection, factory_id, signs, lease_seconds)

    def fill(self, attempt_id: str, body: bytes | None, status: str = "SUCCESS") -> None:
        """A factory's bytes arrive in the mailbox."""
        self.sql(FILL, attempt_id=attempt_id, body=body, status=status)

    def report(self, attempt_id: str, outcome: Outcome | None = None, seconds: float | None = 0.5) -> None:
        """A factory reports; without an outcome it is a success."""
        outcome = outcome or Done({})
        status = "SUCCESS" if isinstance(outcome, Done) else "FAILURE"
        self.fill(attempt_id, builders.report(outcome, seconds), status)

    def collect(self, policy: RetryPolicy = POLICY, limit: int = 500) -> int:
        """One round of the collector, with the jitter in the middle."""
        with transaction(self.engine) as connection:
            return collect_some(connection, policy, lambda: 0.5, limit)

    def rescue(self, policy: RetryPolicy = POLICY, limit: int = 200) -> int:
        """Give up on what fell silent."""
        with transaction(self.engine) as connection:
            return rescue_some(connection, self.broker, policy, lambda: 0.5, limit, 180)

    def look(self, lease_seconds: float = 180, **changes: Any) -> LookedAfter:
        """Look for the messages of queued attempts."""
        with transaction(self.engine) as connection:
            return look_after_queued(connection, self.broker, lease_seconds, lease_seconds, **changes)

    def recall(self, limit: int = 200, *, sent_too: bool = True) -> int:
        """Take back what lies with factories that do not come for it."""
        with transaction(self.engine) as connection:
            return recall_some(connection, self.broker, Thresholds(), POLICY, lambda: 0.5, limit, sent_too=sent_too)

    def evict(self, limit: int = 200, *, queued_too: bool = True) -> int:
        """Give up on what factories in quarantine hold."""
        with transaction(self.engine) as connection:
            return evict_some(connection, self.broker, POLICY, lambda: 0.5, limit, queued_too=queued_too)

    def lapse(self, *attempt_ids: str) -> None:
        """Their leases are over now."""
        self.sql(
            "UPDATE corporation.attempts SET lease_expires_at = now() - interval '1 second' WHERE id::text = ANY(:ids)",
            ids=list(attempt_ids),
        )

    def end_backoff(self) -> None:
        """Every wait between attempts is over now."""
        self.sql("UPDATE corporation.missions SET next_attempt_at = now() WHERE next_attempt_at IS NOT NULL")

    def mission(self, job_id: str = "j-1") -> Any:
        """The mission's row."""
        [row] = self.sql("SELECT * FROM corporation.missions WHERE job_id = :job_id", job_id=job_id)
        return row

    def state(self, job_id: str = "j-1") -> str:
        """The mission's state."""
        return str(self.mission(job_id).state)

    def attempt_of(self, job_id: str = "j-1") -> str:
        """The id of the mission's newest attempt."""
        return str(self.attempts(job_id)[-1].id)

    def attempts(self, job_id: str = "j-1") -> list[Any]:
        """The mission's attempts, the first one first."""
        return self.sql(
            """SELECT a.*, a.lease_expires_at - now() AS lease_left FROM corporation.attempts a
                 JOIN corporation.missions m ON m.id = a.mission_id WHERE m.job_id = :job_id ORDER BY a.number""",
            job_id=job_id,
        )

    def events(self, job_id: str = "j-1") -> list[str]:
        """The types of the mission's events in order."""
        rows = self.sql(
            """SELECT e.type FROM corporation.mission_events e JOIN corporation.missions m ON m.id = e.mission_id
                WHERE m.job_id = :job_id ORDER BY e.seq""",
            job_id=job_id,
        )
        return [row.type for row in rows]

    def detail(self, event: str, job_id: str = "j-1") -> Any:
        """What the mission's only event of this type says."""
        [row] = self.sql(
            """SELECT e.detail FROM corporation.mission_events e JOIN corporation.missions m ON m.id = e.mission_id
                WHERE m.job_id = :job_id AND e.type = :event""",
            job_id=job_id,
            event=event,
        )
        return row.detail
