"""`corporation why`: the sentence first, then what it rests on; and where other commands point to it."""

import json
import os
import re
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from threading import Thread
from typing import Any
from unittest.mock import patch

import pytest

from corporation.cli import app, watch
from corporation.missions import advising

ANSWER: dict[str, Any] = {
    "job_id": "j-1",
    "state": "waiting",
    "waiting": True,
    "reasons": [{"code": "no_free_slot", "message": "…"}, {"code": "behind_others", "message": "…"}],
    "sentence": "It needs vp_coder: 2 factories have it, desk-7 is paused by HQ, desk-9 runs 2 of 2; 3rd in line.",
    "evidence": ["It was accepted 45 s ago, with priority 3."],
    "help": [
        {"what": "Wait: it is sent as soon as desk-9 has room", "command": None},
        {"what": "Let another machine join as a factory", "command": "corporation join-code"},
    ],
    "candidates": [
        {"factory_id": "desk-9", "eligible": False, "reasons": ["no_free_slot"], "status": "online", "slots": 2,
         "running": 2, "held": 6, "silent_seconds": 12.3},
        {"factory_id": "desk-7\x1b[31m", "eligible": False, "reasons": ["paused"], "status": "paused", "slots": 2,
         "running": 0, "held": 0, "silent_seconds": 8},
    ],
    "failure_class": None,
    "ahead": 2,
}  # fmt: skip


class Answering(BaseHTTPRequestHandler):
    """Answers each path with what the server holds for its end."""

    server: "Headquarters"

    def do_GET(self) -> None:
        self.server.paths.append(self.path)
        path = self.path.partition("?")[0]
        status, reply = next((answer for end, answer in self.server.answers.items() if path.endswith(end)), (404, {}))
        data = json.dumps(reply).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        return


class Headquarters(ThreadingHTTPServer):
    """An HQ that knows one mission."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answering)
        self.paths: list[str] = []
        self.answers: dict[str, tuple[int, Any]] = {"/explain": (200, ANSWER), "/events": (200, {"events": []})}

    def knows(self, state: str) -> None:
        """From now on the mission j-1 is in this state."""
        self.answers["/j-1"] = (200, {"job_id": "j-1", "state": state})


@pytest.fixture
def hq() -> Iterator[Headquarters]:
    server = Headquarters()
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join(10)
    server.server_close()


def run(hq: Headquarters, *arguments: str) -> tuple[int, str, str]:
    """The exit status and what was printed on stdout and stderr."""
    environ = {
        "PATH": os.environ["PATH"],
        "UA_HQ_BASE_URL": f"http://127.0.0.1:{hq.server_address[1]}",
        "UA_OPS_TOKEN": "the-ops-token-of-this-test",
    }
    out, err = StringIO(), StringIO()
    with patch.dict(os.environ, environ, clear=True), redirect_stdout(out), redirect_stderr(err):
        status = app.run(list(arguments))
    return status, out.getvalue(), err.getvalue()


def test_the_sentence_comes_first_then_the_evidence_the_help_and_the_factories(hq: Headquarters) -> None:
    status, out, err = run(hq, "why", "j-1")

    assert (status, err) == (0, "")
    assert [line.rstrip() for line in out.splitlines()] == [
        "It needs vp_coder: 2 factories have it, desk-7 is paused by HQ, desk-9 runs 2 of 2; 3rd in line.",
        "  j-1 is waiting (no slot is free, behind others)",
        "",
        "What is known",
        "  - It was accepted 45 s ago, with priority 3.",
        "",
        "What would help",
        "  - Wait: it is sent as soon as desk-9 has room",
        "  - Let another machine join as a factory:  corporation join-code",
        "",
        "Factories",
        "factory         could take it  status  runs    in queue  heard of  why not",
        "desk-9          no             online  2 of 2  4         12 s ago  no free slot",
        "desk-7\\x1b[31m  no             paused  0 of 2  0         8 s ago   paused",
    ]


def test_a_failure_shows_its_class_and_no_empty_lists(hq: Headquarters) -> None:
    hq.answers["/explain"] = (200, {
        "job_id": "j-1", "state": "failed", "reasons": [], "sentence": "It failed: its only attempt ended with: boom.",
        "evidence": [], "help": [], "candidates": [], "failure_class": "failed",
    })  # fmt: skip
    _, out, _ = run(hq, "why", "j-1")

    assert out.splitlines() == ["It failed: its only attempt ended with: boom.", "  j-1 has failed"]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"state": "failed", "failure_class": "lost"}, "has failed (lost)"),
        ({"state": "failed", "failure_class": "stopped"}, "has failed (for good)"),
        ({"state": "cancelled", "failure_class": "cancelled"}, "was cancelled"),
        ({"state": "timed_out", "failure_class": "timed_out"}, "has timed out"),
        ({"state": "running"}, "is running"),
        ({"state": "claimed", "reasons": [{"code": "behind_others"}], "ahead": 0}, "is claimed"),
        ({"state": "queued", "reasons": [{"code": "broker_down"}]}, "is queued (Redis does not answer)"),
        ({"state": "waiting", "reasons": [{"code": "a_code_of_a_newer_hq"}]}, "is waiting (a_code_of_a_newer_hq)"),
    ],
)
def test_where_a_mission_stands_is_said_in_words(hq: Headquarters, answer: dict[str, Any], said: str) -> None:
    hq.answers["/explain"] = (200, {"job_id": "j-1", "sentence": "…", **answer})

    assert run(hq, "why", "j-1")[1].splitlines()[1] == f"  j-1 {said}"


def test_a_factory_in_quarantine_is_shown_as_such_and_what_it_claimed_beyond_its_slots_as_queued(
    hq: Headquarters,
) -> None:
    barred = {
        "factory_id": "desk-7", "eligible": False, "reasons": ["lacks_label", "quarantined"], "status": "offline",
        "slots": 2, "running": 3, "held": 3, "silent_seconds": None,
    }  # fmt: skip
    hq.answers["/explain"] = (200, {**ANSWER, "candidates": [barred]})
    _, out, _ = run(hq, "why", "j-1")

    words = "no             quarantined  2 of 2  1         -         lacks what it needs, quarantined"
    assert out.splitlines()[-1].rstrip() == f"desk-7   {words}"


def test_a_program_gets_the_answer_as_it_is(hq: Headquarters) -> None:
    status, out, _ = run(hq, "why", "a/b c", "--json")

    assert status == 0
    assert json.loads(out) == ANSWER
    assert hq.paths == ["/api/v1/missions/a%2Fb%20c/explain"]


def test_an_unknown_mission_is_said_to_be_one(hq: Headquarters) -> None:
    hq.answers = {"/explain": (404, {"detail": "unknown_mission: no mission has this job_id"})}
    status, out, err = run(hq, "why", "nobody")

    assert (status, out) == (66, "")
    assert "HQ knows no mission nobody" in err
    assert run(hq, "why")[0] == 2


@pytest.mark.parametrize(
    ("state", "hinted"), [("waiting", True), ("failed", True), ("running", False), ("succeeded", False)]
)
def test_a_mission_that_makes_people_ask_why_is_shown_with_the_command(
    hq: Headquarters, state: str, hinted: bool
) -> None:
    hq.knows(state)
    _, out, _ = run(hq, "missions", "show", "j-1")

    assert out.endswith("\nWhy: corporation why j-1\n") == hinted
    assert "corporation why" not in run(hq, "missions", "show", "j-1", "--json")[1]


def test_who_watches_a_mission_wait_is_told_once_where_to_ask(
    hq: Headquarters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "POLL_SECONDS", 0.001)
    monkeypatch.setattr(watch, "LOG_DRAIN_SECONDS", 0.001)
    hq.knows("waiting")
    looks = [0]

    class Ending(Answering):
        def do_GET(self) -> None:
            looks[0] += self.path.endswith("/j-1")
            if looks[0] == 40:
                self.server.knows("succeeded")
            super().do_GET()

    hq.RequestHandlerClass = Ending
    status, out, _ = run(hq, "missions", "watch", "j-1")

    assert status == 0
    assert out.splitlines() == ["Not running yet; to see why: corporation why j-1", "j-1 succeeded"]


@pytest.mark.parametrize("command", [advising.REPLAY, advising.REPLAY_LETTER])
def test_an_order_that_would_do_better_changed_can_be_changed_by_the_options_that_are_named(command: str) -> None:
    out = StringIO()
    with redirect_stdout(out), redirect_stderr(out):
        app.run([*command.split()[1:], "--help"])

    assert {"--timeout", "--ttl", "--priority", "--target", "--context", "--task"} <= set(
        re.findall(r"--\w+", out.getvalue())
    )


@pytest.mark.parametrize(
    "command",
    [
        advising.JOIN, advising.LOOK_JOINED, advising.START_JOINED, advising.CANCEL, advising.REPLAY,
        advising.REPLAY_LETTER, advising.SHOW_LETTER,
    ],
)  # fmt: skip
def test_a_command_that_would_help_is_one_that_there_is(command: str) -> None:
    """It said `corporation up --role worker`, which at HQ starts nothing that joins it."""
    words = [word for word in command.split()[1:] if word.islower()]
    out = StringIO()
    with redirect_stdout(out), redirect_stderr(out):
        status = app.run([*words, "--help"])

    assert status == 0, out.getvalue()
    assert " ".join(words) in out.getvalue()
