"""Servers that the environment gives instead of ours: reached now, or refused in one line, before anything starts."""

from collections.abc import Mapping
from typing import Final

import psycopg
import redis
import redis.exceptions

from corporation.broker_link import open_own_link
from corporation.embedded.connection_causes import cause_of
from corporation.embedded.stack_addresses import DATABASE_NAMES, REDIS_NAMES, first_set
from corporation.errors import GivenServerError
from corporation.settings import load_settings
from corporation.shown_address import shown

CONNECT_SECONDS: Final = 5
OURS_INSTEAD: Final = "start it, correct it, or unset {name} to get our own"
NONE_INSTEAD: Final = "start it, or correct {name}: a worker has no server of its own"


def given_redis(environ: Mapping[str, str], advice: str = OURS_INSTEAD) -> str:
    """The address in UA_REDIS_URL or made of UA_REDIS_HOST and its like, which answers, or an empty text.

    Raises GivenServerError when it does not answer.
    """
    name = first_set(environ, REDIS_NAMES)
    if name is None:
        return ""
    settings = load_settings(environ)
    try:
        with open_own_link(settings, CONNECT_SECONDS) as client:
            client.ping()
    except (redis.exceptions.RedisError, OSError, ValueError) as error:
        raise _refusal(name, settings.redis_url, error, advice) from None
    return settings.redis_url


def given_database(
    environ: Mapping[str, str], names: tuple[str, ...] = DATABASE_NAMES, advice: str = OURS_INSTEAD
) -> str:
    """The address in the first of `names` that is set, which answers, or an empty text; else GivenServerError."""
    name = first_set(environ, names)
    if name is None:
        return ""
    try:
        url = "postgresql://" + environ[name].partition("://")[2]
        psycopg.connect(url, connect_timeout=CONNECT_SECONDS).close()
    except (psycopg.Error, ValueError) as error:
        raise _refusal(name, environ[name], error, advice) from None
    return environ[name]


def _refusal(name: str, url: str, error: Exception, advice: str) -> GivenServerError:
    what = f"{name} names {shown(url)}, which cannot be used: {cause_of(error)}"
    return GivenServerError(
        f"{what}; {advice.format(name=name)}", is_away=_is_away(error), refuses_us=_refuses_us(error)
    )


def _is_away(error: Exception) -> bool:
    gone = (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError, OSError)
    return isinstance(error, gone) and not _refuses_us(error)


def _refuses_us(error: Exception) -> bool:
    return isinstance(error, redis.exceptions.AuthenticationError)
