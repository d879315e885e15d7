"""The exit statuses of the command line, named as in sysexits.h so that scripts can tell the causes apart."""

from typing import Final

from corporation.errors import EXIT_CONFIG, CorporationError

OK: Final = 0
FAILED: Final = 1
USAGE: Final = 2
DATA: Final = 65
NO_INPUT: Final = 66
UNAVAILABLE: Final = 69
SOFTWARE: Final = 70
IO: Final = 74
TRY_LATER: Final = 75
NO_PERMISSION: Final = 77
CONFIG: Final = EXIT_CONFIG
INTERRUPTED: Final = 130
CLOSED_PIPE: Final = 141


class Refusal(CorporationError):
    """The command ends here: `exit_code` for the script, the message (what happened, why, what next) for the person."""

    code = "refusal"

    def __init__(self, exit_code: int, message: str) -> None:
        self.exit_code = exit_code
        super().__init__(message)
