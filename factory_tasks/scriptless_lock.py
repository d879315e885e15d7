"""The lock around kombu's sweep for unacknowledged messages, without the Lua script that redis-py releases locks with.

A factory may run no scripts: one that loops stops Redis for everybody. kombu 5.7.0 looks the lock up by its name in its
own module; `tests/security/test_redis_lock.py` fails when it stops doing so.
"""

from collections.abc import Generator
from contextlib import contextmanager
from secrets import token_bytes
from typing import Any

from kombu.transport import redis as kombu_redis
from redis.exceptions import WatchError


@contextmanager
def scriptless_lock(client: Any, name: str, expire: int) -> Generator[None]:
    """The block runs while nobody else of those who use this name runs theirs, for at most `expire` seconds.

    Raises kombu's MutexHeld when somebody does, and what redis-py raises. Uses SET, WATCH, GET, MULTI, DEL, EXEC.
    """
    ours = token_bytes(16)
    if not client.set(name, ours, nx=True, ex=expire):
        raise kombu_redis.MutexHeld
    try:
        yield
    finally:
        _release(client, name, ours)


def _release(client: Any, name: str, ours: bytes) -> None:
    """The lock is free unless somebody else has it, because ours had expired."""
    with client.pipeline() as pipe:
        pipe.watch(name)
        if pipe.get(name) != ours:
            return
        pipe.multi()
        pipe.delete(name)
        try:
            pipe.execute()
        except WatchError:
            return  # it expired between the look and the end, and changed hands


def install() -> None:
    """Every Redis channel of this process sweeps under this lock; safe to call twice."""
    kombu_redis.Mutex = scriptless_lock
