"""A script that HQ runs itself gets nothing of HQ's, ends with its time, and leaves no process behind (H-37, D16)."""

from pathlib import Path

import pytest
from bootstrap_builders import alive_with, bundle

from corporation.bootstrap_jobs.at_headquarters import PlaceRefused, Ran, make_here, place_of, repository_in

GOOD = 'mkdir "$1/$2" && echo "Repo ready: $1/$2"\n'


def test_the_script_is_told_where_and_what_and_gets_no_variable_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UA_OPS_TOKEN", "secret")
    ran = make_here(bundle('echo "$# $1 $2 $3"; pwd; env'), tmp_path / "to", "demo", "3.12", 30, "mark-1")

    first, where, *environment = ran.stdout.splitlines()
    assert (ran.exit_code, first, Path(where).name) == (0, f"3 {tmp_path / 'to'} demo 3.12", "implementation")
    assert "UA_OPS_TOKEN" not in "".join(environment)
    assert not Path(where).exists()


def test_when_its_time_is_up_it_is_gone_with_all_it_started(tmp_path: Path) -> None:
    script = "setsid sleep 300 & (sleep 300 &) ; trap '' TERM; echo began; sleep 300\n"
    ran = make_here(bundle(script), tmp_path, "demo", "", 1.0, "mark-of-a-slow-script")

    assert (ran.timed_out, ran.stdout) == (True, "began\n")
    assert alive_with("mark-of-a-slow-script") == []


def test_what_it_left_running_is_ended_when_it_ends_well(tmp_path: Path) -> None:
    script = f"{GOOD} nohup setsid sleep 300 > /dev/null 2>&1 &\n"
    ran = make_here(bundle(script), tmp_path, "demo", "", 30, "mark-of-a-messy-script")

    assert (ran.exit_code, ran.timed_out) == (0, False)
    assert alive_with("mark-of-a-messy-script") == []


def test_of_what_it_says_the_end_is_kept(tmp_path: Path) -> None:
    script = "head -c 3000000 /dev/zero | tr '\\0' x; echo the end; printf 'a\\0b' >&2; exit 3\n"
    ran = make_here(bundle(script), tmp_path, "demo", "", 30, "mark-2")

    assert (ran.exit_code, len(ran.stdout), ran.stdout[-8:], ran.stderr) == (3, 6000, "the end\n", "a\u2400b")


def test_the_repository_is_where_the_script_says_but_never_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "to" / "demo").mkdir(parents=True)
    (tmp_path / "to" / "other").mkdir()
    (tmp_path / "away").mkdir()
    (tmp_path / "to" / "link").symlink_to(tmp_path / "away")
    target = (tmp_path / "to").resolve()

    def found(line: str, name: str = "demo") -> Path | None:
        return repository_in(Ran(0, False, f"x\n{line}\ny\n", ""), target, name)

    assert found("Repo ready: other") == found(f"  Repo ready: {target}/other  ") == target / "other"
    assert found("nothing") == found("Repo ready: ../away") == found("Repo ready: link") == target / "demo"
    assert found("nothing", "none") is None


@pytest.mark.parametrize(
    ("target_root", "outside"), [("..", True), ("/etc", True), ("a/../../b", True), ("", False), ("taken", False)]
)
def test_a_place_outside_or_taken_is_refused(tmp_path: Path, target_root: str, outside: bool) -> None:
    (tmp_path / "root" / "demo").mkdir(parents=True)
    (tmp_path / "root" / "taken").mkdir()
    (tmp_path / "root" / "taken" / "demo").symlink_to("/nowhere")

    with pytest.raises(PlaceRefused) as refused:
        place_of(tmp_path / "root", target_root, "demo")
    assert refused.value.outside is outside


def test_a_place_below_the_root_need_not_be_there(tmp_path: Path) -> None:
    assert place_of(tmp_path, "a/b", "demo") == tmp_path.resolve() / "a" / "b"
