"""Which values may become variables, and those that a dotenv file holds (contract E-13, E-15)."""

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from dotenv import dotenv_values

UNUSABLE: Final = "UnusableSecret"
"""Stands in the report once for each secret that cannot be a variable, or that the server does not show."""


@dataclass(frozen=True)
class Dotenv:
    """What a dotenv file gave; `errors` are class names, also the one of a file that is not there."""

    values: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    errors: tuple[str, ...] = ()

    @property
    def faults(self) -> tuple[str, ...]:
        """The errors of a file that is there: what somebody wrote and nobody read."""
        return tuple(error for error in self.errors if error != FileNotFoundError.__name__)


def read_dotenv(path: Path) -> Dotenv:
    """What stands in the file; one that is missing, unreadable or no text is an error and stops nobody."""
    try:
        values = dotenv_values(stream=io.StringIO(_text_of(path)), interpolate=False)
    except (OSError, ValueError) as error:
        return Dotenv(errors=(type(error).__name__,))
    kept, errors = usable({name: value for name, value in values.items() if value is not None})
    return Dotenv(kept, errors)


def _text_of(path: Path) -> str:
    if path.exists() and not path.is_file():
        raise OSError  # reading a pipe could hold the start for ever
    text = path.read_text(encoding="utf-8-sig")
    if "\0" in text:
        raise UnicodeError
    return text


def usable(found: Mapping[str, str | None]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Those that can be variables, and one error for each that cannot."""
    kept = {name: _kept(name, value) for name, value in found.items() if value is not None and _can_be(name, value)}
    return kept, (UNUSABLE,) * (len(found) - len(kept))


def _can_be(name: str, value: str) -> bool:
    if not re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", name) or "\0" in value:
        return False
    return not any("\ud800" <= letter <= "\udfff" for letter in value)


def _kept(name: str, value: str) -> str:
    # A newline after a path would break every encrypted connection; everything else is kept to the byte (E-15).
    return value.strip() if name.endswith(("_CA_BUNDLE", "_CERT_FILE", "_CERT_PATH")) else value
