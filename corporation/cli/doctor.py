"""`corporation doctor [security]`: every check, in plain words, with what to do about each problem."""

import os
from dataclasses import asdict
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from corporation.cli import exits
from corporation.cli.connection import state_folder
from corporation.cli.options import JsonOption, StateOption
from corporation.cli.output import say, say_json, working
from corporation.embedded.stack_state import StateFolder

if TYPE_CHECKING:
    from corporation.cli.finding import Finding

_WORDS = {"ok": "OK", "warning": "ODD", "problem": "WRONG"}


class Topic(StrEnum):
    """What the doctor looks at beside whether everything works."""

    security = "security"


_HELP = "Instead: each control between machines, on or off, and how to turn it on."


def doctor(
    topic: Annotated[Topic | None, typer.Argument(metavar="[security]", help=_HELP)] = None,
    as_json: JsonOption = False,
    state: StateOption = None,
) -> None:
    """Look at everything this node needs; exit status 78 for a wrong configuration, 69 for what is not reached, else 0.

    Where nothing was set up yet (no stack was ever started, no variable names a node or a server) it says so, and what
    to run first; that is no failure, so it ends with 0. `doctor security` looks at the controls between machines: 78
    for one that is off, 69 for one that nobody could look at. What is only advised is no failure on a workstation.
    """
    if topic is Topic.security:
        _security(state_folder(state), as_json=as_json)
    # Late: the drivers of the ledger and the broker, which no other command needs.
    from corporation.cli.checks import examine

    with working("Looking"):
        findings = examine(os.environ, state_folder(state))
    if as_json:
        say_json({"ok": verdict(findings) == exits.OK, "findings": [asdict(finding) for finding in findings]})
    else:
        for finding in findings:
            advice = f" -> {finding.advice}" if finding.advice else ""
            say(f"{_WORDS[finding.grade]:<6} {finding.name:<13} {finding.what}{advice}")
    raise typer.Exit(verdict(findings))


def verdict(findings: "list[Finding]") -> int:
    """The exit status for `findings`: a wrong configuration first, since the rest often follows from it."""
    codes = {finding.exit_code for finding in findings}
    return next((code for code in (exits.CONFIG, exits.UNAVAILABLE) if code in codes), exits.OK)


def _security(folder: StateFolder, *, as_json: bool) -> None:
    from corporation.cli.doctor_security import examine_security

    with working("Looking"):
        controls, status = examine_security(os.environ, folder)
    if as_json:
        # Those that are only advised may be off, and all else well.
        say_json({"ok": status == exits.OK, "controls": [asdict(control) for control in controls]})
    else:
        for control in controls:
            advice = f" -> {control.advice}" if control.advice else ""
            say(f"{control.state:<8}{control.name:<18} {control.seen}{advice}")
    raise typer.Exit(status)
