"""Valkey in a folder: what it keeps, what it refuses, and that it never outlives whoever started it."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from corporation.embedded.server_process import Server, ServerError
from corporation.embedded.valkey import start_valkey

Start = Callable[..., Server]
NO_RETRY = Retry(NoBackoff(), 0)


@pytest.fixture
def start() -> Iterator[Start]:
    """`start_valkey`, and at the end nothing that it started is left."""
    started: list[Server] = []

    def starting(folder: Path, **options: Any) -> Server:
        started.append(start_valkey(folder, **options))
        return started[-1]

    yield starting
    for server in started:
        server.stop()


def test_data_and_users_survive_a_restart(start: Start, tmp_path: Path) -> None:
    first = start(tmp_path / "v")
    with redis.Redis.from_url(first.url) as client:
        client.set("mission", "kept")
        client.execute_command("ACL", "SETUSER", "factory", "on", ">secret", "~*", "+@all")
        client.execute_command("ACL", "SAVE")
    first.stop()

    again = start(tmp_path / "v", port=first.port)

    assert again.url == first.url
    with redis.Redis(port=again.port, username="factory", password="secret") as client:
        assert client.get("mission") == b"kept"


def test_what_was_handed_to_the_system_survives_kill_9(
    start: Start, tmp_path: Path, wait_until: Callable[..., Any]
) -> None:
    server = start(tmp_path / "v")
    with redis.Redis.from_url(server.url) as client, client.pipeline(transaction=False) as pipeline:
        for number in range(5000):
            pipeline.rpush("queue", number)
        pipeline.execute()
        # While an fsync is slow the server keeps writes back for up to two seconds.
        wait_until(lambda: client.info("persistence")["aof_buffer_length"] == 0, 10, "all is written")
    os.kill(server.pid, signal.SIGKILL)

    again = start(tmp_path / "v")

    with redis.Redis.from_url(again.url) as client:
        assert client.llen("queue") == 5000


def test_it_never_evicts_and_writes_every_change_to_disk(start: Start, tmp_path: Path) -> None:
    with redis.Redis.from_url(start(tmp_path / "v").url) as client:
        settings = client.config_get("maxmemory-policy", "appendonly", "appendfsync", "bind")

    assert settings == {
        "maxmemory-policy": "noeviction",
        "appendonly": "yes",
        "appendfsync": "everysec",
        "bind": "127.0.0.1",
    }


def test_nobody_gets_in_without_the_password(start: Start, tmp_path: Path) -> None:
    server = start(tmp_path / "v")

    with redis.Redis(port=server.port, retry=NO_RETRY) as client, pytest.raises(redis.AuthenticationError):
        client.ping()


def test_the_password_is_in_no_command_line_log_or_representation_and_for_the_owner_only(
    start: Start, tmp_path: Path
) -> None:
    server = start(tmp_path / "v")
    password = (tmp_path / "v" / "password").read_text().strip()

    assert password in server.url
    assert password not in " ".join(psutil.Process(server.pid).cmdline()) + server.log.read_text() + repr(server)
    assert password not in "".join(psutil.Process(server.pid).environ().values())
    for name in ("password", "valkey.conf", "users.acl", "valkey.log"):
        assert (tmp_path / "v" / name).stat().st_mode & 0o077 == 0, name


def test_a_path_with_spaces_and_quotes_works(start: Start, tmp_path: Path) -> None:
    folder = tmp_path / 'a "quoted" folder, ünd\\more'

    with redis.Redis.from_url(start(folder).url) as client:
        assert client.ping()


def test_a_second_start_in_the_same_folder_names_the_first_and_harms_nothing(start: Start, tmp_path: Path) -> None:
    server = start(tmp_path / "v")

    with pytest.raises(ServerError, match=f"already running.*process {server.pid}"):
        start(tmp_path / "v")

    with redis.Redis.from_url(server.url) as client:
        assert client.ping()


def test_a_taken_port_is_refused_with_the_reason(start: Start, tmp_path: Path) -> None:
    server = start(tmp_path / "v")

    with pytest.raises(ServerError, match=r"(?s)its port is taken.*Address already in use"):
        start(tmp_path / "other", port=server.port)


def test_stopping_twice_is_safe(start: Start, tmp_path: Path) -> None:
    server = start(tmp_path / "v")

    server.stop()
    server.stop()

    assert server.process.returncode == 0


def test_a_server_that_ignores_the_signal_is_killed_after_the_timeout(start: Start, tmp_path: Path) -> None:
    server = start(tmp_path / "v")
    os.kill(server.pid, signal.SIGSTOP)

    server.stop(timeout_seconds=0.2)

    assert server.process.returncode == -signal.SIGKILL


def test_a_folder_that_cannot_be_made_is_refused_with_the_reason(start: Start, tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(ServerError, match=r"cannot be used \(Not a directory"):
        start(tmp_path / "file" / "v")
