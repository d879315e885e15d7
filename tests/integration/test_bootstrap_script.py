"""A script from a bundle makes a repository: with nothing of the worker's, inside its time, leaving nothing behind."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from bootstrap_builders import Recorder, alive_with, bundle, git, inline, mission

from corporation.missions.outcomes import Done, Failed, Outcome, Stop, TimedOut
from corporation.roles import FactoryRole, build_factory_runtime_policy
from factory_tasks.bootstrap_repo import bootstrap_repo
from factory_tasks.handlers import registered

DEMO = Path(__file__).parents[2] / "ops/demo/youtube-tutorial-creation/first-mission/implementation"
GOOD = 'mkdir "$1/$2" && echo hello > "$1/$2/a.txt" && echo "Repo ready: $1/$2"\n'


def run(root: Path, script: str, **more: Any) -> Outcome:
    context = inline(script) | more.pop("context", {})
    return bootstrap_repo(mission(root, context, **more))


def result_of(outcome: Outcome) -> dict[str, Any]:
    assert isinstance(outcome, Done), outcome
    return dict(outcome.result)


def nothing_is_left(root: Path) -> bool:
    """No process and no scratch file of the mission; claims stay."""
    return not alive_with(str(root)) and not list(root.glob("**/*.scratch"))


def test_the_kind_is_registered_with_its_label_and_keeps_its_own_time() -> None:
    registration = registered(build_factory_runtime_policy(FactoryRole.LOCAL_WORKER))["bootstrap_repo"]

    assert (registration.needs, registration.stops_itself) == ("tutorial_bootstrap_consumer", True)


def test_the_demo_becomes_a_verified_repository(tmp_path: Path) -> None:
    files = {str(path.relative_to(DEMO)): path.read_text() for path in DEMO.rglob("*") if path.is_file()}
    script = files.pop("create_new_repo.sh")
    context = {
        "tutorial_run_path": "youtube-tutorial-creation/first-mission",
        "repo_name": "first-mission-1",
        "python_version": "3.11",
        "verify": ["python3", "-m", "unittest", "-v"],
    }
    result = result_of(bootstrap_repo(mission(tmp_path, context, bundle=bundle(script, files))))
    repository = tmp_path / "first-mission-1"

    assert result["repo_dir"] == str(repository)
    assert result["repo_name"] == "first-mission-1"
    assert result["repo_open_uri"] == repository.as_uri()
    assert result["repo_open_hint"] == f"Open {repository} on desk-7"
    assert result["result_ref"] == "workspace://desk-7/first-mission-1"
    assert result["commit"] == git(repository, "rev-parse", "HEAD")
    assert result["exit_code"] == 0
    assert result["verify"]["command"] == ["python3", "-m", "unittest", "-v"]
    assert result["verify"]["exit_code"] == 0
    assert "OK" in result["verify"]["output"]
    assert git(repository, "status", "--porcelain") == ""
    assert 'requires-python = ">=3.11"' in (repository / "pyproject.toml").read_text()
    assert nothing_is_left(tmp_path)


def test_a_folder_without_git_gets_a_commit_that_leaves_out_what_is_ignored(tmp_path: Path) -> None:
    script = (
        GOOD + 'cd "$1/$2"; mkdir -p x/__pycache__ out; touch x/__pycache__/a.pyc x/b.py out/c; echo out/ > .gitignore'
    )
    result = result_of(run(tmp_path, script))

    assert git(tmp_path / "made", "ls-files").split() == [".gitignore", "a.txt", "x/b.py"]
    assert (
        git(tmp_path / "made", "log", "--format=%an <%ae> %H")
        == f"Corporation <corporation@localhost> {result['commit']}"
    )
    assert git(tmp_path / "made", "branch", "--show-current") == "main"


def test_a_repository_of_the_scripts_own_keeps_its_commit(tmp_path: Path) -> None:
    result = result_of(run(tmp_path, GOOD + 'cd "$1/$2"; git init -q; git add .; git commit -qm mine'))

    assert git(tmp_path / "made", "log", "--format=%s %H") == f"mine {result['commit']}"


def test_an_empty_repository_gets_a_commit_too(tmp_path: Path) -> None:
    result = result_of(run(tmp_path, 'mkdir "$1/$2"; git init -q "$1/$2"'))

    assert git(tmp_path / "made", "rev-list", "--count", "HEAD") == "1"
    assert result["repo_dir"] == str(tmp_path / "made")


def test_a_repository_below_another_one_does_not_take_its_commit_for_its_own(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "commit", "--quiet", "--allow-empty", "--message=outer")
    result = result_of(run(tmp_path, GOOD))

    assert result["commit"] != git(tmp_path, "rev-parse", "HEAD")


def test_a_hook_that_the_script_planted_does_not_run(tmp_path: Path) -> None:
    plant = f'echo "touch {tmp_path}/ran" | tee .git/hooks/{{pre,post}}-commit >/dev/null; chmod +x .git/hooks/*'
    run(tmp_path, GOOD + f'cd "$1/$2"; git init -q; {plant}')

    assert git(tmp_path / "made", "rev-list", "--count", "HEAD") == "1"
    assert not (tmp_path / "ran").exists()


def test_the_script_sees_nothing_of_the_workers_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UA_OPS_TOKEN", "do-not-show-me")
    monkeypatch.setenv("BASH_ENV", "/nonexistent/do-not-show-me")
    monkeypatch.setenv("GIT_DIR", "/nonexistent/do-not-show-me")
    result = result_of(
        run(tmp_path, 'env; tr "\\0" "\\n" < /proc/$PPID/environ; tr "\\0" " " < /proc/$PPID/cmdline\n' + GOOD)
    )
    names = {line.partition("=")[0] for line in result["stdout"].split("Repo ready")[0].splitlines() if "=" in line}

    assert "do-not-show-me" not in json.dumps(result)
    assert names - {"PWD", "SHLVL", "_", "OLDPWD"} <= {
        "PATH", "HOME", "TMPDIR", "LANG", "GIT_TERMINAL_PROMPT",
        "GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL", "UA_ATTEMPT_ID",
    }  # fmt: skip


def test_the_script_runs_in_its_folder_with_its_arguments_and_no_input(tmp_path: Path) -> None:
    script = GOOD + 'echo "$# $3 $(basename "$PWD") [$(cat)] $1"'
    result = result_of(run(tmp_path, script, context={"python_version": "3.12", "target_root": "some/where"}))

    assert f"3 3.12 implementation [] {tmp_path}/some/where" in result["stdout"]
    assert result["result_ref"] == "workspace://desk-7/some/where/made"


def test_every_line_is_told_with_its_stream_while_it_runs(tmp_path: Path) -> None:
    recorder = Recorder()
    run(tmp_path, GOOD + "printf 'a\\tb\\033[1m\\n'; echo problem >&2", reporter=recorder)

    assert ("stdout", "a\tb\x1b[1m") in recorder.lines
    assert ("stderr", "problem") in recorder.lines


def test_a_hundred_thousand_lines_are_told_up_to_the_limit_and_kept_at_the_end(tmp_path: Path) -> None:
    recorder = Recorder()
    result = result_of(run(tmp_path, GOOD + "seq 1 100000", reporter=recorder))

    assert len(recorder.lines) == 10_001
    assert recorder.lines[-1][0] == "log"
    assert "not shown" in recorder.lines[-1][1]
    assert (len(result["stdout"]), result["stdout"].endswith("100000\n")) == (6000, True)


def test_a_ready_line_after_the_limit_still_counts(tmp_path: Path) -> None:
    result = result_of(run(tmp_path, 'mkdir "$1/other"; seq 1 30000; echo "Repo ready: $1/other"; seq 1 30000'))

    assert result["repo_dir"] == str(tmp_path / "other")


def test_the_last_ready_line_wins_and_may_be_relative_to_the_target(tmp_path: Path) -> None:
    result = result_of(run(tmp_path, 'mkdir "$1/b"; echo "Repo ready: $1/a"; echo "Repo ready: b"'))

    assert result["repo_dir"] == str(tmp_path / "b")


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ('echo "Repo ready: /etc"', "outside"),
        ('echo "Repo ready: $1/../x"', "outside"),
        ('ln -s /etc "$1/$2"; echo "Repo ready: $1/$2"', "outside"),
        ('echo "Repo ready: $1"', "outside"),
        ('echo "Repo ready: $1/.corporation"', "was there before"),
        ('echo "Repo ready: $1/theirs"', "was there before"),
        ("echo hello", "made no folder"),
        ('echo "Repo ready: $1/missing"', "made no folder"),
        ('touch "$1/$2"', "made no folder"),
    ],
)
def test_a_ready_line_that_names_no_repository_of_this_mission_is_a_failure(
    tmp_path: Path, script: str, why: str
) -> None:
    (tmp_path / "theirs").mkdir()
    outcome = run(tmp_path, script)

    assert isinstance(outcome, Failed)
    assert why in outcome.why
    assert not (tmp_path / "theirs" / ".git").exists()


def test_a_script_that_fails_is_quoted_and_its_output_kept(tmp_path: Path) -> None:
    outcome = run(tmp_path, "echo before; seq 1 5000 >&2; echo 'npm is missing' >&2; exit 3")

    assert isinstance(outcome, Failed)
    assert "exit code 3" in outcome.why
    assert (len(outcome.why) <= 1200, outcome.why.endswith("npm is missing")) == (True, True)
    assert (outcome.result["exit_code"], outcome.result["stdout"]) == (3, "before\n")
    assert (len(outcome.result["stderr"]), outcome.result["repo_name"]) == (4000, "made")
    assert nothing_is_left(tmp_path)


def test_a_verify_that_fails_fails_the_mission_with_the_evidence(tmp_path: Path) -> None:
    outcome = run(tmp_path, GOOD, context={"verify": ["bash", "-c", "ls; echo two wrong >&2; exit 5"]})

    assert isinstance(outcome, Failed)
    assert "exit code 5" in outcome.why
    assert outcome.result["verify"]["exit_code"] == 5
    assert sorted(outcome.result["verify"]["output"].splitlines()) == ["a.txt", "two wrong"]
    assert outcome.result["repo_dir"] == str(tmp_path / "made")


def test_a_verify_command_that_is_not_there_says_what_to_do(tmp_path: Path) -> None:
    outcome = run(tmp_path, GOOD, context={"verify": ["no-such-tool", "--help"]})

    assert isinstance(outcome, Failed)
    assert "no-such-tool: not found on PATH; install it" in outcome.why


def test_at_the_time_limit_everything_is_ended_and_the_output_kept(tmp_path: Path) -> None:
    stubborn = "setsid bash -c 'trap \"\" TERM; sleep 1000' & trap '' TERM; echo begun; sleep 1000; sleep 1000"
    outcome = run(tmp_path, stubborn, timeout_seconds=1)

    assert isinstance(outcome, TimedOut)
    assert "1 s" in outcome.why
    assert (outcome.result["stdout"], outcome.result["exit_code"]) == ("begun\n", 137)
    assert nothing_is_left(tmp_path)


def test_the_time_limit_holds_for_the_verify_command_too(tmp_path: Path) -> None:
    outcome = run(tmp_path, GOOD, context={"verify": ["sleep", "1000"]}, timeout_seconds=2)

    assert isinstance(outcome, TimedOut)
    assert "verify" in outcome.why
    assert outcome.result["commit"]
    assert nothing_is_left(tmp_path)


def test_a_script_that_leaves_a_daemon_ends_well_and_without_it(tmp_path: Path) -> None:
    daemon = "(setsid bash -c 'trap \"\" TERM; exec sleep 1000' </dev/null >/dev/null 2>&1 &)\n"
    result_of(run(tmp_path, daemon + GOOD))

    assert nothing_is_left(tmp_path)


def test_a_daemon_that_keeps_the_output_open_does_not_hold_up_the_mission(tmp_path: Path) -> None:
    result_of(run(tmp_path, "setsid sleep 1000 &\n" + GOOD))

    assert nothing_is_left(tmp_path)


def test_killing_the_tether_does_not_hang_the_mission(tmp_path: Path) -> None:
    outcome = run(tmp_path, "kill -KILL $PPID; exec sleep 1000")

    assert isinstance(outcome, Failed)
    assert "exit code 137" in outcome.why


def test_scratch_that_the_script_made_unwritable_is_removed(tmp_path: Path) -> None:
    result_of(run(tmp_path, GOOD + 'mkdir -p "$HOME/a/b"; touch "$HOME/a/b/c"; chmod -R 0 "$HOME/a"'))

    assert nothing_is_left(tmp_path)


@pytest.mark.parametrize("target", ["..", "../other", "/etc", "inside/link", "/"])
def test_a_target_outside_the_factorys_repositories_is_refused(tmp_path: Path, target: str) -> None:
    root = tmp_path / "root"
    (root / "inside").mkdir(parents=True)
    (root / "inside" / "link").symlink_to(tmp_path)
    outcome = run(root, GOOD, context={"target_root": target})

    assert isinstance(outcome, Stop)
    assert "target_root" in outcome.why
    assert [path.name for path in tmp_path.iterdir()] == ["root"]


def test_links_in_a_circle_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")

    assert isinstance(run(tmp_path, GOOD, context={"target_root": "a/x"}), Stop)


def test_an_absolute_target_inside_and_a_root_that_is_a_link_are_taken(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "root").symlink_to(tmp_path / "real")
    outcome = run(tmp_path / "root", GOOD, context={"target_root": str(tmp_path / "root" / "sub")})

    assert result_of(outcome)["result_ref"] == "workspace://desk-7/sub/made"


def test_a_target_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")

    assert isinstance(run(tmp_path, GOOD, context={"target_root": "file"}), Stop)


def test_without_a_name_the_repository_is_called_after_the_title(tmp_path: Path) -> None:
    context = inline(GOOD) | {"repo_name": "", "tutorial_title": "Queue demo"}
    result = result_of(bootstrap_repo(mission(tmp_path, context)))

    assert result["repo_name"].startswith("queue_demo__20")


def test_a_bundle_that_came_damaged_from_hq_may_be_fetched_again_and_an_inline_one_not(tmp_path: Path) -> None:
    damaged = bundle(GOOD)[:-20]
    fetched = bootstrap_repo(mission(tmp_path, {"tutorial_run_path": "a", "repo_name": "a"}, bundle=damaged))
    given = {"bundle_base64": base64.b64encode(damaged).decode(), "repo_name": "b"}

    assert isinstance(fetched, Failed)
    assert isinstance(bootstrap_repo(mission(tmp_path, given)), Stop)
    assert nothing_is_left(tmp_path)
