"""Servers that the environment gives instead of ours: reached now, or refused in one line, before anything starts."""

from collections.abc import Mapping
from typing import Final

import psycopg
import redis
import redis.exceptions
from redis.backoff import NoBackoff
from redis.retry import Retry

from corporation.errors import CorporationError
from corporation.settings import load_settings, shown

REDIS_NAMES: Final = ("UA_REDIS_URL", "UA_REDIS_HOST")
DATABASE_NAMES: Final = ("UA_DATABASE_URL", "DATABASE_URL")
MAILBOX_NAMES: Final = ("UA_RESULT_BACKEND_URL",)
CONNECT_SECONDS: Final = 5
OURS_INSTEAD: Final = "start it, correct it, or unset {name} to get our own"
NONE_INSTEAD: Final = "start it, or correct {name}: a worker has no server of its own"


class GivenServerError(CorporationError):
    """A server that a variable names cannot be used; the message says which variable, and what to do."""

    code = "given_server"


def given_redis(environ: Mapping[str, str], advice: str = OURS_INSTEAD) -> str:
    """The address in UA_REDIS_URL or made of UA_REDIS_HOST and its like, which answers, or an empty text.

    Raises GivenServerError when it does not answer.
    """
    name = _first_set(environ, REDIS_NAMES)
    if name is None:
        return ""
    url = load_settings(environ).redis_url
    try:
        with redis.Redis.from_url(
            url, socket_timeout=CONNECT_SECONDS, socket_connect_timeout=CONNECT_SECONDS, retry=Retry(NoBackoff(), 0)
        ) as client:
            client.ping()
    except (redis.exceptions.RedisError, ValueError) as error:
        raise _refusal(name, url, error, advice) from None
    return url


def given_database(
    environ: Mapping[str, str], names: tuple[str, ...] = DATABASE_NAMES, advice: str = OURS_INSTEAD
) -> str:
    """The address in the first of `names` that is set, which answers, or an empty text; else GivenServerError."""
    name = _first_set(environ, names)
    if name is None:
        return ""
    try:
        url = "postgresql://" + environ[name].partition("://")[2]
        psycopg.connect(url, connect_timeout=CONNECT_SECONDS).close()
    except psycopg.Error as error:
        raise _refusal(name, environ[name], error, advice) from None
    return environ[name]


def _first_set(environ: Mapping[str, str], names: tuple[str, ...]) -> str | None:
    return next((name for name in names if environ.get(name, "").strip()), None)


def _refusal(name: str, url: str, error: Exception, advice: str) -> GivenServerError:
    lines = str(error).strip().splitlines()
    why = lines[0] if lines else type(error).__name__
    return GivenServerError(f"{name} names {shown(url)}, which cannot be used ({why}); {advice.format(name=name)}")
