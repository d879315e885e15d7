"""What Redis says when it does not do what it was asked, in one word, and what that means for a loop."""

from typing import Final

import redis
from redis.backoff import NoBackoff
from redis.exceptions import ResponseError
from redis.retry import Retry

CONNECT_SECONDS: Final = 2
REDIS_FAILS: Final = (redis.RedisError, OSError)
"""Everything that a command can raise but for a mistake of ours."""
EXHAUSTED: Final = "EXHAUSTED"
_NAMED: Final = {
    "ReadOnlyError": "READONLY",
    "BusyLoadingError": "LOADING",
    "OutOfMemoryError": "OOM",
    "NoPermissionError": "NOPERM",
}
_NEEDS_A_PERSON: Final = {
    "WRONGTYPE": "the key holds something that is no stream; rename it, or name another stream",
    "NOPERM": "the user of UA_REDIS_URL lacks a right on this key",
    "NOAUTH": "Redis wants a password; put it into UA_REDIS_URL",
    "WRONGPASS": "Redis does not take the password of UA_REDIS_URL",
    EXHAUSTED: "somebody added an entry with the largest id there is",
}


def open_stream_client(url: str, answer_seconds: float) -> redis.Redis:
    """A bytes client that waits `answer_seconds` for an answer and repeats nothing by itself; connects when used."""
    return redis.Redis.from_url(
        url,
        decode_responses=False,
        socket_timeout=answer_seconds,
        socket_connect_timeout=CONNECT_SECONDS,
        socket_keepalive=True,
        retry=Retry(NoBackoff(), 0),
    )


def code_of(error: Exception) -> str:
    """The word by which Redis names an error (`NOGROUP`, `WRONGTYPE`, `OOM` …), else the error's class."""
    message = str(error)
    if isinstance(error, ResponseError) and "exhausted the last possible ID" in message:
        return EXHAUSTED
    word = message.split(" ", 1)[0]
    # redis-py takes some of the words off the message and makes classes of them.
    is_word = isinstance(error, ResponseError) and word.isupper() and word.isalpha()
    return word if is_word else _NAMED.get(type(error).__name__, type(error).__name__)


def needs_a_person(code: str) -> str | None:
    """What somebody must do about it, or None when it passes by itself (READONLY, OOM, LOADING, MISCONF, away)."""
    return _NEEDS_A_PERSON.get(code)
