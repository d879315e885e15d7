"""`corporation up` as a person meets it: the first mission comes home, and nothing is left afterwards."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
import redis
from leftovers import left_in
from warm_starts import WarmStarts

COMMAND = [sys.executable, "-m", "corporation.cli"]
LIMIT_SECONDS = 240
BUNDLE = '{"tutorial_run_path": "youtube-tutorial-creation/first-mission", "repo_name": "second-mission"}'


Ask = Callable[..., subprocess.CompletedProcess[str]]


def environment() -> dict[str, str]:
    return {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}


def run(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        env=environment() | more,
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )


@pytest.fixture
def ask(warm: WarmStarts) -> Ask:
    """Runs a command beside a stack without its imports; what starts a stack itself is a fresh process."""
    return lambda *arguments: warm.run([*COMMAND[1:], *arguments], environment(), LIMIT_SECONDS)


def test_the_first_mission_comes_home_and_nothing_is_left(tmp_path: Path) -> None:
    state = tmp_path / "state"

    ended = run("up", "--once", "--state", str(state))

    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert (state / "repositories" / "first-mission-1" / ".git").is_dir()
    assert "passed (python3 -m unittest -v)" in ended.stdout
    assert "\x1b" not in ended.stdout
    assert left_in(state) == []


def test_a_running_stack_can_be_used_and_killed_without_a_trace(
    tmp_path: Path, wait_until: Callable[..., Any], ask: Ask
) -> None:
    state = tmp_path / "state"
    output = tmp_path / "output"
    with output.open("w") as file:
        launcher = subprocess.Popen(
            [*COMMAND, "up", "--state", str(state)], env=environment(), stdout=file, stderr=file
        )
    try:
        wait_until(
            lambda: "Next, in another terminal" in output.read_text() or launcher.poll() is not None, LIMIT_SECONDS
        )
        use(state, launcher, ask)
    finally:
        launcher.kill()
        launcher.wait(30)

    wait_until(lambda: not left_in(state), LIMIT_SECONDS)


def use(state: Path, launcher: subprocess.Popen[bytes], ask: Ask) -> None:
    second = ask("up", "--state", str(state))
    assert (second.returncode, str(launcher.pid) in second.stderr) == (75, True)

    doctor = ask("doctor", "--json", "--state", str(state))
    assert doctor.returncode == 0, doctor.stdout
    assert "'corporation_hq' owns nothing" in doctor.stdout
    nobody_is_the_owner(state, ask)
    order = (
        "publish",
        "Again",
        "--kind",
        "bootstrap_repo",
        "--context",
        BUNDLE,
        "--key",
        "k",
        "--json",
        "--state",
        str(state),
    )
    watched = ask(*order, "--watch")
    assert watched.returncode == 0, watched.stdout + watched.stderr
    published, *_, last = (json.loads(line) for line in watched.stdout.splitlines())
    assert last["mission"]["state"] == "succeeded"

    repeated = json.loads(ask(*order).stdout)
    assert (repeated["job_id"], repeated["created"]) == (published["job_id"], False)
    assert ask("rebuild-queues", "--yes", "--state", str(state)).returncode == 0
    assert ask("streams", "tail", "results", "--state", str(state)).returncode == 0
    everybody_is_somebody_and_does_what_he_may(state)


def everybody_is_somebody_and_does_what_he_may(state: Path) -> None:
    """After a first mission and a second one, and whatever Flower, heartbeats and the doorkeeper have done."""
    facts = json.loads((state / "env.json").read_text())
    own = {f"f_{facts['factory_id']}", f"f_{facts['hq_factory_id']}"}
    hq = {f"corporation_{name}" for name in ("engine", "api", "flower")}
    with redis.Redis.from_url(facts["redis_url"], decode_responses=True) as operator:
        assert operator.acl_log() == []
        connected = {client["user"] for client in operator.client_list()}
        assert set(facts["redis_passwords"]) == own | hq
        assert own | hq <= connected <= own | hq | {"default"}
    assert facts["mission_signing_key"] not in "".join(
        file.read_text(errors="replace") for file in (state / "logs").iterdir()
    )


def nobody_is_the_owner(state: Path, ask: Ask) -> None:
    """E10: processes log in as a role that owns nothing, and the owner's password is in no file but its own."""
    facts = json.loads((state / "env.json").read_text())
    owners = (state / "postgres" / "password").read_text().strip()
    address = urlsplit(facts["database_url"])
    as_owner = address._replace(netloc=f"corporation:{owners}@{address.hostname}:{address.port}").geturl()
    with psycopg.connect(as_owner) as db:
        query = "SELECT DISTINCT usename FROM pg_stat_activity WHERE datname IS NOT NULL AND pid <> pg_backend_pid()"
        names = {row[0] for row in db.execute(query).fetchall()}
    assert address.username == "corporation_hq"
    assert {"corporation_hq"} <= names <= {"corporation_hq", f"f_{facts['factory_id']}"}
    printed = [ask("env", "--role", role, "--state", str(state)).stdout for role in ("factory", "hq")]
    assert "//corporation_hq:" in printed[1]
    assert f"//f_{facts['factory_id']}:" in printed[0]
    assert "corporation_hq" not in printed[0]
    told = [file.read_text(errors="replace") for file in (state / "env.json", *(state / "logs").iterdir())]
    assert not [each for each in (*printed, *told) if owners in each]


def test_ctrl_c_during_the_start_leaves_nothing(tmp_path: Path) -> None:
    state = tmp_path / "state"
    launcher = subprocess.Popen(
        [*COMMAND, "up", "--state", str(state)], env=environment(), stdout=subprocess.PIPE, text=True
    )
    assert launcher.stdout
    next(line for line in launcher.stdout if line.startswith("ready "))

    launcher.send_signal(signal.SIGINT)
    launcher.communicate(timeout=LIMIT_SECONDS)

    assert launcher.returncode == 130
    assert left_in(state) == []


def test_a_ledger_that_is_not_reached_is_one_line(tmp_path: Path) -> None:
    state = tmp_path / "state"

    ended = run("up", "--once", "--state", str(state), UA_DATABASE_URL="postgresql://u:hunter2@127.0.0.1:1/x")

    assert ended.returncode == 69
    assert len(ended.stderr.strip().splitlines()) == 1
    assert "UA_DATABASE_URL names" in ended.stderr
    assert "hunter2" not in ended.stdout + ended.stderr
    assert left_in(state) == []
