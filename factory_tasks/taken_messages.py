"""Messages that a worker of this node took from Redis and died with: its successor puts them back before it takes any.

kombu keeps what is taken and not acknowledged in a hash of the node, and would hand it out again after two days
(`celeryconfig.VISIBILITY_SECONDS`). Nobody else may: another node cannot know whether the message is being worked on.
"""

import redis.exceptions
import structlog
from celery import Celery
from kombu.exceptions import KombuError
from kombu.utils.encoding import bytes_to_str

log = structlog.get_logger()

_AWAY = (KombuError, redis.exceptions.RedisError, OSError)


def put_back(app: Celery) -> bool:
    """What an earlier worker of this node took lies in its queue again, the first to be taken; False without Redis.

    Call it while no other mission worker of the node lives. If one does all the same, or when it is called twice, a
    message lies there as a copy, which the spool drops.
    """
    try:
        with app.connection_for_read() as connection:
            channel = connection.default_channel
            with channel.conn_or_acquire() as client:
                tags = client.hkeys(channel.qos.unacked_key)
            for tag in tags:
                channel.qos.restore_by_tag(bytes_to_str(tag))
    except _AWAY as error:
        log.warning("messages_not_put_back", error=type(error).__name__)
        return False
    if tags:
        log.warning("messages_put_back", count=len(tags))
    return True
