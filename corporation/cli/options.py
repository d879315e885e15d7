"""The options that many commands share."""

from pathlib import Path
from typing import Annotated, Final

import typer

_STATE_HELP: Final = "The state folder of `corporation up` (default: .corporation in the project)."
StateOption = Annotated[Path | None, typer.Option("--state", "--state-dir", metavar="DIR", help=_STATE_HELP)]
StateDirOption = Annotated[Path | None, typer.Option("--state-dir", metavar="DIR", help=_STATE_HELP)]
"""For the command whose `--state` may also mean states of missions (`state_option.py`)."""
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]

JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="The mission's id.")]

# What an order says, in the words of `publish`; a replay changes it in the same words.
PriorityOption = Annotated[int | None, typer.Option("--priority", help="Lower runs sooner.")]
TimeoutOption = Annotated[int | None, typer.Option("--timeout", help="Seconds one attempt may take.")]
RetriesOption = Annotated[int | None, typer.Option("--max-retries", help="Attempts in total, at least one.")]
TtlOption = Annotated[int | None, typer.Option("--ttl", help="Seconds until the mission is too old to start.")]
_EXPECTED_HELP: Final = "Also for a target that has not registered yet."
ExpectedOption = Annotated[bool, typer.Option("--expected", help=_EXPECTED_HELP)]
ExpectedOrWaitOption = Annotated[bool, typer.Option("--expected", "--wait", help=_EXPECTED_HELP)]
"""As `ExpectedOption`, and as it was called before."""
KeyOption = Annotated[str | None, typer.Option("--key", help="The idempotency key: the same key never runs twice.")]
WatchOption = Annotated[bool, typer.Option("--watch", help="Follow the mission until it is final.")]

NewTaskOption = Annotated[str | None, typer.Option("--task", help="Another task; `-` reads it from standard input.")]
NewContextOption = Annotated[
    str | None,
    typer.Option("--context", help="A JSON object, or @FILE: its keys replace the order's, null takes one away."),
]
NewTargetOption = Annotated[
    str | None, typer.Option("--target", help="The only factory that may run it; '' lets any factory.")
]
