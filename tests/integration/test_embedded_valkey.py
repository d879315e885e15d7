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
from redis.exceptions import NoPermissionError
from redis.retry import Retry

from corporation.embedded import valkey
from corporation.embedded.server_process import Server, ServerError
from corporation.embedded.valkey import PASSWORDS, knows_setinfo, passwords_of, start_valkey

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


def test_each_user_may_do_what_its_rules_say_and_has_a_password_that_stays(start: Start, tmp_path: Path) -> None:
    rules = {"f_desk": ("resetkeys", "resetchannels", "clearselectors", "-@all", "+ping", "(~own +get +set)")}
    first = start(tmp_path / "v", users=rules)
    passwords = passwords_of(tmp_path / "v")
    with redis.Redis(port=first.port, username="f_desk", password=passwords["f_desk"]) as factory:
        assert factory.set("own", "1")
        with pytest.raises(NoPermissionError):
            factory.set("others", "1")
    with redis.Redis.from_url(first.url) as operator:
        operator.execute_command("ACL", "SETUSER", "f_desk", "~*", "+@all")
        operator.execute_command("ACL", "SETUSER", "f_joined", "on", ">of-the-doorkeeper", "+ping")
        operator.execute_command("ACL", "SAVE")
    first.stop()

    again = start(tmp_path / "v", users=rules)

    assert passwords_of(tmp_path / "v") == passwords
    assert (tmp_path / "v" / PASSWORDS).stat().st_mode & 0o077 == 0
    with (
        redis.Redis(port=again.port, username="f_desk", password=passwords["f_desk"]) as factory,
        pytest.raises(NoPermissionError),
    ):
        factory.set("others", "1")
    with redis.Redis(port=again.port, username="f_joined", password="of-the-doorkeeper") as joined:
        assert joined.ping()


def test_the_server_that_comes_along_knows_what_clients_tell_of_themselves() -> None:
    assert knows_setinfo()


@pytest.mark.parametrize(("said", "knows"), [("Redis server v=7.0.15 sha=0", False), ("Redis server v=7.10.0", True)])
def test_of_a_redis_the_version_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, knows: bool
) -> None:
    program = tmp_path / "redis-server"
    program.write_text(f"#!/bin/sh\necho '{said}'\n")
    program.chmod(0o755)
    monkeypatch.setattr(valkey, "find_valkey", lambda: program)

    assert knows_setinfo() is knows


def test_passwords_that_cannot_be_read_are_made_anew(start: Start, tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    (tmp_path / "v" / PASSWORDS).write_text("half a fi")
    server = start(tmp_path / "v", users={"f_desk": ("+ping",)})

    with redis.Redis(port=server.port, username="f_desk", password=passwords_of(tmp_path / "v")["f_desk"]) as factory:
        assert factory.ping()


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


def test_no_value_is_larger_than_any_message_needs_and_what_an_older_version_took_is_kept(
    start: Start, tmp_path: Path
) -> None:
    before = start(tmp_path / "v")
    with redis.Redis.from_url(before.url) as client:
        client.config_set("proto-max-bulk-len", 512 * 1024 * 1024)
        client.set("old", b"x" * 9_000_000)
    before.stop()

    with redis.Redis.from_url(start(tmp_path / "v").url, retry=NO_RETRY) as client:
        assert client.strlen("old") == 9_000_000
        assert client.set("new", b"x" * 5_000_000)
        with pytest.raises(redis.RedisError):  # the answer, or the connection that it closes behind it
            client.set("new", b"x" * 9_000_000)


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
