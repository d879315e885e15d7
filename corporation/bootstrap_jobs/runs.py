"""A tutorial run as it lies at HQ: found by its path, judged, and what its manifest says of it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from corporation.errors import CorporationError

RUNS: Final = "youtube-tutorial-creation"
FOLDER: Final = "implementation"
SCRIPT: Final = "create_new_repo.sh"
MANIFEST: Final = "manifest.json"
LARGEST_MANIFEST_BYTES: Final = 1024 * 1024
LONGEST_TEXT: Final = 500

Why = Literal["bad", "outside", "missing"]


class RunRefused(CorporationError):
    """No repository can be made from this run; `why` says whether the path is bad, leads outside, or nothing is there.

    A run that is there but cannot be used is `bad`.
    """

    code = "run_refused"

    def __init__(self, why: Why, message: str) -> None:
        self.why: Why = why
        super().__init__(message)


@dataclass(frozen=True)
class Run:
    """A run from which a repository can be made; `path` is relative to the artifact root."""

    path: str
    folder: Path
    title: str
    video_id: str
    video_url: str


def find(artifact_root: Path, run_path: str) -> Run:
    """The run at `run_path`, links followed; raises RunRefused when it cannot be used (contract http §11)."""
    if not run_path.strip():
        raise RunRefused("bad", "run_path is empty; name a folder below the artifact root")
    root = artifact_root.resolve()
    folder = _below(root, run_path.strip())
    path = folder.relative_to(root).as_posix()
    if not path.startswith(f"{RUNS}/"):
        raise RunRefused("bad", f"run_path must lie below {RUNS}/")
    if not folder.is_dir():
        raise RunRefused("missing", "there is no run folder at run_path")
    said = _manifest(folder)
    if _is_concept_only(said):
        raise RunRefused("bad", "this run is about a concept only; there is nothing to build")
    if not (folder / FOLDER / SCRIPT).is_file():
        raise RunRefused("bad", f"the run has no {FOLDER}/{SCRIPT}")
    return Run(path, folder, _text(said, "title") or folder.name, _text(said, "video_id"), _text(said, "video_url"))


def _below(root: Path, run_path: str) -> Path:
    try:
        folder = (root / run_path).resolve()
    except (OSError, RuntimeError, ValueError):
        raise RunRefused("bad", "run_path is no path that can be followed") from None
    if not folder.is_relative_to(root):
        raise RunRefused("outside", "run_path leaves the artifact root")
    return folder


def _manifest(folder: Path) -> dict[str, Any]:
    """What the run's manifest says; one that is missing, too large or unreadable says nothing."""
    try:
        with (folder / MANIFEST).open("rb") as file:
            data = file.read(LARGEST_MANIFEST_BYTES + 1)
        said = json.loads(data) if len(data) <= LARGEST_MANIFEST_BYTES else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


def _is_concept_only(said: dict[str, Any]) -> bool:
    return said.get("implementation_required") is False or _text(said, "learning_mode").lower() == "concept_only"


def _text(said: dict[str, Any], name: str) -> str:
    value = said.get(name)
    plain = value if isinstance(value, str) else ""
    # A run is made by a model: its words go into the ledger, which takes neither NUL nor half a surrogate pair.
    return plain.replace("\0", "").encode("utf-8", "replace").decode()[:LONGEST_TEXT].strip()
