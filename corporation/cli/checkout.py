"""What git says of the checkout that this program runs from; where there is none, nothing."""

import subprocess
from pathlib import Path
from typing import Final

import corporation

PROJECT: Final = Path(corporation.__file__).resolve().parent.parent
LIMIT_SECONDS: Final = 5


def remote(project: Path = PROJECT) -> str:
    """Where this checkout can be cloned from by others, or an empty text; one that carries a password is none."""
    url = _git(project, "config", "--get", "remote.origin.url")
    authority = url.partition("://")[2].partition("/")[0]
    return "" if ":" in authority.rpartition("@")[0] or "\n" in url else url


def is_of_this_machine(url: str) -> bool:
    """Whether a remote is a folder, which another machine does not have; `host:path` and `scheme://…` are none."""
    scheme, separator, _ = url.partition("://")
    if separator:
        return scheme.lower() == "file"
    return ":" not in url.partition("/")[0]


def commit(project: Path = PROJECT) -> str:
    """The commit that is checked out, or an empty text."""
    return _git(project, "rev-parse", "HEAD")


def _git(project: Path, *words: str) -> str:
    try:
        asked = subprocess.run(
            ["git", "-C", str(project), *words],
            capture_output=True,
            text=True,
            timeout=LIMIT_SECONDS,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.SubprocessError, ValueError):
        return ""
    return asked.stdout.strip() if asked.returncode == 0 else ""
