"""`corporation doctor`: every check of `checks.py`, in plain words, with what to do about each problem."""

import os
from dataclasses import asdict
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from corporation.cli import exits
from corporation.cli.connection import JsonOption, StateOption, state_folder
from corporation.cli.output import say, say_json, working

if TYPE_CHECKING:
    from corporation.cli.finding import Finding

_WORDS = {"ok": "OK", "warning": "ODD", "problem": "WRONG"}


class Subject(StrEnum):
    """What is looked at."""

    security = "security"


_SUBJECT_HELP = "`security`: each control that is on or off, and how to turn it on; exit status 1 when one is off."


def doctor(
    subject: Annotated[Subject | None, typer.Argument(help=_SUBJECT_HELP, show_default=False)] = None,
    as_json: JsonOption = False,
    state: StateOption = None,
) -> None:
    """Look at everything this node needs; exit status 78 for a wrong configuration, 69 for what is not reached, else 0.

    Where nothing was set up yet (no stack was ever started, no variable names a node or a server) it says so, and what
    to run first; that is no failure, so it ends with 0.
    """
    if subject is Subject.security:
        from corporation.cli.doctor_security import doctor_security

        raise typer.Exit(doctor_security(state_folder(state), as_json=as_json))
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
