"""What the command line is given to read: files and standard input, with a bound that is checked before reading."""

import os
import stat
import sys
from pathlib import Path
from typing import IO, Any, Final

from corporation import strict_json
from corporation.cli import exits
from corporation.cli.exits import Refusal

LARGEST_TEXT: Final = 256 * 1024
"""Bytes: what HQ takes in one request (a longer task or context could only be refused there)."""


def read_file(path: Path, limit: int = LARGEST_TEXT) -> bytes:
    """The bytes of `path`; refuses what is absent, no file, unreadable, or longer than `limit` before reading it."""
    try:
        with path.open("rb") as file:
            about = os.fstat(file.fileno())
            if stat.S_ISREG(about.st_mode) and about.st_size > limit:
                raise Refusal(exits.IO, f"{path} is {about.st_size} bytes long; at most {limit} can be sent")
            return _bounded(file, str(path), limit)
    except FileNotFoundError:
        raise Refusal(exits.NO_INPUT, f"{path} does not exist; check the path") from None
    except IsADirectoryError:
        raise Refusal(exits.NO_INPUT, f"{path} is a folder; name a file") from None
    except OSError as error:
        raise Refusal(exits.IO, f"{path} cannot be read: {error.strerror}") from None


def read_stdin(what: str = "the task", limit: int = LARGEST_TEXT) -> str:
    """The text on standard input; refuses it when it is empty, not UTF-8, or longer than `limit` bytes."""
    text = decoded(_bounded(sys.stdin.buffer, "standard input", limit), "standard input")
    if not text.strip():
        raise Refusal(exits.DATA, f"Standard input is empty; pipe {what} into it, or write it in place of the `-`")
    return text


def decoded(data: bytes, name: str) -> str:
    """`data` as text; `name` says in the refusal where it came from."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Refusal(exits.DATA, f"{name} is not UTF-8 (byte {error.start + 1}); convert it first") from None


def json_object(data: bytes, name: str) -> dict[str, Any]:
    """The one JSON object in `data`; `name` says in the refusal where it came from."""
    try:
        value = strict_json.parse(data)
    except strict_json.JsonRefused as error:
        raise Refusal(exits.DATA, f"{name} is not usable JSON: {error.message}") from None
    if not isinstance(value, dict):
        raise Refusal(exits.DATA, f'{name} must be a JSON object, like {{"repo_name": "tool"}}')
    return {str(key): item for key, item in value.items()}


def _bounded(stream: IO[bytes], name: str, limit: int) -> bytes:
    data = stream.read(limit + 1)
    if len(data) > limit:
        raise Refusal(exits.IO, f"{name} is longer than the {limit} bytes that can be sent")
    return data
