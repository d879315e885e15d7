"""Each kind of node really started: exactly its processes run, each sees only what it may, and nothing is left."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
from canary import secret
from leftovers import left_in
from structlog.testing import capture_logs
from warm_starts import WarmStarts

from corporation.embedded.stack_environment import Stack, environment_of
from corporation.embedded.stack_shape import Shape
from corporation.settings import load_settings
from factory_tasks.heartbeat import send_beat
from factory_tasks.node import build_node

COMMAND = [sys.executable, "-m", "corporation.cli"]
LIMIT_SECONDS = 240
MODEL_KEYS = {name: secret(name) for name in ("ANTHROPIC_API_KEY", "OPENAI_API_KEY", "ZAI_API_KEY")}
GIVEN = {
    **MODEL_KEYS,
    "UA_OPS_TOKEN": secret("roles-ops"),
    "UA_OPS_JWT_SECRET": secret("roles-jwt"),
    "UA_INTERNAL_API_TOKEN": secret("roles-internal"),
    "TELEGRAM_BOT_TOKEN": f"7:{secret('roles-bot')}",
    "AWS_SECRET_ACCESS_KEY": secret("roles-aws"),
    # Nobody answers there: the poller keeps trying.
    "UA_TELEGRAM_API_URL": "http://127.0.0.1:1",
    "UA_HEARTBEAT_INTERVAL_SECONDS": "10",
}
POLLED = GIVEN | {"TELEGRAM_ALLOWED_USER_IDS": "7"}
Until = Callable[..., Any]
Ask = Callable[..., subprocess.CompletedProcess[str]]


def environment() -> dict[str, str]:
    bare = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    return bare | {"UA_DOTENV_PATH": "/nonexistent/.env"}


def run(*arguments: str, given: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        env=environment() | dict(given or {}),
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )


@pytest.fixture
def ask(warm: WarmStarts) -> Ask:
    """Runs a command beside a node without its imports; what starts a node itself is a fresh process."""

    def asked(*arguments: str, given: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        return warm.run([*COMMAND[1:], *arguments], environment() | dict(given or {}), LIMIT_SECONDS)

    return asked


class Running:
    """One `corporation up` and what it printed."""

    def __init__(self, process: subprocess.Popen[bytes], output: Path) -> None:
        self.process = process
        self._output = output

    @property
    def text(self) -> str:
        return self._output.read_text()

    def environments(self) -> dict[str, dict[str, str]]:
        """The environment of each of its processes, by name; one that may not be read has nothing to show."""
        names = {int(pid): name for name, pid in re.findall(r"^ready +(\S+) .*pid (\d+)", self.text, re.MULTILINE)}
        found: dict[str, dict[str, str]] = {}
        for child in psutil.Process(self.process.pid).children():
            name = names.get(child.pid, f"unnamed {child.pid}")
            if name in ("valkey", "postgresql"):
                continue
            try:
                found[name] = child.environ()
            except psutil.NoSuchProcess:
                continue  # it has just ended
            except psutil.AccessDenied:
                found[name] = {}
        return found

    def holders(self, value: str) -> set[str]:
        """The processes whose environment holds `value` anywhere."""
        return {name for name, seen in self.environments().items() if any(value in word for word in seen.values())}


@contextmanager
def up(
    role: str,
    state: Path,
    output: Path,
    wait_until: Until,
    given: Mapping[str, str],
    until: str = "Everything is ready",
) -> Generator[Running]:
    """The stack of `role`, ready; it is killed at the end, hard, and nothing of it may survive that."""
    with output.open("w") as file:
        process = subprocess.Popen(
            [*COMMAND, "up", "--role", role, "--state", str(state)],
            env=environment() | dict(given),
            stdout=file,
            stderr=file,
        )
    running = Running(process, output)
    try:
        wait_until(lambda: until in running.text or process.poll() is not None, LIMIT_SECONDS)
        assert process.poll() is None, running.text
        yield running
    finally:
        process.kill()
        process.wait(30)
    wait_until(lambda: not left_in(state), 30, "nothing is left after a kill -9")


def test_headquarters_alone(tmp_path: Path, wait_until: Until) -> None:
    state = tmp_path / "hq"
    with up("hq", state, tmp_path / "out", wait_until, POLLED) as hq:
        assert set(hq.environments()) == {"api", "engine", "hq-worker", "control", "beat", "telegram", "flower"}
        assert "HEADQUARTERS: gateway full · UI yes · Telegram yes" in hq.text
        assert hq.holders(GIVEN["UA_OPS_JWT_SECRET"]) <= {"api"}
        assert hq.holders(GIVEN["UA_INTERNAL_API_TOKEN"]) <= {"api"}
        assert hq.holders(GIVEN["TELEGRAM_BOT_TOKEN"]) <= {"telegram"}
        assert hq.holders(GIVEN["AWS_SECRET_ACCESS_KEY"]) == set()
        made = json.loads((state / "env.json").read_text())
        assert hq.holders(urlsplit(made["redis_url"]).password or "") <= {"engine"}
        assert hq.holders(made["mission_signing_key"]) <= {"api", "engine"}
        assert hq.holders(made["redis_passwords"]["corporation_api"]) <= {"api"}
        assert hq.holders(made["mailbox_url"]) == set()
        assert [name for key in MODEL_KEYS.values() for name in hq.holders(key)] == []
        facts = (state / "env.json").read_text()

    again = run("up", "--role", "hq", "--once", "--state", str(state), given=GIVEN)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "Telegram no (TELEGRAM_ALLOWED_USER_IDS is not set" in again.stdout
    # What the environment gave is not written down, and no secret is printed.
    assert secret("roles-ops") not in facts + again.stdout + again.stderr
    assert "canary7f3a9d1e" not in again.stdout + again.stderr
    assert left_in(state) == []


def test_a_worker_joins_headquarters_with_what_env_prints_and_does_its_missions(
    tmp_path: Path, wait_until: Until, ask: Ask
) -> None:
    """H-21: the worker holds its own credential, and never the operator's token."""
    hq_state, state = tmp_path / "hq", tmp_path / "worker"
    with up("hq", hq_state, tmp_path / "hq-out", wait_until, {}):
        printed = ask("env", "--json", "--state", str(hq_state))
        joining = json.loads(printed.stdout)
        facts = json.loads((hq_state / "env.json").read_text())
        assert {"UA_OPS_TOKEN", "UA_OPS_JWT_SECRET", "UA_DATABASE_URL"}.isdisjoint(joining)
        given = joining | MODEL_KEYS | {"TELEGRAM_BOT_TOKEN": POLLED["TELEGRAM_BOT_TOKEN"]}
        with up("worker", state, tmp_path / "out", wait_until, given) as worker:
            assert set(worker.environments()) == {"api", "factory-worker", "pull", "control", "beat"}
            assert "LOCAL_WORKER: gateway health_only · UI no · Telegram no" in worker.text
            assert worker.holders(facts["ops_token"]) == set()
            assert worker.holders(facts["jwt_secret"]) == set()
            assert worker.holders(facts["mission_signing_key"]) == set()
            assert worker.holders(urlsplit(facts["redis_url"]).password or "") == set()
            assert worker.holders(urlsplit(facts["database_url"]).password or "") == set()
            assert worker.holders(POLLED["TELEGRAM_BOT_TOKEN"]) == set()
            assert "api" not in worker.holders(MODEL_KEYS["OPENAI_API_KEY"])
            context = {"tutorial_run_path": "youtube-tutorial-creation/first-mission", "repo_name": "joined"}
            order = ("publish", "Join", "--kind", "bootstrap_repo", "--context", json.dumps(context), "--watch")
            done = ask(*order, "--state", str(hq_state))
            assert done.returncode == 0, done.stdout + done.stderr
            assert (state / "repositories" / "joined" / ".git").is_dir()
            doctor = ask("doctor", "--json", "--state", str(state), given=joining)
            assert doctor.returncode == 0, doctor.stdout
            stranger = joining | {"UA_FACTORY_CREDENTIAL": secret("strangers")}
            assert ask("doctor", "--state", str(state), given=stranger).returncode == 78

        once = run("up", "--role", "worker", "--once", "--state", str(state), given=given)
        assert once.returncode == 0, once.stdout + once.stderr
        assert left_in(state) == []


def test_the_beat_of_a_standalone_node_sends_nothing_and_complains_of_nothing(tmp_path: Path) -> None:
    """F-10: it has no address of an HQ, which is no failure."""
    stack = Stack(tmp_path, "", "desk", "redis://127.0.0.1:1", "postgresql://h/x", 1, 2, "t", "j", "f", {})
    environ = environment_of("control", replace(stack, shape=Shape.STANDALONE))
    node = build_node(load_settings(environ))

    with capture_logs() as logged:
        sent = [send_beat(node, source) for source in ("beat", "pulse")]

    assert "UA_HQ_BASE_URL" not in environ
    assert (node.hq, sent, logged) == (None, [False, False], [])


def test_a_standalone_node_starts_after_a_kill_in_the_middle_of_a_start_and_ends_with_zero_by_sigterm(
    tmp_path: Path, wait_until: Until, ask: Ask
) -> None:
    """Neither the kill nor the end leaves anything."""
    state = tmp_path / "node"
    with up("standalone", state, tmp_path / "killed", wait_until, GIVEN, until="Ledger: migrated") as node:
        wait_until(node.environments, 30, "a first process")

    with up("standalone", state, tmp_path / "out", wait_until, POLLED) as node:
        assert set(node.environments()) == {"api", "control", "beat", "flower"}
        assert "STANDALONE_NODE: gateway full · UI yes · Telegram no (UA_STANDALONE_ENABLE" in node.text
        assert node.holders(GIVEN["UA_OPS_JWT_SECRET"]) <= {"api"}
        assert node.holders(GIVEN["TELEGRAM_BOT_TOKEN"]) == set()
        assert ask("doctor", "--state", str(state)).returncode == 0
        node.process.send_signal(signal.SIGTERM)

        assert node.process.wait(60) == 0
        assert left_in(state) == []


def test_a_standalone_node_by_its_environment_polls_telegram_and_a_start_only_to_try_it_leaves_nothing(
    tmp_path: Path,
) -> None:
    state = tmp_path / "node"
    polled = POLLED | {"UA_STANDALONE_ENABLE_TELEGRAM_POLL": "1", "FACTORY_ROLE": "STANDALONE_NODE"}
    once = run("up", "--once", "--state", str(state), given=polled)

    assert once.returncode == 0, once.stdout + once.stderr
    ready = set(re.findall(r"^ready +(\S+)", once.stdout, re.MULTILINE))
    assert ready - {"valkey", "postgresql"} == {"api", "control", "beat", "telegram", "flower"}
    assert "STANDALONE_NODE: gateway full · UI yes · Telegram yes" in once.stdout
    assert left_in(state) == []


@pytest.mark.parametrize(
    ("arguments", "given", "status", "words"),
    [
        (["--role", "boss"], {}, 2, ["'hq', 'worker', 'standalone'"]),
        (["--role", "hq"], {"FACTORY_ROLE": "LOCAL_WORKER"}, 78, ["--role hq contradicts FACTORY_ROLE"]),
        (
            ["--role", "worker"],
            {},
            78,
            ["UA_HQ_BASE_URL", "UA_FACTORY_CREDENTIAL", "`corporation join-code`", "`corporation env`"],
        ),
        # A word that is no role must not start a headquarters.
        ([], {"FACTORY_ROLE": "boss"}, 78, ["FACTORY_ROLE names no role", "UA_HQ_BASE_URL"]),
        (["--role", "hq"], {"UA_CAPABILITY_GATEWAY_MODE": "open"}, 78, ["UA_CAPABILITY_GATEWAY_MODE", "health_only"]),
        (["--role", "hq"], {"UA_DEPLOYMENT_PROFILE": "vps"}, 78, ["INFISICAL_CLIENT_ID"]),
    ],
)
def test_wrong_use_starts_nothing_and_says_what_to_do(
    tmp_path: Path, arguments: list[str], given: dict[str, str], status: int, words: list[str], warm: WarmStarts
) -> None:
    state = tmp_path / "state"
    ended = warm.run([*COMMAND[1:], "up", *arguments, "--state", str(state)], environment() | given)

    assert ended.returncode == status, ended.stderr
    assert [word for word in words if word not in ended.stderr] == []
    assert "Traceback" not in ended.stderr
    assert not state.exists()


def test_a_worker_whose_redis_is_away_is_told_in_one_line(tmp_path: Path, warm: WarmStarts) -> None:
    given = {
        "UA_REDIS_URL": f"redis://:{secret('away')}@127.0.0.1:1/0",
        "UA_HQ_BASE_URL": "http://127.0.0.1:1",
        "UA_RESULT_BACKEND_URL": "postgresql://u@127.0.0.1:1/x",
        "UA_FACTORY_CREDENTIAL": secret("nobodys"),
    }
    arguments = ["up", "--role", "worker", "--once", "--state", str(tmp_path / "state")]
    ended = warm.run([*COMMAND[1:], *arguments], environment() | given)

    assert ended.returncode == 69
    assert "a worker has no server of its own" in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1
    assert secret("away") not in ended.stdout + ended.stderr
