"""The engine's broker on Celery: many messages in one round trip, and a look at what still lies in a queue."""

from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any, Final

import redis
import redis.exceptions
import structlog
from celery import Celery
from kombu.exceptions import KombuError
from redis.backoff import NoBackoff
from redis.retry import Retry

import celeryconfig
from corporation import clock
from corporation.clock import new_id, utc_now
from corporation.missions.outbox import BrokerUnavailableError
from corporation.missions.queues import TakenBack, Whereabouts
from corporation.missions.store.sending import AttemptMessage, EchoMessage, StopMessage
from corporation.roles import control_queue, private_queue
from corporation.settings import Settings
from corporation.trust.keyring import signer_of
from corporation.trust.signatures import Signed, sign
from factory_tasks.queue_look import Entry, OverfullError, QueueLook, read_entry

log = structlog.get_logger()

KILL_MARGIN_SECONDS = 15
"""Celery's hard limit stands this far behind our own, which also ends a script's children and keeps its output."""

ECHO_TASK: Final = celeryconfig.ECHO_TASK
ECHO_SECONDS: Final = 300
"""How long an echo is wanted: then the next one is asked for."""

OURS: Final = "corporation."
"""How the tasks begin that are no attempts: beats, stops, echoes."""

REMOVING_SECONDS: Final = 5.0
"""Of one queue at a time: for each removal Redis looks through the queue, and a factory can fill its own so that this
takes minutes. What is still there afterwards is there at the next sweep."""

MARK = "corporation:incarnation"
"""A key of our own in Redis. Without it, whoever comes by writes a new one: then all else may be gone as well."""

# kombu wraps what Redis says of a batch in an error of its own.
_AWAY = (KombuError, redis.exceptions.RedisError, OSError)


class CeleryBroker:
    """Sends attempts as Celery tasks `mission.<kind>`, whose task id is the attempt's id."""

    def __init__(
        self,
        settings: Settings,
        now: Callable[[], datetime] = utc_now,
        monotonic: Callable[[], float] = clock.monotonic,
    ) -> None:
        self._grace_seconds = settings.timeout_grace_seconds
        key = settings.mission_signing_key
        self._signer = signer_of(key.get_secret_value()) if key else None
        self._now = now
        self._monotonic = monotonic
        self._app = Celery("corporation-engine", set_as_current=False)
        self._app.conf.update(celeryconfig.configuration(settings))
        self._redis = redis.Redis.from_url(
            settings.redis_url,
            socket_timeout=10,
            socket_connect_timeout=5,
            # A connection that was lost is made once more. Who waited ten seconds for an answer does not wait again:
            # the loops come back by themselves, and a person may wait for this one.
            retry=Retry(NoBackoff(), 1, (redis.exceptions.ConnectionError,)),
        )
        self._look = QueueLook(self._redis)

    def send(self, messages: Sequence[AttemptMessage]) -> None:
        """Every message is on its queue, or BrokerUnavailableError; then some may be, and sending again is safe."""
        try:
            with self._app.producer_pool.acquire(block=True, timeout=10) as producer, producer.batch():
                for message in messages:
                    self._send(producer, message)
        except _AWAY as error:
            raise BrokerUnavailableError(f"Redis did not take the messages ({type(error).__name__})") from error

    def _send(self, producer: Any, message: AttemptMessage) -> None:
        soft = min(message.timeout_seconds, celeryconfig.LONGEST_MISSION_SECONDS)
        about = Signed(
            task=f"mission.{message.kind}",
            id=message.attempt_id,
            job_id=message.job_id,
            factory=message.factory_id,
            attempt=message.attempt,
        )
        kwargs = {"order": order_of(message)}
        self._app.send_task(
            about.task,
            kwargs=kwargs,
            task_id=about.id,
            headers=self._signature(about, kwargs),
            queue=celeryconfig.direct_queue(message.queue),
            producer=producer,
            soft_time_limit=soft,
            time_limit=soft + self._grace_seconds + KILL_MARGIN_SECONDS,
            # Flower and logs show these: enough to find the mission, nothing of what it says.
            argsrepr="()",
            kwargsrepr=f"job_id={message.job_id!r} attempt={message.attempt}",
        )

    def stop(self, messages: Sequence[StopMessage]) -> None:
        """What lay in its queue and was never received is gone; of the rest, each factory that listens is told.

        Raises BrokerUnavailableError; then some of it may be done, and doing it again is safe. What Redis is there for
        and refuses (a spoilt key, a missing right) is logged and left: progress and beats tell the factory as well.
        """
        unreceived: set[str] = set()
        for queue, ours in _grouped(messages, lambda message: message.queue).items():
            with _refusals_logged(queue):
                unreceived |= self.withdraw(queue, {message.attempt_id for message in ours}).unreceived
        told = [message for message in messages if message.attempt_id not in unreceived]
        for queue, ours in _grouped(told, lambda message: message.control_queue).items():
            with _refusals_logged(queue):
                self._order_stops(queue, ours)

    def _order_stops(self, control_queue: str, messages: Sequence[StopMessage]) -> None:
        with _asking(), self._app.producer_pool.acquire(block=True, timeout=10) as producer, producer.batch():
            for message in messages:
                self._order_stop(producer, message, control_queue)

    def _order_stop(self, producer: Any, message: StopMessage, control_queue: str) -> None:
        kwargs = {"attempt_id": message.attempt_id, "reason": message.reason}
        about = _order(celeryconfig.STOP_TASK, message.factory_id)
        self._app.send_task(
            about.task,
            kwargs=kwargs,
            task_id=about.id,
            headers=self._signature(about, kwargs),
            queue=celeryconfig.direct_queue(control_queue),
            producer=producer,
            argsrepr="()",
            kwargsrepr=f"attempt_id={message.attempt_id!r}",
        )

    def echo(self, messages: Sequence[EchoMessage]) -> None:
        """Each queue has this echo, and no earlier one, behind what lies there; BrokerUnavailableError otherwise.

        Doing it again is safe. What Redis is there for and refuses is logged and left, and a queue that is too full to
        be read, or to be cleared of echoes in time, gets none: it would only grow.
        """
        for message in messages:
            with _refusals_logged(message.queue), _asking(), suppress(OverfullError):
                echoes = [body for body in self._look.queue(message.queue) if _is_echo(body)]
                if len(self._removed(message.queue, echoes)) == len(echoes):
                    self._ask_for_echo(message)

    def _ask_for_echo(self, message: EchoMessage) -> None:
        kwargs = {"echo_id": message.echo_id}
        about = _order(ECHO_TASK, message.factory_id)
        self._app.send_task(
            about.task,
            kwargs=kwargs,
            task_id=about.id,
            headers=self._signature(about, kwargs),
            queue=celeryconfig.direct_queue(message.queue),
            expires=ECHO_SECONDS,
            ignore_result=True,
            argsrepr="()",
            kwargsrepr=f"echo_id={message.echo_id!r}",
        )

    def _signature(self, about: Signed, kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """The headers by which a factory knows that HQ asks this; none while HQ has no key."""
        return sign(self._signer, about, (), kwargs, self._now().timestamp()) if self._signer else {}

    def look_into(self, queue: str) -> Whereabouts:
        """Where the messages of `queue` are; raises BrokerUnavailableError.

        The queue is read before what its factory holds, as messages go; one that is taken back to its queue in between,
        or that a worker pops this very moment, is seen in neither. A factory may fill both: neither is read when more
        lies there than one of ours can hold, and the answer says that it is not `whole`.
        """
        with _asking():
            lying, foreign, is_read = self._lying(queue)
            held = self._held(queue)
            return Whereabouts(lying, held or frozenset(), foreign, whole=is_read and held is not None)

    def _lying(self, queue: str) -> tuple[frozenset[str], int, bool]:
        """The attempts in `queue`, how many entries are no message of ours or were not read, and whether all were."""
        lying: set[str] = set()
        foreign = 0
        try:
            for body in self._look.queue(queue):
                entry = read_entry(body)
                if entry and entry.task.startswith(OURS):
                    continue
                if entry and entry.attempt_id:
                    lying.add(entry.attempt_id)
                else:
                    foreign += 1
        except OverfullError as error:
            return frozenset(lying), error.entries, False
        return frozenset(lying), foreign, True

    def withdraw(self, queue: str, attempt_ids: Collection[str]) -> TakenBack:
        """Take the messages of these attempts out of `queue`; raises BrokerUnavailableError.

        Redis removes and counts in one step, so of a worker and us only one has the message. Where more lies than a
        factory of ours can hold, in its queue or among what it took, nothing is taken back: what lies there is over
        when its lease is.
        """
        wanted = set(attempt_ids)
        with _asking():
            try:
                # All are read before the first is removed, which moves what lies behind it.
                read = ((body, read_entry(body)) for body in self._look.queue(queue))
                found = [(body, entry) for body, entry in read if entry and entry.attempt_id in wanted]
                if found:
                    self._look.check_taken(_nodes_of(queue))
            except OverfullError:
                return TakenBack()
            return self._take_out(queue, found)

    def _take_out(self, queue: str, found: Sequence[tuple[bytes, Entry]]) -> TakenBack:
        asked = self._removed(queue, [body for body, _ in found])
        gone = [entry for (_, entry), is_gone in zip(found, asked, strict=False) if is_gone]
        left = {entry.attempt_id for _, entry in found[len(asked) :]}
        removed = frozenset(entry.attempt_id for entry in gone if entry.attempt_id and entry.attempt_id not in left)
        came_back = {entry.attempt_id for entry in gone if entry.came_back}
        held = self._held(queue) if removed else frozenset[str]()
        # Filled this very moment: whoever holds that much may hold these.
        there = removed if held is None else removed & held
        return TakenBack(removed, removed - came_back - there, there)

    def incarnation(self) -> str:
        """Which run of the server this is, and a mark that we left in its data; raises BrokerUnavailableError.

        A server that refuses to tell one of them (a user without the right, a disk that is full) is known by the other.
        """
        with _asking():
            return f"{self._unless_refused(self._run_id)} {self._unless_refused(self._mark)}"

    def _run_id(self) -> str:
        server: Any = self._redis.info("server")
        return str(server["run_id"])

    def _mark(self) -> str:
        mark: Any = self._redis.get(MARK)
        if mark is None:
            # Another engine may be faster: what is there afterwards is the mark.
            self._redis.set(MARK, new_id(), nx=True)
            mark = self._redis.get(MARK)
        return bytes(mark or b"").decode(errors="replace")

    @staticmethod
    def _unless_refused(ask: Callable[[], str]) -> str:
        try:
            return ask()
        except redis.exceptions.ResponseError:
            return "-"

    def _removed(self, queue: str, bodies: Sequence[bytes]) -> list[bool]:
        """Whether each of these entries was still there; shorter than `bodies` where the time was over."""
        end = self._monotonic() + REMOVING_SECONDS
        answers: list[bool] = []
        for body in bodies:
            if self._monotonic() > end:
                log.warning("queue_slow_to_clear", queue=queue, left=len(bodies) - len(answers))
                break
            answers.append(self._remove(queue, body))
        return answers

    def _remove(self, queue: str, body: bytes) -> bool:
        removed: Any = self._redis.lrem(queue, 0, body)  # pyright: ignore[reportArgumentType] - bytes, as lrange gave them
        return bool(removed)

    def _held(self, queue: str) -> frozenset[str] | None:
        """The attempts whose messages the owner of `queue` took and has not acknowledged; None for too much to read."""
        try:
            entries = [read_entry(taken, inside=True) for taken in self._look.taken(_nodes_of(queue))]
        except OverfullError:
            return None
        return frozenset(entry.attempt_id for entry in entries if entry and entry.attempt_id)


def order_of(message: AttemptMessage) -> dict[str, Any]:
    """What the factory is told to do, as the task's one argument."""
    return {
        "job_id": message.job_id,
        "attempt": message.attempt,
        "factory_id": message.factory_id,
        "timeout_seconds": min(message.timeout_seconds, celeryconfig.LONGEST_MISSION_SECONDS),
        "envelope": dict(message.envelope),
    }


def _order(task: str, factory_id: str) -> Signed:
    """What is to be signed of a message that is no mission."""
    return Signed(task=task, id=new_id(), job_id="", factory=factory_id, attempt=0)


def _is_echo(body: bytes) -> bool:
    entry = read_entry(body)
    return entry is not None and entry.task == ECHO_TASK


def _nodes_of(queue: str) -> list[str]:
    """Whose queue this may be, by its name: a node's private queue or its control queue."""
    before, behind = private_queue(""), control_queue("")
    nodes = [queue.removeprefix(before)] if queue.startswith(before) else []
    return [*nodes, queue.removesuffix(behind)] if queue.endswith(behind) else nodes or [queue]


def _grouped(messages: Sequence[StopMessage], by: Callable[[StopMessage], str | None]) -> dict[str, list[StopMessage]]:
    groups: dict[str, list[StopMessage]] = {}
    for message in messages:
        if (name := by(message)) is not None:
            groups.setdefault(name, []).append(message)
    return groups


@contextmanager
def _asking() -> Generator[None]:
    try:
        yield
    except _AWAY as error:
        why = f": {str(error)[:200]}" if _is_refusal(error) else ""
        raise BrokerUnavailableError(f"Redis cannot be asked ({type(error).__name__}{why})") from error


@contextmanager
def _refusals_logged(queue: str) -> Generator[None]:
    """What a Redis that is there refuses is said and passed over; one that is away still raises."""
    try:
        yield
    except BrokerUnavailableError as error:
        if error.__cause__ is None or not _is_refusal(error.__cause__):
            raise
        log.warning("stop_not_sent", queue=queue, error=str(error))


def _is_refusal(error: BaseException) -> bool:
    """Whether Redis answered, and said no; kombu wraps what it said."""
    refused = redis.exceptions.ResponseError
    return isinstance(error, refused) or isinstance(error.__cause__, refused)
