"""What repositories and jobs are called (contract http §11, H-33); pure."""

import re
import unicodedata
from datetime import UTC, datetime
from typing import Final

LONGEST_NAME: Final = 120
_STAMP: Final = "%Y%m%d_%H%M%S"
_NOT_IN_A_NAME: Final = re.compile(r"[^A-Za-z0-9._-]+")


def clean_name(name: str) -> str:
    """`name` as a folder name of at most 120 characters, or "" when nothing of it can stay; twice changes nothing."""
    return _NOT_IN_A_NAME.sub("_", name).lstrip(".-_")[:LONGEST_NAME].rstrip(".-_ ")


def default_name(title: str, now: datetime) -> str:
    """`<title slug>__<YYYYMMDD_HHMMSS>` in UTC, at most 120 characters (contract H-33)."""
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
    stamp = now.astimezone(UTC).strftime(_STAMP)
    slug = re.sub(r"[^a-z0-9]+", "_", plain).strip("_")[: LONGEST_NAME - len(stamp) - 2].rstrip("_")
    return f"{slug or 'repo'}__{stamp}"


def distinguished(name: str, mark: str) -> str:
    """`name` with `_<mark>` at its end, still at most 120 characters: for the second of two with one name."""
    return f"{name[: LONGEST_NAME - len(mark) - 1]}_{mark}"


def job_name(now: datetime, mark: str) -> str:
    """`tbj_<epoch_ms>_<6 hex>`; `mark` are the six digits (H-33)."""
    return f"tbj_{int(now.timestamp() * 1000)}_{mark}"
