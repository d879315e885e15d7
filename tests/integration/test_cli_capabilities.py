"""`corporation capabilities`: what a node says of itself, from its environment alone (fleet §10, F-29, F-30)."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from canary import MARK, secret

from corporation.cli.app import run as run_command


@dataclass(frozen=True)
class Ended:
    """What a command left behind."""

    returncode: int
    stdout: str
    stderr: str


Run = Callable[..., Ended]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """The command in this process, in an empty folder, with an environment of its own and no broker."""

    def run(*arguments: str, **environment: str) -> Ended:
        with monkeypatch.context() as patch:
            patch.chdir(tmp_path)
            bare = {"PATH": os.environ["PATH"], "HOSTNAME": "desk", "UA_REDIS_PORT": "1"}
            patch.setattr(os, "environ", bare | environment)
            status = run_command(["capabilities", "--state", str(tmp_path), *arguments])
        printed = capsys.readouterr()
        return Ended(status, printed.out, printed.err)

    return run


def said(run: Run, *arguments: str, **environment: str) -> dict[str, Any]:
    ended = run("--json", *arguments, **environment)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def test_a_process_of_its_own_needs_nothing_but_a_path(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "corporation.cli", "capabilities", "--state", str(tmp_path)],
        env={"PATH": os.environ["PATH"]},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("<!-- Capabilities of ")


@pytest.mark.parametrize(
    ("role", "factory_id", "primary", "publishes"),
    [
        ("HEADQUARTERS", "desk-hq", "Simone", True),
        ("LOCAL_WORKER", "desk", "Homer", False),
        ("STANDALONE_NODE", "desk-node", "Simone", False),
    ],
)
def test_each_role_has_its_own_names_tools_and_kinds(
    run: Run, role: str, factory_id: str, primary: str, publishes: bool
) -> None:
    """F-29, F-30."""
    node = said(run, FACTORY_ROLE=role)

    assert set(node) == {
        "factory_id", "factory_role", "policy", "personas", "labels", "kinds", "tools", "llm_provider"
    }  # fmt: skip
    assert (node["factory_id"], node["factory_role"], node["personas"]["primary"]) == (factory_id, role, primary)
    assert ("delegation_publish" in node["tools"]) is publishes
    assert ("bootstrap_repo" in node["kinds"]) is (role == "LOCAL_WORKER")
    assert node["policy"]["enable_vp_coder"] is True
    assert node["llm_provider"] is None


def test_a_role_can_be_looked_at_without_becoming_it(run: Run) -> None:
    looked_at = said(run, "--role", "worker", FACTORY_ROLE="HEADQUARTERS")

    assert looked_at == said(run, FACTORY_ROLE="LOCAL_WORKER")
    assert said(run, "--role", "local_worker", FACTORY_ROLE="HEADQUARTERS") == looked_at


def test_a_slip_in_the_role_is_refused_with_what_is_allowed(run: Run) -> None:
    ended = run("--role", "headquarter")

    assert ended.returncode == 2
    assert "HEADQUARTERS" in ended.stderr
    assert ended.stdout == ""


def test_the_document_is_printed_as_it_would_be_written(run: Run, tmp_path: Path) -> None:
    printed = run(FACTORY_ROLE="LOCAL_WORKER", UA_CODER_VP_DISPLAY_NAME="Ada")
    path = tmp_path / "capabilities.md"
    written = run("--write", str(path), FACTORY_ROLE="LOCAL_WORKER", UA_CODER_VP_DISPLAY_NAME="Ada")

    assert (printed.returncode, written.returncode) == (0, 0)
    assert printed.stderr == ""
    assert "### Factory role: LOCAL_WORKER" in printed.stdout
    assert "`vp_coder`: Ada writes" in printed.stdout
    assert path.read_text().splitlines()[2:] == printed.stdout.splitlines()[2:]
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_coder_that_is_off_is_nowhere(run: Run) -> None:
    """F-18, F-30."""
    assert "vp_coder" not in run(ENABLE_VP_CODER="no").stdout
    node = said(run, ENABLE_VP_CODER="no")

    assert "vp_coder" not in node["labels"]
    assert "coding_task" not in node["kinds"]
    assert not [tool for tool in node["tools"] if tool.startswith("vp_coder")]


def test_the_broker_is_a_label_only_while_it_answers(run: Run, redis_url: str) -> None:
    """F-18."""
    assert "delegation_redis" in said(run, UA_REDIS_URL=redis_url)["labels"]
    assert "delegation_redis" not in said(run)["labels"]
    assert "delegation_redis" not in said(run, UA_REDIS_URL=redis_url, UA_DELEGATION_REDIS_ENABLED="0")["labels"]


def test_the_provider_is_shown_without_its_key(run: Run) -> None:
    """E-4, E-9."""
    environ = {"LLM_PROVIDER_OVERRIDE": "zai", "ZAI_API_KEY": secret("zai")}
    ended = run("--json", **environ)
    node = json.loads(ended.stdout)

    assert node["llm_provider"] == {
        "name": "ZAI",
        "wire": "anthropic",
        "base_url": "https://api.z.ai/api/anthropic",
        "model": "glm-4.6",
        "key_name": "ZAI_API_KEY",
    }
    assert "llm_override:ZAI" in node["labels"]
    assert MARK not in ended.stdout + ended.stderr + run(**environ).stdout


def test_a_provider_without_its_key_refuses(run: Run) -> None:
    """E-9."""
    ended = run(LLM_PROVIDER_OVERRIDE="OPENAI", ZAI_API_KEY=secret("zai"))

    assert ended.returncode == 78
    assert "OPENAI_API_KEY" in ended.stderr
    assert ended.stdout == ""
    assert MARK not in ended.stderr


def test_an_override_that_names_no_provider_is_told_and_ignored(run: Run) -> None:
    """D19."""
    ended = run("--json", LLM_PROVIDER_OVERRIDE="GROK")

    assert ended.returncode == 0
    assert "ZAI, ANTHROPIC, OPENAI, OLLAMA" in ended.stderr
    assert json.loads(ended.stdout)["llm_provider"] is None


def test_a_place_that_cannot_be_written_is_named(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "absent" / "capabilities.md"
    ended = run("--write", str(path))

    assert ended.returncode == 74
    assert str(path) in ended.stderr
    assert "Traceback" not in ended.stderr
