"""`corporation publish --batch` against a real headquarters, behind a door that fails as it is told."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO, StringIO, TextIOWrapper
from pathlib import Path
from threading import Event, Thread
from typing import Any
from unittest.mock import patch

import httpx
import pytest
from served_api import OPS_TOKEN, Api
from structlog.testing import capture_logs

from corporation.cli import app

Ended = subprocess.CompletedProcess[str]


class Passing(BaseHTTPRequestHandler):
    """Hands each request on to headquarters, and its answer back, unless the door is to do otherwise."""

    protocol_version = "HTTP/1.1"
    server: "Door"  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.sizes.append(len(json.loads(body)["missions"]))
        fails = len(self.server.sizes) > self.server.answers
        if fails and self.server.how == "away":
            self.close_connection = True
            return
        headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
        answer = httpx.post(self.server.hq + self.path, content=body, headers=headers, timeout=60, trust_env=False)
        if fails:  # headquarters has committed, and nobody hears of it
            self.server.stored.set()
            if self.server.how == "silent":
                self.server.let_go.wait(60)
            self.close_connection = True
            return
        self.send_response(answer.status_code)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(answer.content)))
        self.end_headers()
        self.wfile.write(answer.content)

    def log_message(self, format: str, *args: Any) -> None:
        return


class Door(ThreadingHTTPServer):
    """What stands before headquarters: after so many `answers` it is away, or what it handed on goes unanswered."""

    daemon_threads = True

    def __init__(self, hq: str) -> None:
        super().__init__(("127.0.0.1", 0), Passing)
        self.hq = hq
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.answers = 10**9
        self.how = "away"
        self.sizes: list[int] = []
        self.stored = Event()
        self.let_go = Event()


@pytest.fixture
def door(api: Api) -> Iterator[Door]:
    server = Door(api.url)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.let_go.set()
    server.shutdown()
    thread.join(10)
    server.server_close()


@pytest.fixture
def said(door: Door, tmp_path: Path) -> Callable[..., Ended]:
    """Run `corporation publish …` in this process, as somebody who knows nothing but that door."""

    def run(*arguments: str, stdin: bytes = b"", **more: str) -> Ended:
        out, err = StringIO(), StringIO()
        words = ["publish", *arguments, "--state", str(tmp_path / "none")]
        with patch.dict(os.environ, environment(door) | more, clear=True), redirect_stdout(out), redirect_stderr(err):
            given, sys.stdin = sys.stdin, TextIOWrapper(BytesIO(stdin))
            try:
                with capture_logs():  # headquarters is in this process, and would write between the lines
                    status = app.run(words)
            finally:
                sys.stdin = given
        return subprocess.CompletedProcess(words, status, out.getvalue(), err.getvalue())

    return run


def environment(door: Door) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "UA_DOTENV_PATH": os.devnull,
        "UA_HQ_BASE_URL": door.url,
        "UA_OPS_TOKEN": OPS_TOKEN,
    }


def line(task: str, **changes: Any) -> str:
    return json.dumps({"payload": {"task": task}} | changes)


@pytest.fixture
def file(tmp_path: Path) -> Callable[..., str]:
    def write(*lines: str, name: str = "batch.ndjson") -> str:
        (tmp_path / name).write_text("\n".join(lines) + "\n")
        return str(tmp_path / name)

    return write


def test_a_mission_that_names_its_own_key_is_stored_under_it(said: Any, file: Any, api: Api) -> None:
    ended = said("--batch", file(line("a", idempotency_key="mine"), line("b")))

    assert (ended.returncode, ended.stdout) == (0, "2 accepted, 0 existing, 0 rejected, 0 unsent\n")
    keys = {row.idempotency_key for row in api.sql("SELECT idempotency_key FROM corporation.missions")}
    assert "mine" in keys
    assert len(keys) == 2


def test_the_same_file_again_publishes_nothing(said: Any, file: Any, api: Api) -> None:
    batch = file(line("a"), "", line("b"), line("b"))
    said("--batch", batch)

    ended = said("--batch", batch)

    assert (ended.returncode, api.stored()) == (0, 3)
    assert "0 accepted, 3 existing" in ended.stdout
    assert "another --key" in ended.stdout
    assert said("--batch", batch, "--key", "monday").stdout.startswith("3 accepted")
    assert (said("--batch", batch, "--key", "monday").returncode, api.stored()) == (0, 6)


def test_what_was_refused_is_named_by_its_line_and_corrected_without_doubles(said: Any, file: Any, api: Api) -> None:
    wrong = line("b", mission_kind="unheard_of")
    ended = said("--batch", file(line("a"), "", wrong, line("c")))

    assert (ended.returncode, api.stored()) == (65, 2)
    assert "Line 3 was refused (422): mission_kind: Known kinds are " in ended.stdout
    assert "2 accepted, 0 existing, 1 rejected, 0 unsent" in ended.stdout
    assert "Correct the lines" in ended.stdout

    ended = said("--batch", file(line("first of all"), line("b"), line("a"), line("c")))
    assert (ended.returncode, api.stored()) == (0, 4)
    assert "2 accepted, 2 existing" in ended.stdout


def test_standard_input_is_a_batch_too(said: Any, api: Api) -> None:
    ended = said("--batch", "-", stdin=f"{line('a')}\r\n{line('b')}".encode())
    assert (ended.returncode, api.stored()) == (0, 2)

    empty = said("--batch", "-", stdin=b" \n")
    assert (empty.returncode, "one JSON envelope on each line" in empty.stderr) == (65, True)


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ("nonsense", "no usable JSON"),
        ("[]", "no JSON object"),
        ('{"payload": {"task": "a"}, "payload": {}}', "names one key twice"),
        ('{"payload": {"task": "a", "context": {"a": "\\ud800"}}}', "half a surrogate pair"),
        ('{"payload": {"task": "a", "context": {"a": ' + "[" * 12 + "]" * 12 + "}}}", "levels are open"),
        (line("a" * 300_000), "longer than the 256 KiB"),
    ],
)
def test_a_line_that_no_call_can_carry_is_named_before_anything_is_sent(
    said: Any, file: Any, door: Door, bad: str, why: str
) -> None:
    lines = [line(str(number)) for number in range(30)]
    lines[16] = bad
    lines[18] = "{"

    ended = said("--batch", file(*lines))

    assert (ended.returncode, ended.stdout, door.sizes) == (65, "", [])
    [about] = [one for one in ended.stderr.splitlines() if one.startswith("line 17: ")]
    assert why in about
    assert "line 19: " in ended.stderr
    assert "Nothing was published" in ended.stderr
    assert "bug" not in ended.stderr


def test_the_deepest_mission_that_a_batch_may_hold_is_taken(said: Any, file: Any, api: Api) -> None:
    deep = '{"payload": {"task": "a", "context": {"a": ' + "[" * 11 + "]" * 11 + "}}}"

    assert (said("--batch", file(deep, line("b"))).returncode, api.stored()) == (0, 2)


def test_a_file_of_something_else_is_told_in_a_few_lines(said: Any, file: Any) -> None:
    batch = file(*("a;b;c" for _ in range(10_000)))
    ended = said("--batch", batch)
    document = json.loads(said("--batch", batch, "--json").stdout)

    assert ended.returncode == 65
    assert len(ended.stderr.splitlines()) < 30
    assert "and 9980 more" in ended.stderr
    assert (document["rejected"], document["missions"][-1]["line"]) == (10_000, 10_000)


@pytest.mark.parametrize("how", ["away", "unanswered"])
def test_headquarters_that_goes_away_in_the_middle_costs_nothing(
    said: Any, file: Any, door: Door, api: Api, how: str
) -> None:
    batch = file(*(line(str(number)) for number in range(2_300)))
    door.answers, door.how = 1, how

    ended = said("--batch", batch)
    assert ended.returncode == 69
    assert "1000 accepted, 0 existing, 0 rejected, 300 unsent, 1000 unconfirmed" in ended.stdout
    assert "Run it again with the same lines: what is stored already is not stored twice" in ended.stdout
    assert api.stored() == (1000 if how == "away" else 2000)

    door.answers = 10**9
    document = json.loads(said("--batch", batch, "--json").stdout)
    assert (document["accepted"] + document["existing"], api.stored()) == (2_300, 2_300)
    assert (document["unsent"], document["unconfirmed"]) == (0, 0)


def test_ctrl_c_in_the_middle_says_what_was_done_and_the_same_again_does_the_rest(
    said: Any, file: Any, door: Door, api: Api
) -> None:
    batch = file(*(line(str(number)) for number in range(2_100)))
    door.answers, door.how = 1, "silent"
    process = subprocess.Popen(
        [sys.executable, "-m", "corporation.cli", "publish", "--batch", batch, "--key", "k"],
        env=environment(door),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert door.stored.wait(60)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)

    assert process.returncode == 130
    assert "1000 accepted, 0 existing, 0 rejected, 100 unsent, 1000 unconfirmed" in out
    assert "with the same lines and --key k" in out
    assert "Traceback" not in err
    door.answers = 10**9
    assert (said("--batch", batch, "--key", "k").returncode, api.stored()) == (0, 2_100)


def test_a_wrong_token_leaves_everything_unsent(said: Any, file: Any, door: Door) -> None:
    ended = said("--batch", file(line("a"), line("b")), UA_OPS_TOKEN="t" * 40)

    assert (ended.returncode, len(door.sizes)) == (77, 1)
    assert "0 accepted, 0 existing, 0 rejected, 2 unsent" in ended.stdout


@pytest.mark.parametrize(
    "beside",
    [("--kind", "coding_task"), ("--priority", "0"), ("--job-id", "j"), ("--watch",), ("task",), ("--key", "k" * 81)],
)
def test_what_a_batch_would_not_heed_is_refused(said: Any, file: Any, door: Door, beside: tuple[str, ...]) -> None:
    ended = said("--batch", file(line("a")), *beside)

    assert (ended.returncode, door.sizes) == (2, [])
    assert "--batch" in ended.stderr


def test_an_empty_key_is_wrong_use(said: Any, door: Door) -> None:
    """A script whose variable is not set would make a second mission each time."""
    ended = said("x", "--key", "")

    assert (ended.returncode, door.sizes) == (2, [])
