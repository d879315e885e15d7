"""The API as a process: it explains why it does not start, and serves when it may."""

import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from socket import create_server

import httpx
import pytest

TOKEN = "the-ops-token-of-this-test"
COMMANDS = {
    "own": [sys.executable, "-m", "hq_api"],
    "uvicorn": [sys.executable, "-m", "uvicorn", "hq_api.app:app"],
}


def environment(**ours: str) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], **ours}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS.keys())
@pytest.mark.parametrize(
    ("ours", "names"),
    [
        ({"UA_OPS_TOKEN": TOKEN, "UA_GATEWAY_PORT": "x"}, ["UA_DATABASE_URL", "UA_GATEWAY_PORT"]),
        ({"UA_DATABASE_URL": "postgresql://127.0.0.1:1/x"}, ["UA_OPS_TOKEN", "UA_OPS_JWT_SECRET"]),
        ({"UA_OPS_TOKEN": TOKEN, "UA_DATABASE_URL": "mysql://u:hunter2@x/y"}, ["UA_DATABASE_URL"]),
    ],
)
def test_a_wrong_environment_is_explained_and_ends_with_78(
    command: list[str], ours: dict[str, str], names: list[str]
) -> None:
    ended = subprocess.run(command, env=environment(**ours), capture_output=True, text=True, timeout=60, check=False)

    assert ended.returncode == 78
    assert all(name in ended.stderr for name in names)
    for unwanted in (TOKEN, "hunter2", "Traceback"):
        assert unwanted not in ended.stderr


def test_importing_the_application_reads_no_environment() -> None:
    code = "import hq_api.app, hq_api.__main__"

    subprocess.run([sys.executable, "-c", code], env=environment(), timeout=60, check=True)


def free_port() -> int:
    with create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextmanager
def running(command: list[str], ours: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, env=environment(**ours))
    try:
        yield process
    finally:
        process.kill()
        process.wait(10)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_process_serves_on_loopback_and_ends_when_told(
    name: str, database_url: str, wait_until: Callable[..., None]
) -> None:
    port = free_port()
    command = [*COMMANDS[name], "--port", str(port)] if name == "uvicorn" else COMMANDS[name]
    ours = {"UA_OPS_TOKEN": TOKEN, "UA_DATABASE_URL": database_url, "UA_GATEWAY_PORT": str(port)}
    url = f"http://127.0.0.1:{port}"

    def healthy() -> bool:
        with suppress(httpx.TransportError):
            return httpx.get(url + "/api/v1/health").status_code == 200
        return False

    with running(command, ours) as process:
        wait_until(healthy, 30)
        published = httpx.post(
            url + "/api/v1/delegation/publish", json={"payload": {"task": "x"}}, headers={"x-ua-ops-token": TOKEN}
        )
        process.send_signal(signal.SIGTERM)

        assert published.status_code == 202
        # After an orderly end uvicorn dies of the signal it got, as supervisors expect.
        assert process.wait(15) in (0, -signal.SIGTERM)


def test_the_ready_file_is_there_while_the_process_listens(
    database_url: str, tmp_path: Path, wait_until: Callable[..., None]
) -> None:
    ready, port = tmp_path / "ready", free_port()
    ours = {
        "UA_OPS_TOKEN": TOKEN,
        "UA_DATABASE_URL": database_url,
        "UA_GATEWAY_PORT": str(port),
        "UA_READY_FILE": str(ready),
    }
    with running(COMMANDS["own"], ours) as process:
        wait_until(ready.exists, 30, "the ready file")
        answer = httpx.get(f"http://127.0.0.1:{port}/api/v1/hooks/readyz")
        process.send_signal(signal.SIGTERM)
        process.wait(15)

    assert answer.status_code == 200
    assert not ready.exists()


def test_a_process_that_cannot_listen_removes_the_ready_file_that_a_killed_one_left(
    database_url: str, tmp_path: Path
) -> None:
    ready = tmp_path / "ready"
    ready.touch()
    with create_server(("127.0.0.1", 0)) as taken:
        ours = {
            "UA_OPS_TOKEN": TOKEN,
            "UA_DATABASE_URL": database_url,
            "UA_GATEWAY_PORT": str(taken.getsockname()[1]),
            "UA_READY_FILE": str(ready),
        }
        ended = subprocess.run(COMMANDS["own"], env=environment(**ours), capture_output=True, timeout=60, check=False)

    assert ended.returncode == 3
    assert not ready.exists()


def test_a_fleets_connections_do_not_close_the_door(
    database_url: str, tmp_path: Path, wait_until: Callable[..., None]
) -> None:
    """Each mission that is told about holds one; the process raises its own limit of open files for them."""
    ready, port = tmp_path / "ready", free_port()
    ours = {
        "UA_OPS_TOKEN": TOKEN,
        "UA_DATABASE_URL": database_url,
        "UA_GATEWAY_PORT": str(port),
        "UA_READY_FILE": str(ready),
    }
    low = ["bash", "-c", 'ulimit -S -n 128; exec "$@"', "bash", *COMMANDS["own"]]
    with running(low, ours) as process, ExitStack() as held:
        wait_until(ready.exists, 30, "the ready file")
        for _ in range(300):
            held.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
        answer = httpx.get(f"http://127.0.0.1:{port}/api/v1/health", timeout=30)
        soft, hard = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)

    assert answer.status_code == 200
    assert soft == (65536 if hard == resource.RLIM_INFINITY else min(hard, 65536))
