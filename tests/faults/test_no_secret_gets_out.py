"""A whole stack with planted secrets from Infisical is used, misused and searched: none of them gets out."""

import base64
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil
import psycopg
import pytest
from canary import MARK, leaks_below, leaks_in_database, leaks_in_redis, secret, shows
from fake_infisical import FakeInfisical

FINAL = {"succeeded", "failed", "timed_out", "cancelled"}
PLANTED = {
    name: secret(name.lower().replace("_", "-"))
    for name in (
        "UA_OPS_TOKEN",
        "UA_OPS_JWT_SECRET",
        "UA_INTERNAL_API_TOKEN",
        "ZAI_API_KEY",
        "ANTHROPIC_API_KEY",
        "SOME_OTHER_PASSWORD",
    )
}
# A key must be 32 bytes in base64, and is found like the others all the same.
PLANTED["UA_MISSION_SIGNING_KEY"] = f"{MARK}{'A' * (43 - len(MARK))}="
# A script does what a curious one would: its own environment, its parents', the command lines, the state folder's name.
CURIOUS = """
env; cat /proc/self/environ /proc/$PPID/environ 2>/dev/null | tr '\\0' '\\n'
cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '
mkdir "$1/$2" && env > "$1/$2/environment.txt" && echo "Repo ready: $1/$2"
"""


def bundle(script: str) -> str:
    """The tar.gz of a mission that brings its script along, in base64."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        member = tarfile.TarInfo("implementation/create_new_repo.sh")
        member.size = len(script.encode())
        archive.addfile(member, io.BytesIO(script.encode()))
    return base64.b64encode(packed.getvalue()).decode()


@dataclass
class Stack:
    """The running stack: its folder, its facts, and a client that may do everything."""

    state: Path
    facts: dict[str, Any]
    process: subprocess.Popen[bytes]
    client: httpx.Client

    @property
    def made(self) -> list[str]:
        """The passwords that the stack made itself, for its own servers."""
        addresses = (urlsplit(self.facts[name]) for name in ("redis_url", "database_url", "mailbox_url"))
        return [*self.facts["redis_passwords"].values(), *(address.password or "" for address in addresses)]

    def publish(self, context: dict[str, Any], **more: Any) -> str:
        body = {"payload": {"task": "Look around", "context": context}, "max_retries": 1, **more}
        return self.client.post("/api/v1/delegation/publish", json=body).raise_for_status().json()["job_id"]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, wait_until: Callable[..., Any]) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("whole")
    state, output = folder / "state", folder / "up.log"
    with FakeInfisical(PLANTED) as fake, output.open("w") as file:
        environ = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        environ |= fake.environ(UA_DEPLOYMENT_PROFILE="vps", UA_DOTENV_PATH=os.devnull, LLM_PROVIDER_OVERRIDE="ZAI")
        command = [sys.executable, "-m", "corporation.cli", "up", "--state", str(state)]
        process = subprocess.Popen(command, env=environ, stdout=file, stderr=file)
        try:
            wait_until(lambda: "Next, in another" in output.read_text() or process.poll() is not None, 180, "the stack")
            assert process.poll() is None, output.read_text()
            facts = json.loads((state / "env.json").read_text())
            headers = {"x-ua-ops-token": PLANTED["UA_OPS_TOKEN"]}
            with httpx.Client(base_url=facts["hq_base_url"], headers=headers, timeout=30) as client:
                yield Stack(state, facts, process, client)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


@pytest.fixture(scope="module")
def used(stack: Stack, wait_until: Callable[..., Any]) -> list[dict[str, Any]]:
    """Missions that pried and failed, and requests that carried secrets where none belongs; all of it has ended."""
    jobs = [
        stack.publish({"mission_kind": "bootstrap_repo", "bundle_base64": bundle(CURIOUS), "repo_name": "curious"}),
        stack.publish(
            {"mission_kind": "bootstrap_repo", "bundle_base64": bundle("env >&2; exit 3"), "repo_name": "failing"}
        ),
        stack.publish({"mission_kind": "bootstrap_repo", "tutorial_run_path": "youtube-tutorial-creation/none"}),
    ]

    def ended() -> list[dict[str, Any]]:
        missions = [stack.client.get(f"/api/v1/missions/{job}").json() for job in jobs]
        return missions if all(one["state"] in FINAL for one in missions) else []

    missions = wait_until(ended, 60, "the missions' ends")
    assert missions[0]["state"] == "succeeded", missions[0]
    return missions


def test_a_mission_sees_no_secret_however_it_looks(stack: Stack, used: list[dict[str, Any]]) -> None:
    """E-4: neither in its environment nor in its parents', and not on any command line."""
    for mission in used:
        said = stack.client.get(f"/api/v1/missions/{mission['job_id']}/log").text
        events = stack.client.get(f"/api/v1/missions/{mission['job_id']}/events").text
        assert not shows(said + events + json.dumps(mission))
    logs = stack.client.get(f"/api/v1/missions/{used[0]['job_id']}/log").text
    assert "PATH=" in logs, "the script did look"
    assert len(stack.made) == 8
    assert not [password for password in stack.made if password in logs]


def test_no_answer_repeats_a_secret(stack: Stack) -> None:
    """H-4: whatever the request carried, and wherever."""
    planted = PLANTED["UA_INTERNAL_API_TOKEN"]
    requests: list[tuple[str, str, dict[str, Any]]] = [
        ("GET", f"/api/v1/missions?token={planted}", {}),
        ("GET", f"/api/v1/missions?cursor={planted}", {}),
        ("GET", f"/api/v1/missions/{planted}", {}),
        ("POST", "/auth/ops-token", {"json": {"subject": 5, "scope": planted}}),
        ("POST", "/auth/ops-token", {"content": planted.encode(), "headers": {"content-type": "application/json"}}),
        ("POST", "/api/v1/delegation/publish", {"json": {"payload": planted}}),
        ("POST", "/api/v1/delegation/publish", {"json": {"payload": {"task": "t"}, "priority": planted}}),
        ("POST", "/api/v1/factory/registrations", {"json": {"factory_id": planted, "registration_status": planted}}),
        ("POST", "/api/v1/ops/tokens/revoke", {"json": {"jti": [planted]}}),
        ("GET", f"/{planted}", {}),
        ("GET", "/api/v1/factory/capabilities", {}),
        ("GET", "/api/v1/health", {}),
        ("GET", "/dashboard", {}),
        ("GET", "/dashboard/corporation", {}),
    ]
    with httpx.Client(base_url=stack.facts["hq_base_url"], headers={"x-ua-ops-token": "wrong-" + planted}) as stranger:
        for method, path, more in requests:
            for client in (stack.client, stranger):
                answer = client.request(method, path, **more)
                assert not shows(answer.content + str(answer.headers).encode()), (method, path.split("?")[0])


def test_flower_shows_no_secret(stack: Stack, used: list[dict[str, Any]]) -> None:
    """Every page and every answer of its interface."""
    account = (stack.facts["flower_user"], stack.facts["flower_password"])
    with httpx.Client(base_url=stack.facts["flower_url"], auth=account, timeout=60, follow_redirects=True) as flower:
        # It may not ask the workers: what they tell it is all that it knows.
        tasks = flower.get("/api/tasks").json()
        assert tasks, "Flower sees what is done"
        workers = {task["worker"] for task in tasks.values() if task["worker"]}
        assert {one["name"] for one in flower.get("/api/queues/length").json()["active_queues"]}
        pages = ["/", "/workers", "/tasks", "/broker", "/api/workers", "/api/tasks", "/api/queues/length", "/metrics"]
        pages += [f"/worker/{name}" for name in workers] + [f"/task/{uuid}" for uuid in tasks]
        for page in pages:
            assert not shows(flower.get(page).content), page


def test_no_command_line_holds_a_secret(stack: Stack) -> None:
    """E-4: every user of the machine can read them."""
    family = psutil.Process(stack.process.pid).children(recursive=True)

    assert len(family) > 8
    for process in family:
        try:
            line = " ".join(process.cmdline())
        except psutil.NoSuchProcess:
            continue  # it has just ended, as a server's helpers do
        assert not shows(line), process.pid
        assert not [password for password in stack.made if password in line], process.pid


def test_nothing_that_was_stored_holds_a_secret(stack: Stack, used: list[dict[str, Any]]) -> None:
    """Rows, keys, logs, spools, repositories; only the stack's own facts may, and only their owner reads those."""
    assert len(used) == 3
    with psycopg.connect(stack.facts["database_url"], autocommit=True) as db:
        assert not leaks_in_database(db)
    assert not leaks_in_redis(stack.facts["redis_url"])
    assert not list(leaks_below(stack.state))
    assert not shows((stack.state.parent / "up.log").read_bytes())
