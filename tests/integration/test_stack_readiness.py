"""When the supervisor takes a process for ready, and whom it does not take for one of its own."""

import os
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, cast

import pytest

from corporation.cli.session import member_row
from corporation.embedded.stack import Member, Supervisor
from corporation.embedded.stack_environment import Stack
from corporation.embedded.stack_plan import ProcessPlan, plan_of
from corporation.embedded.stack_readiness import seems_ready
from corporation.embedded.stack_state import StateFolder

NOT_OURS = os.getppid()


class Answering(BaseHTTPRequestHandler):
    """Answers every question with the server's status."""

    def do_GET(self) -> None:
        self.send_response(cast(Somebody, self.server).status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        return


class Somebody(ThreadingHTTPServer):
    """A program that listens in this process."""

    daemon_threads = True
    status = 200


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


def test_another_program_on_the_port_is_not_taken_for_our_flower(stack: Stack) -> None:
    flower = plan_for(stack, "flower")

    assert not seems_ready(flower, stack, NOT_OURS)
    assert seems_ready(flower, stack, os.getpid())


HIDDEN = """
import os, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
import encodings.idna, httpx, psutil
from corporation.embedded.stack_environment import Stack
from corporation.embedded.stack_plan import ProcessPlan
from corporation.embedded.stack_readiness import seems_ready
from corporation.own_process import hide_environment

class Answering(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_error(401)
    def log_message(self, *_):
        pass

try:
    httpx.get("http://127.0.0.1:1", trust_env=False)  # loads what it loads late
except httpx.HTTPError:
    pass
os.setgroups([]); os.setgid(65534); os.setuid(65534)
reading, writing = os.pipe()
child = os.fork()
if child == 0:
    hide_environment()
    server = HTTPServer(("127.0.0.1", 0), Answering)
    os.write(writing, str(server.server_address[1]).encode())
    server.serve_forever()
port = int(os.read(reading, 10))
stack = Stack(Path("/"), "", "desk", "", "", 1, port, "", "", "", {})
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
def test_a_flower_that_hides_from_its_own_user_is_believed() -> None:
    # Imported as root and then dropped, since the interpreter itself may lie where nobody may go.
    run = subprocess.run([sys.executable, "-c", HIDDEN], capture_output=True, text=True, timeout=60, check=False)

    assert run.stdout == "hidden\nTrue\n", run.stderr


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
