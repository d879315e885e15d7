"""A repository made from another one takes its files, never its history, its hooks or its tricks."""

from pathlib import Path
from typing import Any

import pytest
from bootstrap_builders import Recorder, alive_with, git, git_repository, mission

from corporation.missions.outcomes import Done, Failed, Outcome, Stop, TimedOut
from factory_tasks.bootstrap_repo import bootstrap_repo


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return git_repository(
        tmp_path / "source",
        {
            "{{package}}/main.py.jinja": "print('{{ greeting }}')\n",
            "README.md": "{{ package }}\n",
            ".gitignore": "out/\n",
        },
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


def run(root: Path, url: str | Path, **more: Any) -> Outcome:
    fields = {name: more.pop(name) for name in ("timeout_seconds",) if name in more}
    return bootstrap_repo(mission(root, {"git_url": str(url), "repo_name": "made", **more}, **fields))


def files_of(folder: Path) -> set[str]:
    return set(git(folder, "ls-files").splitlines())


def test_without_variables_the_files_are_taken_as_they_are_with_a_history_of_their_own(
    source: Path, root: Path
) -> None:
    git(source, "commit", "--quiet", "--allow-empty", "--message=second")
    outcome = run(root, source)

    assert isinstance(outcome, Done), outcome
    assert files_of(root / "made") == files_of(source)
    assert git(root / "made", "log", "--format=%H %s") == f"{outcome.result['commit']} First commit"
    assert git(root / "made", "remote") == ""
    assert (outcome.result["repo_dir"], outcome.result["exit_code"]) == (str(root / "made"), 0)


def test_with_variables_files_and_paths_are_filled_in(source: Path, root: Path) -> None:
    outcome = run(
        root, source, template_variables={"package": "queue", "greeting": "hi"}, verify=["cat", "queue/main.py"]
    )

    assert isinstance(outcome, Done), outcome
    assert files_of(root / "made") == {".gitignore", "README.md", "queue/main.py"}
    assert (root / "made" / "README.md").read_text() == "{{ package }}\n"
    assert outcome.result["verify"]["output"] == "print('hi')\n"


@pytest.mark.parametrize("text", ["{{ missing }}", "{{ ''.__class__.__mro__ }}"])
def test_a_template_that_cannot_be_filled_in_stops_the_mission_and_names_the_file(
    tmp_path: Path, root: Path, text: str
) -> None:
    source = git_repository(tmp_path / "bad", {"a.txt.jinja": text})
    outcome = run(root, source, template_variables={"package": "queue"})

    assert isinstance(outcome, Stop)
    assert "a.txt.jinja" in outcome.why


def test_a_template_that_computes_for_ever_is_ended_at_the_time_limit(tmp_path: Path, root: Path) -> None:
    loop = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    source = git_repository(tmp_path / "slow", {"a.txt.jinja": loop})
    outcome = run(root, source, template_variables={}, timeout_seconds=1)

    assert isinstance(outcome, TimedOut)
    assert not alive_with(str(root))


def test_a_template_that_eats_memory_is_refused(tmp_path: Path, root: Path) -> None:
    source = git_repository(tmp_path / "big", {"a.txt.jinja": "{{ 'x' * 10 ** 10 }}"})

    assert isinstance(run(root, source, template_variables={}), Stop)


@pytest.mark.parametrize("ref", ["side", "v1", "COMMIT"])
def test_a_branch_a_tag_and_a_commit_can_be_taken(source: Path, root: Path, ref: str) -> None:
    (source / "side.txt").write_text("x")
    git(source, "checkout", "--quiet", "-b", "side")
    git(source, "add", "--all")
    git(source, "commit", "--quiet", "--message=side")
    git(source, "tag", "v1")
    commit = git(source, "rev-parse", "HEAD")
    git(source, "checkout", "--quiet", "main")
    outcome = run(root, source, git_ref=commit if ref == "COMMIT" else ref)

    assert isinstance(outcome, Done), outcome
    assert "side.txt" in files_of(root / "made")
    assert git(root / "made", "branch", "--show-current") == "main"


@pytest.mark.parametrize("ref", ["no-such-branch", "deadbeef"])
def test_a_ref_that_is_not_there_is_a_failure_in_gits_words(source: Path, root: Path, ref: str) -> None:
    outcome = run(root, source, git_ref=ref)

    assert isinstance(outcome, Failed)
    assert ref in outcome.why


def test_a_repository_that_is_not_there_is_a_failure_with_what_git_said(tmp_path: Path, root: Path) -> None:
    outcome = run(root, tmp_path / "nowhere")

    assert isinstance(outcome, Failed)
    assert "does not" in outcome.why
    assert outcome.result["exit_code"] == 128


def test_an_address_that_would_run_a_command_is_refused(tmp_path: Path, root: Path) -> None:
    outcome = run(root, f"ext::sh -c touch% {tmp_path}/ran")

    assert isinstance(outcome, Stop)
    assert not (tmp_path / "ran").exists()


def test_a_submodule_is_not_fetched(tmp_path: Path, source: Path, root: Path) -> None:
    outer = git_repository(tmp_path / "outer", {"a.txt": "a"})
    git(outer, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(source), "sub")
    git(outer, "commit", "--quiet", "--message=sub")
    outcome = run(root, outer)

    assert isinstance(outcome, Done), outcome
    assert not list((root / "made" / "sub").glob("*"))


def test_no_hook_of_the_system_runs_at_the_checkout(tmp_path: Path, source: Path, root: Path) -> None:
    hook = source / ".git" / "hooks" / "post-checkout"
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    hook.chmod(0o755)

    assert isinstance(run(root, source, git_ref=git(source, "rev-parse", "HEAD")), Done)
    assert not (tmp_path / "ran").exists()


def test_what_git_says_is_told_as_it_clones(source: Path, root: Path) -> None:
    recorder = Recorder()
    bootstrap_repo(mission(root, {"git_url": str(source), "repo_name": "made"}, reporter=recorder))

    assert any("Cloning into" in line for _, line in recorder.lines)
