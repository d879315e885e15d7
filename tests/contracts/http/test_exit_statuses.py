"""The exit status of every command of `corporation`: the table of the README of the command line, row by row."""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import typer
from canary import secret, shows
from served_api import OPS_TOKEN, Api
from warm_starts import WarmStarts

from corporation import cli
from corporation.cli import exits
from corporation.cli.app import app
from corporation.cli.app import run as app_run

README = Path(cli.__file__).parent / "README.md"
NOBODY = "nobody-has-this-name"
ASKS_HQ: dict[str, list[str]] = {
    "audit": [],
    "dead-letters discard": [NOBODY, "--yes"],
    "dead-letters list": [],
    "dead-letters replay": [NOBODY, "--yes"],
    "dead-letters show": [NOBODY],
    "factories": [],
    "factories drain": [NOBODY],
    "factories pause": [NOBODY],
    "factories quarantine": [NOBODY],
    "factories release": [NOBODY],
    "factories remove": [NOBODY, "--yes"],
    "factories rename": [NOBODY, "Name"],
    "factories resume": [NOBODY],
    "factories show": [NOBODY],
    "join-code": [],
    "missions adopt": [NOBODY, "--attempt", "1"],
    "missions cancel": [NOBODY],
    "missions list": [],
    "missions replay": [NOBODY],
    "missions show": [NOBODY],
    "missions watch": [NOBODY],
    "publish": ["x"],
    "quarantine": [NOBODY],
    "rebuild-queues": ["--yes"],
    "release": [NOBODY],
    "rotate": [NOBODY],
    "streams replay-dlq": [NOBODY, "--yes"],
    "why": [NOBODY],
    "workload": [],
}
"""How each command that needs HQ's answer is called about something that is not there."""
ELSEWHERE = {
    "capabilities": "reads what is installed",
    "doctor": "its status is that of what it found",
    "env": "reads the state folder",
    "factory down": "stops what runs on this machine",
    "factory join": "asks with a code, not with a token",
    "factory refused": "reads this machine's spool",
    "factory status": "asks as a factory",
    "factory up": "runs a factory",
    "keys new": "makes a key",
    "keys show": "reads this node's variables",
    "migrate": "asks PostgreSQL",
    "streams status": "asks Redis",
    "streams tail": "asks Redis",
    "up": "runs the stack",
    "update-manifest sign": "reads files",
    "update-manifest verify": "reads files",
    "version": "asks nobody",
}
"""The commands that do not call HQ's API with an operator's token, and why."""


def commands() -> Iterator[str]:
    """Every command that can be called, groups that do something by themselves included."""
    unseen: list[tuple[str, object]] = [("", typer.main.get_command(app))]
    while unseen:
        path, command = unseen.pop()
        inside = getattr(command, "commands", {})
        unseen += [(f"{path} {name}".strip(), one) for name, one in inside.items()]
        if path and (not inside or getattr(command, "invoke_without_command", False)):
            yield path


@pytest.fixture
def ended(tmp_path: Path) -> Callable[..., dict[str, tuple[int, str]]]:
    """How each call ends with these variables, one after the other in this process: its status and its errors."""

    def run(calls: dict[str, list[str]], **given: str) -> dict[str, tuple[int, str]]:
        found: dict[str, tuple[int, str]] = {}
        for name, words in calls.items():
            errors = StringIO()
            environ = patch.dict(os.environ, environ_of(given), clear=True)
            with environ, redirect_stdout(StringIO()), redirect_stderr(errors):
                found[name] = app_run([*name.split(), *words, *at(name, tmp_path)]), errors.getvalue()
        return found

    return run


def environ_of(given: dict[str, str]) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "UA_DOTENV_PATH": os.devnull, **given}


def at(name: str, folder: Path) -> list[str]:
    """The words that name a state folder in which nothing was set up, for the commands that have one."""
    if name not in ASKS_HQ:
        return []
    return ["--state-dir" if name == "missions list" else "--state", str(folder)]


def test_every_command_is_in_one_of_the_tables() -> None:
    """A new command gets a row here, and ends as the others do."""
    assert ASKS_HQ.keys() & ELSEWHERE.keys() == set()
    assert set(commands()) == ASKS_HQ.keys() | ELSEWHERE.keys()


def test_the_readme_says_what_each_status_means() -> None:
    rows = re.findall(r"^\| (\d+) \|", README.read_text(), re.MULTILINE)

    assert [int(row) for row in rows] == sorted({value for value in vars(exits).values() if isinstance(value, int)})


def test_wrong_use_is_2_everywhere(ended: Any) -> None:
    found = ended({name: ["--no-such-option"] for name in commands()})

    assert {name: one for name, one in found.items() if one[0] != exits.USAGE} == {}


def test_a_headquarters_that_is_not_reached_is_69_everywhere(warm: WarmStarts, tmp_path: Path) -> None:
    """All at once, since each tries for some seconds."""
    environ = environ_of({"UA_HQ_BASE_URL": "http://127.0.0.1:1", "UA_OPS_TOKEN": OPS_TOKEN})
    started = {
        name: warm.popen(["-m", "corporation.cli", *name.split(), *words, *at(name, tmp_path)], environ)
        for name, words in ASKS_HQ.items()
    }
    found = {name: (one.communicate(120)[1], one.wait()) for name, one in started.items()}

    assert {name: one for name, one in found.items() if one[1] != exits.UNAVAILABLE} == {}
    assert all("is not reached; start it with" in errors for errors, _ in found.values())


def test_a_token_that_is_not_accepted_is_77_everywhere(ended: Any, api: Api) -> None:
    found = ended(ASKS_HQ, UA_HQ_BASE_URL=api.url, UA_OPS_TOKEN=secret("exit-statuses"))

    assert {name: one for name, one in found.items() if one[0] != exits.NO_PERMISSION} == {}
    assert all("does not accept the token from UA_OPS_TOKEN" in errors for _, errors in found.values())
    assert not shows(str(found))


def test_a_name_that_nobody_has_is_66_everywhere(ended: Any, api: Api) -> None:
    named = {name: words for name, words in ASKS_HQ.items() if NOBODY in words}
    found = ended(named, UA_HQ_BASE_URL=api.url, UA_OPS_TOKEN=OPS_TOKEN)

    assert {name: one for name, one in found.items() if one[0] != exits.NO_INPUT} == {}


def test_without_headquarters_and_token_it_is_78_everywhere(ended: Any) -> None:
    assert {name: one for name, one in ended(ASKS_HQ).items() if one[0] != exits.CONFIG} == {}
