"""When the supervisor takes a process for ready, and whom it does not take for one of its own."""

import os
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, cast

import pytest

from corporation.cli import stack_building
from corporation.cli.launch import launch_of
from corporation.cli.session import member_row
from corporation.embedded.listeners import owners_of_port
from corporation.embedded.stack import Member, Supervisor
from corporation.embedded.stack_environment import Stack
from corporation.embedded.stack_facts import facts_of
from corporation.embedded.stack_plan import ProcessPlan, plan_of
from corporation.embedded.stack_readiness import seems_ready
from corporation.embedded.stack_state import StateFolder

NOT_OURS = os.getppid()


OURS = "Basic " + b64encode(b"corporation:f").decode()
"""What Flower of `stack` takes."""


class Answering(BaseHTTPRequestHandler):
    """Answers every question with the server's status, but for those who show what it takes: they get 200."""

    def do_GET(self) -> None:
        server, shown = cast(Somebody, self.server), self.headers["authorization"]
        server.shown.append(shown)
        self.send_response(200 if server.takes and shown == server.takes else server.status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        return


class Somebody(ThreadingHTTPServer):
    """A program that listens in this process."""

    daemon_threads = True
    status = 200
    takes = ""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.shown: list[str | None] = []


@pytest.fixture
def somebody() -> Iterator[Somebody]:
    server = Somebody(("127.0.0.1", 0), Answering)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join(10)
    server.server_close()


@pytest.fixture
def stack(tmp_path: Path, somebody: Somebody) -> Stack:
    """A stack that believes `somebody`'s port to be its API's and its Flower's."""
    StateFolder(tmp_path).prepare()
    port = somebody.server_address[1]
    return Stack(tmp_path, sys.executable, "desk", "redis://h", "postgresql://h/x", port, port, "t", "j", "f", {})


def plan_for(stack: Stack, name: str) -> ProcessPlan:
    return next(plan for plan in plan_of(stack) if plan.name == name)


def test_another_program_that_looks_healthy_is_not_taken_for_our_api(stack: Stack, somebody: Somebody) -> None:
    api = plan_for(stack, "api")
    assert not seems_ready(api, stack, os.getpid())

    stack.folder.ready_file("api").touch()
    assert seems_ready(api, stack, os.getpid())

    somebody.status = 503
    assert not seems_ready(api, stack, os.getpid())


def test_another_program_on_the_port_is_not_taken_for_our_flower(stack: Stack, somebody: Somebody) -> None:
    somebody.status, somebody.takes = 401, OURS
    flower = plan_for(stack, "flower")

    assert not seems_ready(flower, stack, NOT_OURS)
    assert somebody.shown == []
    assert seems_ready(flower, stack, os.getpid())


@pytest.mark.parametrize(
    ("status", "takes", "shown"),
    [
        (200, "", [None]),
        (404, "", [None]),
        (401, "Basic another", [None, OURS]),
    ],
    ids=["asks for nothing", "knows no such page", "has another password"],
)
def test_what_does_not_ask_for_our_password_and_take_it_is_not_our_flower(
    stack: Stack, somebody: Somebody, status: int, takes: str, shown: list[str | None]
) -> None:
    """Whoever asks for none is never shown it."""
    somebody.status, somebody.takes = status, takes

    assert not seems_ready(plan_for(stack, "flower"), stack, os.getpid())
    assert somebody.shown == shown


def test_the_kernel_names_the_user_behind_a_port(somebody: Somebody) -> None:
    owners = owners_of_port(somebody.server_address[1])

    assert owners == ({os.geteuid()} if sys.platform == "linux" else None)
    assert not owners_of_port(1)


HIDDEN = """
import os, signal, sys
from base64 import b64encode
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
import encodings.idna, httpx, psutil
from corporation.embedded.stack_environment import Stack
from corporation.embedded.stack_plan import ProcessPlan
from corporation.embedded.stack_readiness import seems_ready
from corporation.own_process import hide_environment

OURS = "Basic " + b64encode(b"corporation:f").decode()

class Answering(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_error(200 if self.headers["authorization"] == OURS else 401)
    def log_message(self, *_):
        pass

try:
    httpx.get("http://127.0.0.1:1", trust_env=False)  # loads what it loads late
except httpx.HTTPError:
    pass
reading, writing = os.pipe()

def listen():
    server = HTTPServer(("127.0.0.1", 0), Answering)
    os.write(writing, str(server.server_address[1]).encode())
    server.serve_forever()

is_stranger = sys.argv[1] == "stranger"
if is_stranger:  # root's, who even knows the password
    Thread(target=listen, daemon=True).start()
launcher = os.fork()
if launcher:
    os.waitpid(launcher, 0)
    os._exit(0)
os.setgroups([]); os.setgid(65534); os.setuid(65534)
child = os.fork()
if child == 0:
    hide_environment()
    signal.pause() if is_stranger else listen()
port = int(os.read(reading, 10))
stack = Stack(Path("/"), "", "desk", "", "", 1, port, "", "", "f", {})
plan = ProcessPlan("flower", (), "answers", (), stack.flower_url, port=port)
try:
    psutil.Process(child).net_connections()
except psutil.AccessDenied:
    print("hidden")
try:
    print(seems_ready(plan, stack, child))
finally:
    os.kill(child, 9)
    os.waitpid(child, 0)
"""


@pytest.mark.skipif(os.geteuid() != 0 or sys.platform != "linux", reason="only root can become another user")
@pytest.mark.parametrize(("listens", "believed"), [("itself", True), ("stranger", False)])
def test_of_a_flower_that_hides_from_its_own_user_the_port_is_believed_where_that_user_listens(
    listens: str, believed: bool
) -> None:
    # Imported as root and then dropped, since the interpreter itself may lie where nobody may go.
    command = [sys.executable, "-c", HIDDEN, listens]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert run.stdout == f"hidden\n{believed}\n", run.stderr


def test_flower_stays_where_it_moved_to_while_its_usual_port_is_taken(
    stack: Stack, somebody: Somebody, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run after run, and it is back on its usual port once that is free."""
    monkeypatch.setattr(stack_building, "FLOWER_PORT", somebody.server_address[1])
    launch, ports = launch_of(None, {"UA_DOTENV_PATH": os.devnull}), list[int]()
    for _ in range(3):
        built = stack_building.stack_for(stack.folder, launch, None, None)
        stack.folder.write_facts(facts_of(built, {}))
        ports.append(built.flower_port)
    somebody.shutdown()
    somebody.server_close()
    back = stack_building.stack_for(stack.folder, launch, None, None).flower_port

    assert ports[0] != somebody.server_address[1]
    assert ports == [ports[0]] * 3
    assert back == somebody.server_address[1]


def test_a_poller_that_cannot_poll_holds_nothing_up_and_polling_is_shown_once_it_does(stack: Stack) -> None:
    poller = ProcessPlan("telegram", (sys.executable, "-c", "import time; time.sleep(600)"), "runs", busy="polling")
    supervisor = Supervisor(stack, [poller])
    try:
        supervisor.tick(0)
        supervisor.tick(1)
        [member] = supervisor.members
        before = member_row(member, stack.folder).address
        stack.folder.ready_file("telegram").touch()

        assert supervisor.ready
        assert (before, member_row(member, stack.folder).address) == ("", "polling")
    finally:
        supervisor.stop(lambda: True)
    assert member_row(member, stack.folder).address == ""


def test_the_poller_of_a_stack_says_that_it_polls(stack: Stack) -> None:
    assert Member(plan_for(stack, "telegram")).plan.busy == "polling"
