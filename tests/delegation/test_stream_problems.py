"""What is wrong with a stream is named by the word that Redis has for it."""

from collections.abc import Iterator

import pytest
import redis

from corporation.delegation.keys import StreamKeys
from corporation.delegation.watching import look

KEYS = StreamKeys(missions="ua:missions", dead_letters="ua:dlq", group="ua_workers", consumer="worker_hq")


@pytest.fixture
def only_missions(redis_url: str) -> Iterator[redis.Redis]:
    """A client that may touch the mission stream and nothing else."""
    with redis.Redis.from_url(redis_url) as admin:
        admin.execute_command("ACL", "SETUSER", "narrow", "on", "nopass", "~ua:missions", "+@all")
        with redis.Redis.from_url(redis_url, username="narrow", password="any") as client:
            yield client
        admin.execute_command("ACL", "DELUSER", "narrow")


def test_a_missing_right_is_called_noperm(only_missions: redis.Redis) -> None:
    only_missions.xadd(KEYS.missions, {"envelope": "{}"})

    status = look(only_missions, KEYS, now_ms=0)

    assert (status.missions.problem, status.missions.length) == ("", 1)
    assert status.results.problem == "NOPERM"
    assert status.dead_letters.problem == "NOPERM"


def test_a_key_of_another_type_is_called_wrongtype(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.set(KEYS.missions, "no stream")

        status = look(client, KEYS, now_ms=0)

    assert status.missions.problem == "WRONGTYPE"
    assert status.group_exists is False
