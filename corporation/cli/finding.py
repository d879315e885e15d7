"""What one check of `corporation doctor` found."""

from dataclasses import dataclass
from typing import Literal

from corporation.cli import exits

Grade = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Finding:
    """The outcome of one check; `advice` is what to do, and `exit_code` what the command ends with if it is wrong."""

    name: str
    grade: Grade
    what: str
    advice: str = ""
    exit_code: int = exits.OK
