"""What the command line makes of HQ's answers, against an HTTP server that answers as it is told."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO, StringIO, TextIOWrapper
from pathlib import Path
from queue import SimpleQueue
from threading import Event, Thread
from typing import Any
from unittest.mock import patch

import pytest

from corporation.cli import app
from corporation.embedded.stack_environment import Stack
from corporation.embedded.stack_facts import facts_of
from corporation.embedded.stack_state import StateFolder

COMMAND = [sys.executable, "-m", "corporation.cli"]
TOKEN = "the-ops-token-of-this-test"
STORED = {"job_id": "j-1", "state": "queued", "location": "/api/v1/missions/j-1", "created": True}


class Answering(BaseHTTPRequestHandler):
    """Answers each request with the next of the server's answers; the last one stays."""

    protocol_version = "HTTP/1.1"
    server: "Headquarters"

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.server.requests.append((self.command, self.path, dict(self.headers.items()), body))
        self.server.asked.set()
        answers = self.server.answers
        status, headers, reply = answers.pop(0) if len(answers) > 1 else answers[0]
        if status == 0:  # never answers: until the test lets go
            self.server.let_go.wait(60)
            self.close_connection = True
            return
        data = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
        self.send_response(status)
        for name, value in {"content-type": "application/json", **headers, "content-length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_DELETE = answer

    def log_message(self, format: str, *args: Any) -> None:
        return


class Headquarters(ThreadingHTTPServer):
    """The server, what it is to answer, and what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answering)
        self.answers: list[tuple[int, dict[str, str], Any]] = [(202, {}, STORED)]
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []
        self.asked = Event()
        self.let_go = Event()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


@pytest.fixture
def hq() -> Iterator[Headquarters]:
    server = Headquarters()
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.let_go.set()
    server.shutdown()
    thread.join(10)
    server.server_close()


def environment(hq: Headquarters, **more: str) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "UA_HQ_BASE_URL": hq.url, "UA_OPS_TOKEN": TOKEN, **more}


def run(hq: Headquarters, *arguments: str, stdin: str = "", **more: str) -> subprocess.CompletedProcess[str]:
    """Run the command in this process, which is a hundred times faster; it sees no environment but its own."""
    out, err = StringIO(), StringIO()
    with patch.dict(os.environ, environment(hq, **more), clear=True), redirect_stdout(out), redirect_stderr(err):
        given, sys.stdin = sys.stdin, TextIOWrapper(BytesIO(stdin.encode()))
        try:
            status = app.run(list(arguments))
        finally:
            sys.stdin = given
    return subprocess.CompletedProcess(list(arguments), status, out.getvalue(), err.getvalue())


@pytest.mark.parametrize(
    ("status", "exit_code"), [(401, 77), (403, 77), (404, 66), (409, 65), (422, 65), (429, 75), (503, 75), (500, 70)]
)
def test_every_refusal_has_its_exit_status_and_one_sentence(hq: Headquarters, status: int, exit_code: int) -> None:
    hq.answers = [(status, {"retry-after": "0"}, {"detail": "the reason that HQ gave"})]

    ended = run(hq, "publish", "x")

    assert ended.returncode == exit_code
    assert "the reason that HQ gave" in ended.stderr
    assert hq.url in ended.stderr
    assert "Traceback" not in ended.stderr
    assert TOKEN not in ended.stderr


@pytest.mark.parametrize("command", [("missions", "list"), ("doctor",)])
def test_a_refused_token_is_named_with_the_place_it_came_from(
    hq: Headquarters, tmp_path: Path, command: tuple[str, ...]
) -> None:
    file = tmp_path / "own.env"
    file.write_text(f"UA_OPS_TOKEN={TOKEN}\n")
    at = ("--state-dir", str(tmp_path / "none"))
    hq.answers = [(401, {}, {"detail": "Unauthorized", "status": "healthy"})]

    given = run(hq, *command, *at)
    without = {name: word for name, word in environment(hq).items() if name != "UA_OPS_TOKEN"}
    with patch("test_cli_requests.environment", lambda _, **more: without | more):
        from_file = run(hq, *command, *at, UA_DOTENV_PATH=str(file))

    said = [ended.stdout + ended.stderr for ended in (given, from_file)]
    assert "does not accept the token from UA_OPS_TOKEN in the environment (401" in said[0]
    assert f"does not accept the token from UA_OPS_TOKEN in {file} (401" in said[1]
    assert TOKEN not in "".join(said)


def test_a_node_without_a_fleet_is_not_answered_with_advice_about_tokens(hq: Headquarters) -> None:
    detail = "forbidden: this node is a STANDALONE_NODE and keeps no fleet, so no token helps; ask headquarters"
    hq.answers = [(403, {}, {"detail": detail})]
    of_node = run(hq, "missions", "list")
    hq.answers = [(403, {}, {"detail": "forbidden: this needs the scope ops"})]
    of_scope = run(hq, "missions", "list")

    assert (of_node.returncode, of_scope.returncode) == (77, 77)
    assert "refuses this to everybody" in of_node.stderr
    assert "UA_HQ_BASE_URL" in of_node.stderr
    assert "use a token" not in of_node.stderr
    assert "use a token with the scope `ops`" in of_scope.stderr


def test_a_busy_headquarters_is_asked_again_with_the_same_key(hq: Headquarters) -> None:
    busy = (503, {"retry-after": "0"}, {"detail": "ledger_unavailable"})
    hq.answers = [busy, busy, (202, {}, STORED)]

    ended = run(hq, "publish", "x")

    keys = {json.loads(body)["idempotency_key"] for _, _, _, body in hq.requests}
    headers = {headers["idempotency-key"] for _, _, headers, _ in hq.requests}
    assert ended.returncode == 0
    assert len(hq.requests) == 3
    assert keys == headers
    assert len(keys) == 1


def test_the_tries_are_bounded(hq: Headquarters) -> None:
    hq.answers = [(429, {"retry-after": "0"}, {"detail": "queue_full"})]

    run(hq, "publish", "x")

    assert len(hq.requests) == 4


def test_who_only_looks_is_told_at_once_when_headquarters_takes_long(hq: Headquarters) -> None:
    hq.answers = [(503, {"retry-after": "20"}, {"detail": "ledger_unavailable"})]

    ended = run(hq, "missions", "list")

    assert (ended.returncode, len(hq.requests)) == (75, 1)


def test_headquarters_has_waited_for_its_engine_already(hq: Headquarters) -> None:
    hq.answers = [(503, {"retry-after": "0"}, {"detail": "engine_away: HQ's engine did not do it"})]

    ended = run(hq, "rebuild-queues", "--yes")

    assert (ended.returncode, len(hq.requests)) == (75, 1)
    assert "engine_away" in ended.stderr


def test_a_refusal_that_repeating_cannot_change_is_not_repeated(hq: Headquarters) -> None:
    hq.answers = [(422, {}, {"detail": [{"loc": ["body", "payload", "task"], "msg": "too long", "type": "x"}]})]

    ended = run(hq, "publish", "x")

    assert len(hq.requests) == 1
    assert "payload.task: too long" in ended.stderr


def test_what_the_options_say_is_what_is_sent(hq: Headquarters, tmp_path: Path) -> None:
    (tmp_path / "context.json").write_text('{"repo_name": "tool"}')
    options = ["--kind", "coding_task", "--context", f"@{tmp_path / 'context.json'}", "--target", "desk-7"]
    numbers = [
        "--priority",
        "-3",
        "--timeout",
        "60",
        "--max-retries",
        "0",
        "--ttl",
        "90",
        "--key",
        "k",
        "--job-id",
        "j",
    ]

    ended = run(hq, "publish", "do it", *options, *numbers, "--json")

    assert json.loads(hq.requests[0][3]) == {
        "idempotency_key": "k",
        "job_id": "j",
        "payload": {
            "task": "do it",
            "context": {"repo_name": "tool", "mission_kind": "coding_task", "target_factory_id": "desk-7"},
        },
        "priority": -3,
        "timeout_seconds": 60,
        "max_retries": 0,
        "ttl_seconds": 90,
    }
    assert json.loads(ended.stdout) == STORED | {"idempotency_key": "k"}


def test_the_task_can_come_from_standard_input(hq: Headquarters) -> None:
    run(hq, "publish", "-", stdin="from a pipe\n")

    assert json.loads(hq.requests[0][3])["payload"]["task"] == "from a pipe\n"


def test_an_empty_standard_input_is_65(hq: Headquarters) -> None:
    ended = run(hq, "publish", "-", stdin="")

    assert (ended.returncode, hq.requests) == (65, [])


@pytest.mark.parametrize(
    ("name", "exit_code"), [("absent", 66), ("folder", 66), ("huge", 74), ("text", 65), ("list", 65), ("twice", 65)]
)
def test_a_file_that_cannot_be_used_is_refused_before_it_is_read(
    hq: Headquarters, tmp_path: Path, name: str, exit_code: int
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "text").write_text("no json")
    (tmp_path / "list").write_text("[]")
    (tmp_path / "twice").write_text('{"a": 1, "a": 2}')
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(10 * 1024**3)  # sparse: it takes no room

    ended = run(hq, "publish", "x", "--context-file", str(tmp_path / name))

    assert (ended.returncode, hq.requests) == (exit_code, [])
    assert str(tmp_path / name) in ended.stderr


def test_control_characters_from_headquarters_are_escaped(hq: Headquarters) -> None:
    nasty = {"job_id": "j\x1b[2J", "state": "failed", "mission_kind": "k\u202e", "error": "a\nb", "created_at": ""}
    hq.answers = [(200, {}, {"missions": [nasty], "next_cursor": None})]

    ended = run(hq, "missions", "list")

    assert "j\\x1b[2J" in ended.stdout
    assert "k\\u202e" in ended.stdout
    assert "a\\nb" in ended.stdout
    assert not re.search("[\x1b\u202e]", ended.stdout)


def test_a_piped_table_is_not_cut(hq: Headquarters) -> None:
    row = {"job_id": "j" * 128, "state": "failed", "mission_kind": "general_task", "error": "e" * 300, "created_at": ""}
    hq.answers = [(200, {}, {"missions": [row], "next_cursor": None})]

    ended = run(hq, "missions", "list")

    assert "j" * 128 in ended.stdout
    assert "e" * 300 in ended.stdout


def test_the_filters_become_the_query(hq: Headquarters) -> None:
    hq.answers = [(200, {}, {"missions": [], "next_cursor": None})]

    run(hq, "missions", "list", "--state", "failed,timed_out", "--factory", "desk 7", "--limit", "5")

    run(hq, "missions", "list", "--in-state", "running", "--state", "/nowhere", "--limit", "5")

    assert hq.requests[0][1] == "/api/v1/missions?state=failed%2Ctimed_out&factory_id=desk+7&limit=5"
    assert hq.requests[1][1] == "/api/v1/missions?state=running&limit=5"


def test_what_is_not_headquarters_is_told(hq: Headquarters) -> None:
    hq.answers = [(200, {"content-type": "text/html"}, b"<html>")]

    ended = run(hq, "missions", "list")

    assert ended.returncode == 70
    assert "is not Corporation's HQ" in ended.stderr


def test_a_redirect_does_not_carry_the_token_away(hq: Headquarters) -> None:
    hq.answers = [(302, {"location": f"{hq.url}/elsewhere"}, {})]

    ended = run(hq, "missions", "list")

    assert ended.returncode == 70
    assert len(hq.requests) == 1


def test_an_absent_headquarters_is_69_and_says_what_to_do(hq: Headquarters) -> None:
    ended = run(hq, "doctor", "--json", UA_HQ_BASE_URL="http://127.0.0.1:1", UA_REDIS_URL="redis://127.0.0.1:1/0")

    findings = {finding["name"]: finding for finding in json.loads(ended.stdout)["findings"]}
    assert ended.returncode == 69
    assert "start it with `corporation up`" in findings["headquarters"]["advice"]
    assert findings["redis"]["grade"] == "problem"


@pytest.fixture
def left_behind(hq: Headquarters, tmp_path: Path) -> StateFolder:
    """The state folder of a stack at whose address somebody answers."""
    stack = Stack(
        state=tmp_path,
        python=sys.executable,
        host="desk",
        redis_url="redis://127.0.0.1:1/0",
        database_url="postgresql://u@127.0.0.1:1/x",
        gateway_port=hq.server_address[1],
        flower_port=2,
        ops_token=TOKEN,
        jwt_secret="",
        flower_password="",
        inherited={},
    )
    folder = StateFolder(tmp_path)
    folder.prepare()
    folder.write_facts(facts_of(stack, {}))
    return folder


def test_the_token_of_a_stack_that_has_ended_is_sent_to_nobody(hq: Headquarters, left_behind: StateFolder) -> None:
    """Whoever listens at its address now is somebody else."""
    options = ("--state-dir", str(left_behind.path))
    for command in (("missions", "list"), ("publish", "x"), ("missions", "show", "j-1")):
        ended = run(hq, *command, *options, UA_HQ_BASE_URL="", UA_OPS_TOKEN="")

        assert ended.returncode == 78
        assert "start it with `corporation up`, or put HQ's ops token into UA_OPS_TOKEN" in ended.stderr
    hq.answers = [(200, {}, {"status": "healthy", "timestamp": "2020-01-01T00:00:00.000000+00:00"})]
    run(hq, "doctor", "--state", str(left_behind.path), UA_HQ_BASE_URL="", UA_OPS_TOKEN="")

    assert [path for _, path, _, _ in hq.requests] == ["/api/v1/health"]
    assert TOKEN not in str(hq.requests)


def test_the_token_of_a_running_stack_is_sent_to_its_address(hq: Headquarters, left_behind: StateFolder) -> None:
    hq.answers = [(200, {}, {"missions": [], "next_cursor": None})]
    with left_behind.held():
        ended = run(hq, "missions", "list", "--state-dir", str(left_behind.path), UA_HQ_BASE_URL="", UA_OPS_TOKEN="")

    [(_, _, headers, _)] = hq.requests
    assert (ended.returncode, headers["authorization"]) == (0, f"Bearer {TOKEN}")


def test_the_address_of_the_last_run_is_forgotten_while_the_next_one_starts(
    hq: Headquarters, left_behind: StateFolder
) -> None:
    with left_behind.held():
        left_behind.forget_address()
        ended = run(hq, "missions", "list", "--state-dir", str(left_behind.path), UA_HQ_BASE_URL="", UA_OPS_TOKEN="")

    assert (ended.returncode, hq.requests) == (78, [])


def test_a_clock_that_is_off_is_reported(hq: Headquarters) -> None:
    hq.answers = [(200, {}, {"status": "healthy", "timestamp": "2020-01-01T00:00:00.000000+00:00", "missions": []})]

    ended = run(hq, "doctor", "--json")

    clock = next(f for f in json.loads(ended.stdout)["findings"] if f["name"] == "clock")
    assert clock["grade"] == "problem"
    assert "ahead of HQ's" in clock["what"]


def test_ctrl_c_during_publish_says_how_to_repeat_it_safely(hq: Headquarters) -> None:
    hq.answers = [(0, {}, None)]
    process = subprocess.Popen(
        [*COMMAND, "publish", "x", "--key", "my-key"], env=environment(hq), stderr=subprocess.PIPE, text=True
    )

    assert hq.asked.wait(60)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)

    assert process.returncode == 130
    assert "--key my-key" in errors
    assert "Traceback" not in errors


def test_a_reader_that_leaves_ends_the_command_quietly_with_141(hq: Headquarters) -> None:
    row = {"job_id": "j" * 100, "state": "failed", "created_at": ""}
    hq.answers = [(200, {}, {"missions": [row] * 2000, "next_cursor": None})]
    reading, writing = os.pipe()
    os.close(reading)

    ended = subprocess.run(
        [*COMMAND, "missions", "list"],
        env=environment(hq),
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    os.close(writing)

    assert (ended.returncode, ended.stderr) == (141, "")


def event(seq: int, kind: str) -> dict[str, Any]:
    return {
        "seq": seq,
        "at": "2026-06-01T08:00:00.000000+00:00",
        "type": kind,
        "attempt": 1,
        "factory_id": "f",
        "detail": {},
    }


@pytest.mark.parametrize(("state", "exit_code"), [("succeeded", 0), ("failed", 1), ("cancelled", 1)])
def test_watching_ends_with_the_mission(hq: Headquarters, state: str, exit_code: int) -> None:
    mission = {"job_id": "j-1", "state": state, "error": None, "events": [event(1, "published"), event(2, state)]}
    hq.answers = [(200, {}, mission)]

    ended = run(hq, "missions", "watch", "j-1", "--json")

    lines = [json.loads(line) for line in ended.stdout.splitlines()]
    assert ended.returncode == exit_code
    assert [line["event"]["type"] for line in lines[:-1]] == ["published", state]
    assert lines[-1]["mission"]["state"] == state


def test_a_log_stream_is_shown_while_watching(hq: Headquarters) -> None:
    stream = b': hello\n\nid: 1\nevent: log\ndata: {"line": "compiling"}\n\nid: 2\nevent: end\ndata: {}\n\n'
    mission = {"job_id": "j-1", "state": "succeeded", "events": [event(1, "published")]}
    paths: SimpleQueue[str] = SimpleQueue()

    class ByPath(Answering):
        def answer(self) -> None:
            paths.put(self.path)
            is_log = self.path.endswith("/log")
            self.server.answers = [
                (200, {"content-type": "text/event-stream"}, stream) if is_log else (200, {}, mission)
            ]
            super().answer()

        do_GET = answer

    hq.RequestHandlerClass = ByPath

    ended = run(hq, "missions", "watch", "j-1")

    assert ended.returncode == 0
    assert "| compiling" in ended.stdout
