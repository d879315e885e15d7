"""`ops/join`, the line that is pasted on a fresh machine: what it hands on, and what of it others can read."""

import shutil
import subprocess
from pathlib import Path

import pytest

from corporation.cli.checkout import PROJECT

# It says what it was called with, and what it was told on standard input.
PROGRAM = """#!/usr/bin/env bash
printf '%s\\n' "$*" >>"$(dirname "$0")/calls"
if [ "$2" = join ]; then cat >"$(dirname "$0")/told"; fi
[ ! -e "$(dirname "$0")/fail-$2" ]
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project that is prepared already, whose program only notes what it is asked."""
    bin_folder = tmp_path / ".venv" / "bin"
    bin_folder.mkdir(parents=True)
    program = bin_folder / "corporation"
    program.write_text(PROGRAM)
    program.chmod(0o755)
    (tmp_path / "ops").mkdir()
    shutil.copy(PROJECT / "ops" / "join", tmp_path / "ops" / "join")
    (tmp_path / "ops" / "prepare.sh").write_text('project="$(cd -- "$here/.." && pwd)"\n')
    return tmp_path


def run(project: Path, *arguments: str, told: str = "") -> subprocess.CompletedProcess[str]:
    script = [str(project / "ops" / "join"), *arguments]
    return subprocess.run(script, input=told, capture_output=True, text=True, timeout=30, check=False)


def calls(project: Path) -> list[str]:
    place = project / ".venv" / "bin" / "calls"
    return place.read_text().splitlines() if place.exists() else []


@pytest.mark.parametrize(("arguments", "told"), [(["A-B"], ""), ([], "A-B\n")])
def test_the_code_goes_on_by_standard_input_alone(project: Path, arguments: list[str], told: str) -> None:
    ended = run(project, "https://hq.example", *arguments, "--factory-id", "desk 7", "--state", "/srv/f", told=told)

    assert ended.returncode == 0, ended.stderr
    assert calls(project) == [
        "factory join https://hq.example - --factory-id desk 7 --state /srv/f",
        "factory up --detach --state /srv/f",
    ]
    assert (project / ".venv" / "bin" / "told").read_text() == "A-B\n"
    assert "factory status --state /srv/f" in ended.stdout


def test_without_a_state_folder_the_usual_one_is_taken(project: Path) -> None:
    assert run(project, "https://hq.example", "A-B").returncode == 0
    assert calls(project)[1] == "factory up --detach"


@pytest.mark.parametrize(("failing", "count"), [("join", 1), ("up", 2)])
def test_it_ends_where_something_fails(project: Path, failing: str, count: int) -> None:
    (project / ".venv" / "bin" / f"fail-{failing}").touch()
    ended = run(project, "https://hq.example", "A-B")

    assert ended.returncode == 1
    assert len(calls(project)) == count
    assert "Next:" not in ended.stdout


@pytest.mark.parametrize(("arguments", "status"), [([], 2), (["--state", "x"], 2), (["--help"], 0)])
def test_wrong_use_prepares_nothing(project: Path, arguments: list[str], status: int) -> None:
    ended = run(project, *arguments)

    assert ended.returncode == status
    assert "Usage: ops/join HQ_URL" in ended.stdout + ended.stderr
    assert calls(project) == []
