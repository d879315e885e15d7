"""Whether the broker is there now: asked for labels, health and pages, so it answers in a second or counts as away."""

from typing import Final

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

LIMIT_SECONDS: Final = 1


def open_link(url: str) -> redis.Redis:
    """A client that waits a second to connect and a second for an answer, and repeats nothing; connects when asked."""
    return redis.Redis.from_url(
        url, socket_timeout=LIMIT_SECONDS, socket_connect_timeout=LIMIT_SECONDS, retry=Retry(NoBackoff(), 0)
    )


def why_not_connected(client: redis.Redis) -> str | None:
    """The class of the error that a ping ends in, None when it is answered; the error's text may hold an address."""
    try:
        client.ping()
    except (redis.RedisError, OSError) as error:
        return type(error).__name__
    return None
