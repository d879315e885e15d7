"""Programs written against the contract alone work with our HQ (contract fleet §2 to §5, http §8 and §11)."""

import ast
import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import independent_factory
import pytest
from independent_factory import BEATS, Client, check, full_beat, make_repository, mission
from served_api import OPS_TOKEN, Api

RUN_PATH = "youtube-tutorial-creation/run-5"
HERE = Path(__file__).parent


def test_the_client_knows_nothing_of_ours() -> None:
    tree = ast.parse((HERE / "independent_factory.py").read_text())
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [one.name for one in node.names])
    }

    assert imported <= set(sys.stdlib_module_names) | {"httpx"}


def test_the_check_says_that_our_headquarters_is_right(hq: Api, ops: Client) -> None:
    verdicts = list(check(ops, RUN_PATH))

    assert [statement for statement, holds in verdicts if not holds] == []
    assert len(verdicts) == 38
    [[left]] = hq.sql("SELECT count(*) FROM corporation.factories WHERE factory_id LIKE 'check-%'")
    assert left == 0


def test_without_a_run_the_check_still_says_what_it_can(ops: Client) -> None:
    verdicts = list(check(ops, "youtube-tutorial-creation/nowhere"))

    assert [statement for statement, holds in verdicts if not holds] == []
    assert len(verdicts) == 28


class _YesMan(BaseHTTPRequestHandler):
    """An HQ that says yes to everything."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self._say({"token": "t", "ok": True, "attempts": [], "job": None, "cancel_requested": False})

    def do_GET(self) -> None:
        self._say({"registrations": []})

    def do_DELETE(self) -> None:
        self._say({})

    def log_message(self, format: str, *args: object) -> None:
        """A test's output is for the test."""

    def _say(self, what: dict[str, object]) -> None:
        data = json.dumps(what).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def yes_man() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _YesMan) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_the_check_says_that_who_agrees_to_everything_is_wrong(yes_man: str) -> None:
    """A check that cannot fail is none."""
    with Client(yes_man, "anything") as client:
        verdicts = dict(check(client, RUN_PATH))

    assert verdicts["a beat of an existing client is taken"]
    for statement in (
        "its record has every documented key",
        "a blank factory_id is refused",
        "the mission has succeeded",
    ):
        assert not verdicts[statement], statement
    assert not verdicts["another result afterwards is too late"]


def test_the_program_says_what_it_found_and_ends_accordingly(
    hq: Api, yes_man: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("UA_OPS_TOKEN", OPS_TOKEN)
    ours = ["--hq", hq.url, "--run-path", RUN_PATH]
    codes = [independent_factory.main(["check", *ours]), independent_factory.main(["beat", *ours])]
    with Client(hq.url, OPS_TOKEN) as client:
        client.post(independent_factory.ORDER, {"run_path": RUN_PATH}).raise_for_status()
    codes += [independent_factory.main(["work", *ours, "--root", str(tmp_path)]) for _ in range(2)]
    wrong = independent_factory.main(["check", "--hq", yes_man])
    nobody = independent_factory.main(["beat", "--hq", "http://127.0.0.1:1"])
    said = capsys.readouterr()

    assert (codes, wrong, nobody) == ([0, 0, 0, 0], 1, 69)
    assert "ok      the job is completed, and says where" in said.out
    assert "nothing to do" in said.out
    assert len(list(tmp_path.glob("*/a.txt"))) == 1
    assert OPS_TOKEN not in said.out + said.err


def test_a_worker_with_a_factorys_own_token_makes_a_repository(hq: Api, ops: Client, tmp_path: Path) -> None:
    ops.beat("bench-9").raise_for_status()
    job_id = ops.post(independent_factory.ORDER, {"run_path": RUN_PATH}).json()["job_id"]
    with Client(hq.url, ops.token_of("bench-9")) as bench:
        job = bench.claim_job("bench-9-1")
        assert job is not None
        said = make_repository(job, bench.bundle(job_id), tmp_path)
        done = bench.job(job_id, "result", "bench-9-1", **said).json()["job"]

    assert (done["status"], done["repo_dir"]) == ("completed", str(tmp_path / job["repo_name"]))
    assert (tmp_path / job["repo_name"] / "a.txt").read_text() == "hello\n"
    assert ops.http.get(f"/api/v1/missions/{job_id}").json()["factory_id"] == "bench-9"


def test_a_cancelled_mission_is_named_in_the_answer_to_a_beat(hq: Api, ops: Client) -> None:
    """Fleet §3."""
    name = "bench-3"
    ops.post(BEATS, full_beat(name)).raise_for_status()
    ops.post(independent_factory.PUBLISH, mission("unwanted", name)).raise_for_status()
    with Client(hq.url, ops.token_of(name)) as factory:
        [attempt] = factory.claim(name)
        factory.attempt(attempt["attempt_id"], "start").raise_for_status()
        ops.post("/api/v1/missions/unwanted/cancel", {"reason": "no"}).raise_for_status()
        running = [{"attempt_id": attempt["attempt_id"], "job_id": "unwanted"}]
        told = factory.post(BEATS, full_beat(name) | {"running": running}).json()["instructions"]["cancel"]
        progress = factory.attempt(attempt["attempt_id"], "progress").json()

    assert [(one["attempt_id"], one["job_id"]) for one in told] == [(attempt["attempt_id"], "unwanted")]
    assert progress["cancel_requested"] is True
