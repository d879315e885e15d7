"""`corporation rebuild-queues`: it looks first, asks before it acts, and says what it did."""

import json
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from corporation.cli import app

Said = Callable[..., tuple[int, str, str]]
QUEUE = {"queue": "factory.desk-7", "resent": 2, "lying": 1, "held": 1, "orphans_removed": 3, "foreign": 1}
LOST = {"ok": True, "resent": 2, "lying": 1, "held": 1, "orphans_removed": 3, "queues": [QUEUE]}
WELL = {"ok": True, "resent": 0, "lying": 4, "held": 0, "orphans_removed": 0, "queues": []}


class Answering(BaseHTTPRequestHandler):
    """Answers every request as its server says, and remembers it."""

    server: "Headquarters"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.asked.append((self.path, body))
        status, reply = self.server.answer
        data = json.dumps(reply).encode()
        self.send_response(status)
        for name, value in {"content-type": "application/json", "content-length": str(len(data))}.items():
            self.send_header(name, value)
        self.send_header("retry-after", "0")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        return


class Headquarters(ThreadingHTTPServer):
    """A server that gives one answer to everything."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answering)
        self.answer: tuple[int, Any] = (200, LOST)
        self.asked: list[tuple[str, Any]] = []

    @property
    def dry_runs(self) -> list[bool]:
        """What each request asked for."""
        return [body["dry_run"] for _, body in self.asked]


@pytest.fixture
def hq() -> Iterator[Headquarters]:
    server = Headquarters()
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join(10)
    server.server_close()


@pytest.fixture
def said(hq: Headquarters, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Said:
    """The exit status of `corporation rebuild-queues …`, and what it wrote; run in this process, without a terminal."""
    monkeypatch.setenv("UA_HQ_BASE_URL", f"http://127.0.0.1:{hq.server_address[1]}")
    monkeypatch.setenv("UA_OPS_TOKEN", "a-token-of-this-test")
    monkeypatch.setattr("sys.stdin", StringIO())

    def run(*arguments: str) -> tuple[int, str, str]:
        out, err = StringIO(), StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            status = app.run(["rebuild-queues", *arguments, "--state", str(tmp_path)])
        return status, out.getvalue(), err.getvalue()

    return run


def test_without_a_terminal_it_looks_and_acts_only_when_told_to(said: Said, hq: Headquarters) -> None:
    status, out, err = said()
    assert (status, hq.dry_runs) == (2, [True])
    assert "factory.desk-7" in out
    assert "--yes" in err

    hq.asked.clear()
    status, out, err = said("--yes")
    assert (status, err, hq.dry_runs) == (0, "", [True, False])
    assert "Handed out again: 2; orphans removed: 3\nThe engine sends them within seconds" in out
    assert {path for path, _ in hq.asked} == {"/api/v1/ops/queues/rebuild"}


def test_a_dry_run_only_looks(said: Said, hq: Headquarters) -> None:
    status, out, _ = said("--dry-run", "--yes")

    assert (status, hq.dry_runs) == (0, [True])
    assert "1 entries are no messages of this HQ" in out


def test_a_queue_that_could_not_be_read_is_named(said: Said, hq: Headquarters) -> None:
    full = {**QUEUE, "queue": "factory.flood", "resent": 0, "orphans_removed": 0, "foreign": 10_001, "unread": True}
    hq.answer = (200, {**WELL, "queues": [full]})
    status, out, _ = said("--yes")

    assert (status, hq.dry_runs) == (0, [True])
    assert "Too full to be read, so nothing is done for it: factory.flood" in out
    assert "no messages of this HQ" not in out
    assert "none lies there for nothing elsewhere" in out


def test_where_nothing_is_lost_nothing_is_asked_and_nothing_done(said: Said, hq: Headquarters) -> None:
    hq.answer = (200, WELL)

    assert said() == (0, "Nothing to do: no message is lost, and none lies there for nothing\n", "")
    assert hq.dry_runs == [True]


@pytest.mark.parametrize(("arguments", "answer"), [(["--yes"], LOST), (["--dry-run"], LOST), ([], WELL)])
def test_a_program_reads_one_document(said: Said, hq: Headquarters, arguments: list[str], answer: Any) -> None:
    hq.answer = (200, answer)
    status, out, err = said("--json", *arguments)

    assert (status, err) == (0, "")
    assert json.loads(out) == answer


def test_what_hq_sends_cannot_steer_the_terminal(said: Said, hq: Headquarters) -> None:
    hq.answer = (200, {**LOST, "queues": [{**QUEUE, "queue": "factory.\x1b[31m"}, "\x1b", None]})

    assert "\x1b" not in "".join(map(str, said("--dry-run")))


def test_a_redis_that_is_away_is_told_with_what_to_do(said: Said, hq: Headquarters) -> None:
    hq.answer = (503, {"detail": "broker_unavailable: Redis cannot be asked (ConnectionError)"})
    status, _, err = said("--yes")

    assert status == 75
    assert "broker_unavailable: Redis cannot be asked" in err
    assert "run the same command again later" in err
