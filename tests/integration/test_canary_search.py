"""The search for secrets also looks into rows and keys, whatever their type."""

import base64
import shutil
from collections.abc import Iterator

import psycopg
import pytest
import redis
from canary import leaks_in_database, leaks_in_redis, secret

from corporation.embedded.valkey import start_valkey

SECRET = secret("planted")
# Unlogged: the search at the end of the run looks into the write-ahead log too, and is meant to find nothing there.


@pytest.mark.parametrize("column", ["text", "json", "bytea"])
def test_a_secret_in_a_row_is_found(empty_database_url: str, column: str) -> None:
    value = {"text": SECRET, "json": f'{{"a": ["{SECRET}"]}}', "bytea": SECRET.encode()}[column]
    with psycopg.connect(empty_database_url, autocommit=True) as db:
        assert not leaks_in_database(db)
        db.execute(f"CREATE UNLOGGED TABLE found (content {column})".encode())
        db.execute("INSERT INTO found VALUES (%s)", [value])
        assert leaks_in_database(db) == ["a row of public.found holds a secret"]
        db.execute("DROP TABLE found")


@pytest.fixture(scope="module")
def own_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of this module's own, since its files will hold what the search at the end must not find."""
    folder = tmp_path_factory.mktemp("own-valkey")
    server = start_valkey(folder)
    yield server.url
    server.stop()
    shutil.rmtree(folder)


@pytest.mark.parametrize("kind", ["string", "list", "hash", "set", "zset", "stream", "key"])
def test_a_secret_in_redis_is_found(own_redis: str, kind: str) -> None:
    with redis.Redis.from_url(own_redis) as client:
        client.flushall()
        client.set("innocent", "word")
        assert not leaks_in_redis(own_redis)
        match kind:
            case "string":
                client.set("k", base64.b64encode(SECRET.encode()))
            case "list":
                client.rpush("k", "a", SECRET)
            case "hash":
                client.hset("k", "field", SECRET)
            case "set":
                client.sadd("k", SECRET)
            case "zset":
                client.zadd("k", {SECRET: 1})
            case "stream":
                client.xadd("k", {"envelope": SECRET})
            case _:
                client.set(SECRET, "v")
        assert len(leaks_in_redis(own_redis)) == 1
