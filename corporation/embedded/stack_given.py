"""Servers that the environment gives instead of ours: reached now, or refused in one line, before anything starts."""

from collections.abc import Mapping
from typing import Final

import psycopg
import redis
import redis.exceptions
from redis.backoff import NoBackoff
from redis.retry import Retry

from corporation.errors import CorporationError
from corporation.settings import shown

DATABASE_NAMES: Final = ("UA_DATABASE_URL", "DATABASE_URL")
CONNECT_SECONDS: Final = 5


class GivenServerError(CorporationError):
    """A server that a variable names cannot be used; the message says which variable, and what to do."""

    code = "given_server"


def given_redis(environ: Mapping[str, str]) -> str:
    """The address in UA_REDIS_URL, which answers, or an empty text; raises GivenServerError when it does not."""
    url = environ.get("UA_REDIS_URL", "")
    if url:
        try:
            with redis.Redis.from_url(
                url, socket_timeout=CONNECT_SECONDS, socket_connect_timeout=CONNECT_SECONDS, retry=Retry(NoBackoff(), 0)
            ) as client:
                client.ping()
        except (redis.exceptions.RedisError, ValueError) as error:
            raise GivenServerError(_advice("UA_REDIS_URL", url, error)) from None
    return url


def given_database(environ: Mapping[str, str]) -> str:
    """The address in UA_DATABASE_URL or DATABASE_URL, which answers, or an empty text; else GivenServerError."""
    name = next((name for name in DATABASE_NAMES if environ.get(name)), None)
    if name is None:
        return ""
    try:
        url = "postgresql://" + environ[name].partition("://")[2]
        psycopg.connect(url, connect_timeout=CONNECT_SECONDS).close()
    except psycopg.Error as error:
        raise GivenServerError(_advice(name, environ[name], error)) from None
    return environ[name]


def _advice(name: str, url: str, error: Exception) -> str:
    lines = str(error).strip().splitlines()
    why = lines[0] if lines else type(error).__name__
    return (
        f"{name} names {shown(url)}, which cannot be used ({why}); start it, correct it, or unset {name} to get our own"
    )
