"""The engine's broker on Celery: many messages in one round trip, and a look at what still lies in a queue."""

import json
from collections.abc import Collection, Sequence
from typing import Any

import redis
import redis.exceptions
from celery import Celery
from kombu.exceptions import KombuError

import celeryconfig
from corporation.missions.outbox import BrokerUnavailableError
from corporation.missions.store.sending import AttemptMessage
from corporation.settings import Settings

KILL_MARGIN_SECONDS = 15
"""Celery's hard limit stands this far behind our own, which also ends a script's children and keeps its output."""

# kombu wraps what Redis says of a batch in an error of its own.
_AWAY = (KombuError, redis.exceptions.RedisError, OSError)


class CeleryBroker:
    """Sends attempts as Celery tasks `mission.<kind>`, whose task id is the attempt's id."""

    def __init__(self, settings: Settings) -> None:
        self._grace_seconds = settings.timeout_grace_seconds
        self._app = Celery("corporation-engine", set_as_current=False)
        self._app.conf.update(celeryconfig.configuration(settings))
        self._redis = redis.Redis.from_url(settings.redis_url, socket_timeout=10, socket_connect_timeout=5)

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
        self._app.send_task(
            f"mission.{message.kind}",
            kwargs={"order": order_of(message)},
            task_id=message.attempt_id,
            queue=celeryconfig.direct_queue(message.queue),
            producer=producer,
            soft_time_limit=soft,
            time_limit=soft + self._grace_seconds + KILL_MARGIN_SECONDS,
            # Flower and logs show these: enough to find the mission, nothing of what it says.
            argsrepr="()",
            kwargsrepr=f"job_id={message.job_id!r} attempt={message.attempt}",
        )

    def lying_in(self, queue: str) -> set[str]:
        """The attempt ids whose messages lie in `queue`; raises BrokerUnavailableError."""
        return {attempt_id for body in self._look(queue) if (attempt_id := _task_id(body))}

    def withdraw(self, queue: str, attempt_ids: Collection[str]) -> None:
        """Take the messages of these attempts out of `queue`; one that a worker took meanwhile is not there."""
        gone = [body for body in self._look(queue) if _task_id(body) in attempt_ids]
        try:
            for body in gone:
                self._redis.lrem(queue, 0, body)  # pyright: ignore[reportArgumentType] - bytes, as lrange gave them
        except _AWAY as error:
            raise BrokerUnavailableError(f"Redis cannot be asked ({type(error).__name__})") from error

    def _look(self, queue: str) -> list[bytes]:
        try:
            bodies: Any = self._redis.lrange(queue, 0, -1)
        except _AWAY as error:
            raise BrokerUnavailableError(f"Redis cannot be asked ({type(error).__name__})") from error
        return list(bodies)


def order_of(message: AttemptMessage) -> dict[str, Any]:
    """What the factory is told to do, as the task's one argument."""
    return {
        "job_id": message.job_id,
        "attempt": message.attempt,
        "factory_id": message.factory_id,
        "timeout_seconds": min(message.timeout_seconds, celeryconfig.LONGEST_MISSION_SECONDS),
        "envelope": dict(message.envelope),
    }


def _task_id(body: bytes) -> str | None:
    """The task id in a queued message; None for bytes that are no message of ours."""
    try:
        return str(json.loads(body)["headers"]["id"])
    except (ValueError, KeyError, TypeError):
        return None
