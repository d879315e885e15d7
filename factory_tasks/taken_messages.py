"""Messages that a worker of this node took from Redis and died with: its successor puts them back before it takes any.

kombu keeps what is taken and not acknowledged in a hash of the node, and would hand it out again after two days
(`celeryconfig.VISIBILITY_SECONDS`). Nobody else may: another node cannot know whether the message is being worked on.
"""

import json
from collections.abc import Collection
from typing import Any

import redis.exceptions
import structlog
from celery import Celery
from kombu.exceptions import KombuError
from kombu.utils.encoding import bytes_to_str

log = structlog.get_logger()

_AWAY = (KombuError, redis.exceptions.RedisError, OSError)


def put_back(app: Celery, at_work: Collection[str]) -> bool:
    """What workers of this node took lies in its queue again, the first to be taken; False without Redis.

    Not the messages of the attempts `at_work`, on which living processes of this node work. What another worker has in
    hand this moment lies there as a copy then, as after a second call; the spool lets only one of them run.
    """
    try:
        with app.connection_for_read() as connection:
            channel = connection.default_channel
            with channel.conn_or_acquire() as client:
                held = client.hgetall(channel.qos.unacked_key)
            tags = [tag for tag, entry in held.items() if _attempt_of(entry) not in at_work]
            for tag in tags:
                channel.qos.restore_by_tag(bytes_to_str(tag))
    except _AWAY as error:
        log.warning("messages_not_put_back", error=type(error).__name__)
        return False
    if tags:
        log.warning("messages_put_back", count=len(tags))
    return True


def _attempt_of(entry: bytes) -> str | None:
    """The attempt of a message as kombu keeps it, `[message, exchange, routing key]`; None for what is none of ours."""
    try:
        document: Any = json.loads(entry)
        return str(document[0]["headers"]["id"])
    except (ValueError, KeyError, TypeError, IndexError, RecursionError):
        return None
