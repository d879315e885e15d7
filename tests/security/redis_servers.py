"""Both servers that Corporation runs on, fresh, and users of every kind on them."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from redis_seven import NoRedisSevenError, redis_seven

from corporation.embedded.valkey import start_valkey
from corporation.trust.redis_acl import Acl
from corporation.trust.redis_address import with_user

KINDS = ("valkey 9", "redis 7")
PASSWORD = "a-password-for-one-minute-on-loopback"


@contextmanager
def fresh_server(kind: str, folder: Path) -> Generator[str]:
    """The address, for everything, of a server that nobody else uses; ended with the block."""
    if kind == "valkey 9":
        started = start_valkey(folder)
        yield started.url
        started.stop()
        return
    try:
        with redis_seven(folder) as url:
            yield url
    except NoRedisSevenError as error:
        pytest.skip(str(error))


def make_user(admin: "redis.Redis", url: str, name: str, rules: Callable[..., tuple[str, ...]]) -> str:
    """The address at which the user `name` may do what `rules(has_setinfo=…)` say for this server."""
    words = rules(has_setinfo=Acl(admin).has_setinfo())
    Acl(admin).put(name, (*words, "on", "resetpass", f">{PASSWORD}"))
    return with_user(url, name, PASSWORD)


def refusals(admin: "redis.Redis") -> list[tuple[str, str]]:
    """Whom the server refused something since its log was emptied, and what."""
    return [(one.user, one.what) for one in Acl(admin).refusals()]


def forget_refusals(admin: "redis.Redis") -> None:
    """The log of refusals is empty."""
    answer: Any = admin.execute_command("ACL", "LOG", "RESET")
    assert answer in (True, b"OK")
