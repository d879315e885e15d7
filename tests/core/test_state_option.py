"""What `--state` means where missions are listed, next to the two options that mean one thing only."""

from pathlib import Path

import pytest

from corporation.cli.exits import USAGE, Refusal
from corporation.cli.state_option import states_and_folder


@pytest.mark.parametrize("word", ["running", "failed,timed_out", "Failed, CANCELLED"])
def test_states_of_missions_are_a_filter_as_before(word: str) -> None:
    assert states_and_folder(word, None, None) == (word, None)
    assert states_and_folder(word, None, Path("x")) == (word, Path("x"))
    assert states_and_folder(None, word, Path("x")) == (word, Path("x"))


@pytest.mark.parametrize("path", ["./running", "/nowhere/at/all", ".corporation-2", "a/b"])
def test_what_looks_like_a_path_is_the_folder_as_in_every_other_command(path: str) -> None:
    assert states_and_folder(path, None, None) == (None, Path(path))
    assert states_and_folder(path, "failed", None) == ("failed", Path(path))


def test_a_folder_that_exists_needs_no_slash_and_a_state_of_that_name_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("here", "running"):
        (tmp_path / name).mkdir()

    assert states_and_folder("here", None, None) == (None, Path("here"))
    assert states_and_folder("running", None, None) == ("running", None)


@pytest.mark.parametrize("word", ["runing", "failed,runing", ""])
def test_what_is_neither_is_refused_with_both_ways_to_say_it(word: str) -> None:
    with pytest.raises(Refusal, match=r"succeeded.*--in-state STATES.*--state-dir DIR") as refused:
        states_and_folder(word, None, None)

    assert refused.value.exit_code == USAGE


@pytest.mark.parametrize(
    ("state", "in_state", "state_dir", "once"),
    [("failed", "running", None, "--in-state"), ("./x", None, Path("y"), "--state-dir")],
)
def test_what_is_said_twice_is_refused(state: str, in_state: str | None, state_dir: Path | None, once: str) -> None:
    with pytest.raises(Refusal, match=f"say it once: {once}"):
        states_and_folder(state, in_state, state_dir)
