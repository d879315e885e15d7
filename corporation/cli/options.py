"""The options that many commands share."""

from pathlib import Path
from typing import Annotated, Final

import typer

_STATE_HELP: Final = "The state folder of `corporation up` (default: .corporation in the project)."
StateOption = Annotated[Path | None, typer.Option("--state", "--state-dir", metavar="DIR", help=_STATE_HELP)]
StateDirOption = Annotated[Path | None, typer.Option("--state-dir", metavar="DIR", help=_STATE_HELP)]
"""For the command whose `--state` may also mean states of missions (`state_option.py`)."""
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]
