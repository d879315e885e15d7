"""Messages that a worker of this node took from Redis and died with: its successor puts them back before it takes any.

kombu keeps what is taken and not acknowledged in a hash of the node, and would hand it out again after two days
(`celeryconfig.VISIBILITY_SECONDS`). Nobody else may: another node cannot know whether the message is being worked on.
"""

import json
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

import redis.exceptions
import structlog
from celery import Celery
from kombu.exceptions import KombuError
from kombu.utils.encoding import bytes_to_str

from corporation import clock

log = structlog.get_logger()

_AWAY = (KombuError, redis.exceptions.RedisError, OSError)


FORGOTTEN_SECONDS: Final = 120.0
"""How long a message may be in hand with nobody at work on it before it counts as forgotten: a worker takes as many as
it has slots, and begins at once."""


def put_back(app: Celery, at_work: Collection[str]) -> bool:
    """What workers of this node took lies in its queue again, the first to be taken; False without Redis.

    Not the messages of the attempts `at_work`, on which living processes of this node work. What another worker has in
    hand this moment lies there as a copy then, as after a second call; the spool lets only one of them run.
    """
    return _put_back(app, at_work, lambda client, qos: client.hgetall(qos.unacked_key))


def put_back_orders(app: Celery, at_work: Collection[str], control: str) -> bool:
    """As `put_back`, of what was taken from the queue `control` alone: all that a control worker may know about.

    What mission workers have in hand is theirs: they live while a control worker starts.
    """

    def orders(client: Any, qos: Any) -> dict[bytes, bytes | None]:
        entries: dict[bytes, bytes] = client.hgetall(qos.unacked_key)
        return {tag: entry for tag, entry in entries.items() if _queue_of(entry) == control}

    return _put_back(app, at_work, orders)


def put_back_forgotten(app: Celery, at_work: Collection[str]) -> bool:
    """As `put_back`, of what was taken FORGOTTEN_SECONDS ago or earlier.

    A worker that loses Redis cannot say that it has done with a message, and never says it again; what has begun in the
    meantime is told from the spool, and not run twice. After a jump of this machine's clock other messages may look old
    as well, which does no harm either.
    """
    before = clock.utc_now().timestamp() - FORGOTTEN_SECONDS  # kombu notes `time.time()`

    def old(client: Any, qos: Any) -> dict[bytes, bytes | None]:
        tags = client.zrange(qos.unacked_index_key, "-inf", before, byscore=True)
        return {tag: client.hget(qos.unacked_key, tag) for tag in tags}

    return _put_back(app, at_work, old)


def _put_back(app: Celery, at_work: Collection[str], taken: Callable[[Any, Any], Mapping[bytes, bytes | None]]) -> bool:
    try:
        with app.connection_for_read() as connection:
            channel = connection.default_channel
            with channel.conn_or_acquire() as client:
                entries = taken(client, channel.qos)
            tags = [tag for tag, entry in entries.items() if entry is None or _attempt_of(entry) not in at_work]
            for tag in tags:
                channel.qos.restore_by_tag(bytes_to_str(tag))
    except _AWAY as error:
        log.warning("messages_not_put_back", error=type(error).__name__)
        return False
    if tags:
        log.warning("messages_put_back", count=len(tags))
    return True


def _queue_of(entry: bytes) -> str | None:
    """The queue that a message as kombu keeps it was taken from; None for what is none of ours."""
    try:
        document: Any = json.loads(entry)
        return str(document[2])
    except (ValueError, KeyError, TypeError, IndexError, RecursionError):
        return None


def _attempt_of(entry: bytes) -> str | None:
    """The attempt of a message as kombu keeps it, `[message, exchange, routing key]`; None for what is none of ours."""
    try:
        document: Any = json.loads(entry)
        return str(document[0]["headers"]["id"])
    except (ValueError, KeyError, TypeError, IndexError, RecursionError):
        return None
