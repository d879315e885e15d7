"""`corporation doctor`: every check of `checks.py`, in plain words, with what to do about each problem."""

import os
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from corporation.cli import exits
from corporation.cli.connection import JsonOption, StateOption, state_folder
from corporation.cli.output import say, say_json, working

if TYPE_CHECKING:
    from corporation.cli.finding import Finding

_WORDS = {"ok": "OK", "warning": "ODD", "problem": "WRONG"}


def doctor(as_json: JsonOption = False, state: StateOption = None) -> None:
    """Look at everything this node needs; exit status 78 for a wrong configuration, 69 for what is not reached, else 0.

    Where nothing was set up yet (no stack was ever started, no variable names a node or a server) it says so, and what
    to run first; that is no failure, so it ends with 0.
    """
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
