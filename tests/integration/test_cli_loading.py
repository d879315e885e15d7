"""A command loads what it needs itself: no driver, and no module of another command."""

import subprocess
import sys

import pytest
from typer.main import get_command

from corporation.cli.app import app, run
from corporation.cli.commands import COMMANDS

HEAVY = {"redis", "psycopg", "sqlalchemy", "celery", "kombu", "fastapi"}
LOADED = "import sys; from corporation.cli.app import run; run(sys.argv[1:]); print('loaded', *sys.modules)"


def loaded_by(*words: str) -> set[str]:
    """The modules that a fresh process has loaded after this command."""
    done = subprocess.run(
        [sys.executable, "-c", LOADED, *words], capture_output=True, text=True, check=True, timeout=60
    )
    return set(done.stdout.splitlines()[-1].split()[1:])


@pytest.mark.parametrize("name", COMMANDS)
def test_every_row_of_the_table_is_a_command_of_that_name(name: str) -> None:
    command = get_command(app).commands[name]  # pyright: ignore[reportAttributeAccessIssue]

    assert command.name == name
    assert command.help


@pytest.mark.parametrize("words", [["version"], ["why", "--help"], ["missions", "list", "--help"], ["versio"]])
def test_a_command_that_needs_no_driver_loads_none(words: list[str]) -> None:
    loaded = loaded_by(*words)

    assert loaded & HEAVY == set()
    assert "corporation.cli.up" not in loaded


def test_the_help_lists_every_command_in_the_order_of_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0

    said = capsys.readouterr().out
    places = [said.index(f"│ {name} ") for name in COMMANDS]
    assert places == sorted(places)


def test_a_wrong_name_is_told_the_nearest_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["misions"]) == 2

    assert "Did you mean 'missions'?" in capsys.readouterr().err


def test_a_shell_completes_the_names_of_commands() -> None:
    asked = {"_CORPORATION_COMPLETE": "complete_bash", "COMP_WORDS": "corporation re", "COMP_CWORD": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "corporation.cli"], env=asked, capture_output=True, text=True, check=False, timeout=60
    )

    assert set(done.stdout.split()) == {name for name in COMMANDS if name.startswith("re")}
