"""A mission that runs again starts over, or repeats its answer; nobody's finished work is ever taken for one's own."""

import json
import os
import select
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from bootstrap_builders import PATIENCE_SECONDS, Recorder, alive_with, git, inline, mission

from corporation import clock
from corporation.missions.outcomes import Done, Failed, Later, Outcome, Stop
from factory_tasks.bootstrap_repo import bootstrap_repo

GOOD = 'mkdir "$1/$2" && echo hello > "$1/$2/a.txt" && echo "Repo ready: $1/$2"\n'


def run(root: Path, script: str, **more: Any) -> Outcome:
    return bootstrap_repo(mission(root, inline(script) | more.pop("context", {}), **more))


def test_a_second_attempt_removes_what_the_first_one_left_and_starts_over(tmp_path: Path) -> None:
    first = run(tmp_path, 'mkdir "$1/$2"; touch "$1/$2/half"; exit 1')
    second = run(tmp_path, GOOD, attempt=2)

    assert isinstance(first, Failed)
    assert isinstance(second, Done)
    assert git(tmp_path / "made", "ls-files") == "a.txt"


def test_a_finished_mission_gives_the_same_answer_again_and_touches_nothing(tmp_path: Path) -> None:
    first = run(tmp_path, GOOD)
    (tmp_path / "made" / "work.txt").write_text("somebody's work")
    second = run(tmp_path, GOOD, attempt=2)

    assert second == first
    assert (tmp_path / "made" / "work.txt").read_text() == "somebody's work"


def test_a_finished_repository_that_was_removed_is_made_again(tmp_path: Path) -> None:
    run(tmp_path, GOOD)
    (tmp_path / "made").rename(tmp_path / "elsewhere")

    assert isinstance(run(tmp_path, GOOD, attempt=2), Done)
    assert (tmp_path / "made" / "a.txt").exists()


def test_a_folder_that_nobody_claimed_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "mine.txt").write_text("mine")
    outcome = run(tmp_path, GOOD)

    assert isinstance(outcome, Stop)
    assert "already exists" in outcome.why
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["mine.txt"]
    assert isinstance(run(tmp_path, GOOD, attempt=2), Stop)


def test_another_missions_repository_is_not_touched_and_its_maker_is_named(tmp_path: Path) -> None:
    run(tmp_path, GOOD, job_id="theirs")
    commit = git(tmp_path / "made", "rev-parse", "HEAD")
    outcome = run(tmp_path, GOOD, job_id="ours")

    assert isinstance(outcome, Stop)
    assert "already exists" in outcome.why
    assert "theirs" in outcome.why
    assert git(tmp_path / "made", "rev-parse", "HEAD") == commit


def nameless(root: Path, script: str, **more: Any) -> Any:
    return bootstrap_repo(mission(root, inline(script) | {"repo_name": ""}, **more))


def test_two_missions_that_make_up_the_same_name_get_a_repository_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noon = datetime(2026, 6, 1, 8, tzinfo=UTC)
    monkeypatch.setattr(clock, "utc_now", lambda: noon)
    first, second = nameless(tmp_path, GOOD, job_id="first"), nameless(tmp_path, GOOD, job_id="second")

    assert first.result["repo_name"] == "make_a_repository__20260601_080000"
    assert second.result["repo_name"].startswith("make_a_repository__20260601_080000_")
    assert nameless(tmp_path, GOOD, job_id="second", attempt=2) == second


def test_a_mission_that_made_up_its_name_keeps_it_when_it_runs_again_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noon = datetime(2026, 6, 1, 8, tzinfo=UTC)
    monkeypatch.setattr(clock, "utc_now", lambda: noon)
    assert isinstance(nameless(tmp_path, "exit 1"), Failed)
    monkeypatch.setattr(clock, "utc_now", lambda: noon + timedelta(seconds=20))

    assert nameless(tmp_path, GOOD, attempt=2).result["repo_name"] == "make_a_repository__20260601_080000"


def test_a_link_in_the_place_of_the_repository_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("x")
    run(tmp_path / "root", f'ln -s {tmp_path}/precious "$1/$2"; exit 1')
    outcome = run(tmp_path / "root", GOOD, attempt=2)

    assert isinstance(outcome, Done)
    assert (tmp_path / "precious" / "file").read_text() == "x"


def test_a_second_attempt_without_a_name_finds_the_first_ones(tmp_path: Path) -> None:
    context = {"repo_name": "", "tutorial_title": "Queue demo"}
    first = run(tmp_path, 'mkdir "$1/$2"; exit 1', context=context)
    claim = next((tmp_path / ".corporation").glob("*.json"))
    older = claim.rename(claim.with_name("queue_demo__20200101_000000.json"))
    second = run(tmp_path, GOOD, context=context, attempt=2)

    assert isinstance(first, Failed)
    assert isinstance(second, Done)
    assert second.result["repo_name"] == older.stem


def test_a_torn_claim_is_nobodys(tmp_path: Path) -> None:
    run(tmp_path, 'mkdir "$1/$2"; exit 1')
    (tmp_path / ".corporation" / "made.json").write_text('{"job_')

    assert isinstance(run(tmp_path, GOOD, attempt=2), Stop)


def test_a_name_whose_mission_left_no_folder_is_free_again(tmp_path: Path) -> None:
    run(tmp_path, "exit 1", job_id="theirs")

    assert isinstance(run(tmp_path, GOOD, job_id="ours"), Done)
    assert json.loads((tmp_path / ".corporation" / "made.json").read_text())["job_id"] == "ours"


class Held:
    """A mission under way in a thread, which has begun and ends when it is let go."""

    def __init__(self, root: Path, **more: Any) -> None:
        os.mkfifo(root / "go")
        self.outcome: Outcome | None = None
        self._go = root / "go"
        recorder = Recorder(awaited="begun")
        script = f"echo begun; read -r < {root}/go; {GOOD}"
        self._thread = threading.Thread(target=lambda: self._run(root, script, reporter=recorder, **more))
        self._thread.start()
        assert recorder.heard.wait(PATIENCE_SECONDS)

    def _run(self, root: Path, script: str, **more: Any) -> None:
        self.outcome = run(root, script, **more)

    def let_go(self) -> Outcome | None:
        self._go.write_text("go\n")
        self._thread.join(PATIENCE_SECONDS)
        return self.outcome


def test_of_two_missions_with_one_name_at_once_exactly_one_wins(tmp_path: Path) -> None:
    first = Held(tmp_path, job_id="first")
    second = run(tmp_path, GOOD, job_id="second")
    won = first.let_go()

    assert isinstance(second, Stop)
    assert "already exists" in second.why
    assert isinstance(won, Done)


def test_many_missions_with_one_name_at_once_have_one_winner(tmp_path: Path) -> None:
    outcomes: list[Outcome] = []
    together = threading.Barrier(6)

    def compete(number: int) -> None:
        together.wait(PATIENCE_SECONDS)
        outcomes.append(run(tmp_path, GOOD, job_id=f"job-{number}"))

    threads = [threading.Thread(target=compete, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_SECONDS)

    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Done", *["Stop"] * 5]


def test_an_attempt_waits_for_an_older_one_that_still_runs_here(tmp_path: Path) -> None:
    first = Held(tmp_path)
    second = run(tmp_path, GOOD, attempt=2)
    won = first.let_go()

    assert isinstance(second, Later)
    assert isinstance(won, Done)


WORKER = """
import os, sys
from pathlib import Path
from bootstrap_builders import inline, mission
from factory_tasks.bootstrap_repo import bootstrap_repo

class Loud:
    def log(self, line, stream="log"):
        print(line, flush=True)
    def progress(self, percent, message):
        pass

bootstrap_repo(mission(Path(sys.argv[1]), inline(sys.argv[2]), reporter=Loud(), grace_seconds=float(sys.argv[3])))
"""


def start_worker(root: Path, script: str, grace_seconds: float) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, str(root), script, str(grace_seconds)],
        env={"PYTHONPATH": f"{Path(__file__).parent}:{Path(__file__).parents[2]}", "PATH": os.defpath},
        stdout=subprocess.PIPE,
        text=True,
    )


def kill_once_it_works(worker: "subprocess.Popen[str]") -> int:
    """A handle on the tether of `worker`, which said where it is and is dead now."""
    assert worker.stdout is not None
    tether = os.pidfd_open(int(worker.stdout.readline()))
    worker.kill()
    assert worker.wait(PATIENCE_SECONDS) == -signal.SIGKILL
    return tether


def wait_for_the_end(tether: int) -> None:
    assert select.select([tether], [], [], PATIENCE_SECONDS)[0], "the tether outlives its worker"
    os.close(tether)


def test_while_a_killed_workers_script_ends_the_next_attempt_waits(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "go")
    script = f"trap '' TERM; echo $PPID; read -r < {tmp_path}/go"
    with start_worker(tmp_path, script, PATIENCE_SECONDS) as worker:
        tether = kill_once_it_works(worker)
        meanwhile = run(tmp_path, GOOD, attempt=2)
        (tmp_path / "go").write_text("go\n")
        wait_for_the_end(tether)

    assert isinstance(meanwhile, Later)
    assert isinstance(run(tmp_path, GOOD, attempt=3), Done)


def test_after_the_worker_was_killed_nothing_runs_on_and_the_next_attempt_succeeds(tmp_path: Path) -> None:
    script = (
        'mkdir "$1/$2"; touch "$1/$2/half"; (setsid bash -c \'trap "" TERM; exec sleep 1000\' >/dev/null 2>&1 &)\n'
        "echo $PPID; sleep 1000"
    )
    with start_worker(tmp_path, script, 0.3) as worker:
        wait_for_the_end(kill_once_it_works(worker))

    assert alive_with(str(tmp_path)) == []
    assert (tmp_path / "made" / "half").exists()
    assert isinstance(run(tmp_path, GOOD, attempt=2), Done)
    assert not (tmp_path / "made" / "half").exists()
    assert not list(tmp_path.glob("**/*.scratch"))
