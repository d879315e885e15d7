"""Embedded servers live exactly as long as their launcher: its death, however it comes, is theirs."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
import redis

from corporation.embedded.ports import free_port
from corporation.embedded.postgres import start_postgres
from corporation.embedded.postgres_place import home_of
from corporation.embedded.server_process import ServerError
from corporation.embedded.valkey import start_valkey

LAUNCHER = """
import sys
from pathlib import Path
from corporation.embedded.postgres import start_postgres
from corporation.embedded.valkey import start_valkey
folder, template = Path(sys.argv[1]), Path(sys.argv[2])
mode = sys.argv[3] if len(sys.argv) > 3 else None
servers = [start_valkey(folder / "v"), start_postgres(folder / "p", template=template, mode=mode, durable=False)]
print(*(word for server in servers for word in (server.pid, server.url)), flush=True)
sys.stdin.read()
"""

Launch = Callable[..., "tuple[subprocess.Popen[str], list[int], list[str]]"]

needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children with their launcher")


@pytest.fixture
def launch(tmp_path: Path, cluster_template: Path) -> Iterator[Launch]:
    """Starts a launcher of both servers below `tmp_path`; gives it, their ids and their addresses."""
    launchers: list[subprocess.Popen[str]] = []

    def launching(*mode: str) -> tuple[subprocess.Popen[str], list[int], list[str]]:
        argv = [sys.executable, "-c", LAUNCHER, str(tmp_path), str(cluster_template), *mode]
        launcher = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        launchers.append(launcher)
        assert launcher.stdout is not None
        words = launcher.stdout.readline().split()
        assert len(words) == 4, "the launcher failed; its error is above"
        return launcher, [int(words[0]), int(words[2])], [words[1], words[3]]

    yield launching
    for launcher in launchers:
        launcher.kill()
        launcher.communicate()


def lives(pid: int) -> bool:
    # A zombie is dead: it only waits for somebody to ask how it died.
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


MODES = [(), *([("drop",)] if os.geteuid() == 0 else [])]


@needs_linux
@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode[0] if mode else "default")
def test_a_killed_launcher_leaves_no_server_behind(
    launch: Launch, tmp_path: Path, wait_until: Callable[..., Any], mode: tuple[str, ...]
) -> None:
    launcher, pids, _ = launch(*mode)
    assert all(lives(pid) for pid in pids)

    launcher.kill()

    wait_until(lambda: not any(lives(pid) for pid in pids), what="both servers end")
    shutil.rmtree(home_of(tmp_path / "p"))


@needs_linux
def test_after_a_killed_launcher_the_next_start_finds_the_data(launch: Launch, tmp_path: Path) -> None:
    launcher, _, (redis_url, database_url) = launch()
    with redis.Redis.from_url(redis_url) as client:
        client.set("mission", "kept")
    with psycopg.connect(database_url) as connection:
        connection.execute("CREATE TABLE missions AS SELECT 7 AS id")
    launcher.kill()

    valkey = start_valkey(tmp_path / "v")
    postgres = start_postgres(tmp_path / "p", durable=False)

    with redis.Redis.from_url(valkey.url) as client, psycopg.connect(postgres.url) as connection:
        kept = client.get("mission"), connection.execute("SELECT id FROM missions").fetchone()
    valkey.stop()
    postgres.stop()
    assert kept == (b"kept", (7,))


def test_after_launcher_and_servers_were_killed_the_next_start_finds_the_data(launch: Launch, tmp_path: Path) -> None:
    launcher, pids, (_, database_url) = launch()
    with psycopg.connect(database_url) as connection:
        connection.execute("CREATE TABLE missions AS SELECT 7 AS id")
    for pid in (*pids, launcher.pid):
        os.kill(pid, signal.SIGKILL)

    valkey = start_valkey(tmp_path / "v")
    postgres = start_postgres(tmp_path / "p", durable=False)

    with psycopg.connect(postgres.url) as connection:
        kept = connection.execute("SELECT id FROM missions").fetchone()
    valkey.stop()
    postgres.stop()
    assert kept == (7,)


def test_two_launchers_at_once_give_one_server_and_one_clear_error(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", LAUNCHER.replace("template=template, ", ""), str(tmp_path), ""]
    pipe = subprocess.PIPE
    launchers = [subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe, text=True) for _ in range(2)]
    try:
        answers = [launcher.stdout.readline() for launcher in launchers if launcher.stdout]

        assert sorted(map(bool, answers)) == [False, True]
        assert "already running or starting" in launchers[answers.index("")].communicate()[1]
    finally:
        for launcher in launchers:
            launcher.kill()
            launcher.communicate()


def test_a_thread_may_not_start_a_server_that_would_end_with_it(tmp_path: Path) -> None:
    errors: list[ServerError] = []

    def try_it() -> None:
        try:
            start_valkey(tmp_path / "v")
        except ServerError as error:
            errors.append(error)

    thread = threading.Thread(target=try_it)
    thread.start()
    thread.join(10)

    assert "start it from the main one" in str(errors[0])


def test_a_preferred_port_is_taken_only_when_it_is_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        taken = listener.getsockname()[1]
        other = free_port(taken)

    assert other != taken
    assert free_port(taken) == taken
