"""Runs one of the commands in `commands.py`, and makes of every ending one sentence and one exit status."""

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Final

import typer
from typer.exceptions import TyperException

from corporation.cli import exits
from corporation.cli.commands import LazyGroup
from corporation.cli.exits import Refusal
from corporation.cli.output import warn
from corporation.embedded.stack_state import StackRunsAlready, StateFolderError
from corporation.errors import CorporationError, GivenServerError, LedgerUnavailableError, SettingsError

app = typer.Typer(
    name="corporation",
    cls=LazyGroup,
    help="Run a fleet of machines that do delegated work: missions in, exactly one outcome home.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
_SECRET_OPTIONS: Final = ("--token", "--ops-token", "--password", "--secret")


@app.callback()
def root() -> None:
    """Does nothing of its own; without it Typer takes this, whose commands are all in `LazyGroup`, for empty."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command (default: that of the command line) and leave the process with its exit status."""
    # Python has no stream at all when it was started with a closed one (`>&-`): then nobody could read a word.
    streams: tuple[object, object] = (sys.stdout, sys.stderr)
    if None in streams:
        sys.exit(exits.CLOSED_PIPE)
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """Run one command; the exit status, after everything that was printed has left."""
    try:
        _refuse_secrets(arguments)
        status = app(list(arguments), standalone_mode=False, prog_name="corporation")
        sys.stdout.flush()
        return status if isinstance(status, int) else exits.OK
    except BrokenPipeError:
        return _closed_pipe()
    except SystemExit as leaving:
        # Typer and rich end this way when the reader of our output is gone.
        return _closed_pipe() if isinstance(leaving.__context__, BrokenPipeError) else exits.SOFTWARE
    except (KeyboardInterrupt, typer.Abort):
        # Abort: Ctrl-C or Ctrl-D in the place of an answer to a question, so that nothing was done.
        return exits.INTERRUPTED
    except TyperException as error:
        # The second half of what Typer says of a wrong choice is a remark of its own to programmers.
        warn(f"{error.format_message().replace('Value error, ', '', 1)}\nTry: {_command_of(error)} --help")
        return error.exit_code
    except CorporationError as error:
        warn(str(error))
        return status_of(error)
    except OSError as error:
        warn(
            f"{error.filename or 'The system'}: {error.strerror or error}; check the disk and the rights, and try again"
        )
        return exits.IO
    except Exception as error:
        warn(_unforeseen(error))
        return exits.SOFTWARE


def status_of(error: CorporationError) -> int:
    """The exit status for an error that was foreseen."""
    match error:
        case Refusal():
            return error.exit_code
        case SettingsError() | StateFolderError():
            return exits.CONFIG
        case StackRunsAlready():
            return exits.TRY_LATER
        case LedgerUnavailableError() | GivenServerError():
            return exits.UNAVAILABLE
        case _:
            return exits.FAILED


def _command_of(error: TyperException) -> str:
    """The command that was used wrongly, whose help says how it is used."""
    context = getattr(error, "ctx", None)
    return str(context.command_path) if context is not None else "corporation"


def _refuse_secrets(arguments: Sequence[str]) -> None:
    for argument in arguments:
        if argument == "--":
            return
        if argument.split("=")[0] in _SECRET_OPTIONS:
            raise Refusal(
                exits.USAGE,
                f"{argument.split('=')[0]} is not taken: every user of this machine sees a command line; "
                "put the token into UA_OPS_TOKEN",
            )


def _closed_pipe() -> int:
    # What is still buffered can go nowhere; without this, Python complains about it at exit.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return exits.CLOSED_PIPE


def _unforeseen(error: Exception) -> str:
    place = traceback.extract_tb(error.__traceback__)[-1]
    return (
        f"This is a bug in Corporation: {type(error).__name__} in {place.name} ({place.filename}:{place.lineno}). "
        "Please report it together with the command you ran"
    )
