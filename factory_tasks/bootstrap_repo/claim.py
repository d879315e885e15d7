"""Whose a repository folder is: one claim file per name, locked while a mission works on it.

`<target_root>/.corporation/<repo_name>.json` holds the `job_id`, and the result once there is one. It is written before
the first command runs, so that another attempt knows what the first one left. The lock, and not the file's existence,
decides between two missions: the kernel drops it when the last process of the holder is gone, so that no crash leaves a
name locked and no attempt removes a folder in which an older one's processes still write.
"""

import fcntl
import json
import os
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from corporation.errors import CorporationError
from factory_tasks.bootstrap_repo.folders import remove_tree
from factory_tasks.bootstrap_repo.order import OrderRefusedError

_OURS: Final = ".corporation"


class StillRunningError(CorporationError):
    """An older attempt of the same mission still works on this factory."""

    code = "still_running"


class NameTakenError(OrderRefusedError):
    """The name is somebody else's; another one may be free."""

    code = "name_taken"


@dataclass(frozen=True)
class Claim:
    """The right to make one repository; `result` is what an earlier attempt of this mission finished with, or None."""

    repository: Path
    scratch: Path
    lock: int
    job_id: str
    result: Mapping[str, Any] | None

    def finish(self, result: Mapping[str, Any]) -> None:
        """The result is on the disk: another attempt answers with it and leaves the repository alone."""
        _write(self.lock, {"job_id": self.job_id, "result": dict(result)})


def resolve_target(root: Path, target: str) -> Path:
    """The folder `target` names, links followed, which is `root` or below it; raises OrderRefusedError otherwise."""
    try:
        home = root.resolve()
        folder = (home / target).resolve()
    except (OSError, RuntimeError, ValueError):
        raise OrderRefusedError("context.target_root cannot be followed; its links go in a circle") from None
    if not folder.is_relative_to(home):
        raise OrderRefusedError("context.target_root lies outside this factory's repositories; give a path below them")
    if _OURS in folder.relative_to(home).parts:
        raise OrderRefusedError(f"context.target_root lies in {_OURS}, which is not for repositories")
    return folder


def name_claimed_by(job_id: str, target: Path) -> str | None:
    """The name under which an earlier attempt of `job_id` started in `target`, or None."""
    claims = sorted((target / _OURS).glob("*.json"))
    return next((path.stem for path in claims if _read(path).get("job_id") == job_id), None)


@contextmanager
def claimed(job_id: str, target: Path, name: str) -> Generator[Claim]:
    """For the block, nobody else makes `target / name`, and its folder is either gone or finished by `job_id`.

    Raises NameTakenError when the name is somebody else's, StillRunningError when an older attempt still runs.
    """
    path = target / _OURS / f"{name}.json"
    _make_folder(path.parent)
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        _lock(lock, path, job_id)
        known = _read(path)
        repository = target / name
        if os.path.lexists(repository) and known.get("job_id") != job_id:
            raise NameTakenError(f"{repository} already exists{_maker(known)}; choose another repo_name")
        result = known.get("result") if known.get("job_id") == job_id and repository.is_dir() else None
        if result is None:
            _write(lock, {"job_id": job_id})
            remove_tree(repository)
        yield Claim(repository, path.with_suffix(".scratch"), lock, job_id, result)
    finally:
        os.close(lock)


@contextmanager
def claimed_first(job_id: str, target: Path, names: Sequence[str]) -> Generator[Claim]:
    """As `claimed` with the first of `names` that is not somebody else's; raises NameTakenError when none is free."""
    with ExitStack() as held:
        yield _first_free(held, job_id, target, names)


def _first_free(held: ExitStack, job_id: str, target: Path, names: Sequence[str]) -> Claim:
    *others, last = names
    for name in others:
        with suppress(NameTakenError):
            return held.enter_context(claimed(job_id, target, name))
    return held.enter_context(claimed(job_id, target, last))


def _lock(lock: int, path: Path, job_id: str) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        if _read(path).get("job_id") == job_id:
            raise StillRunningError("an older attempt of this mission still runs on this factory") from None
        raise NameTakenError(
            f"{path.stem} already exists: another mission makes it right now; choose another repo_name"
        ) from None


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise OrderRefusedError(f"{folder} cannot be made: a file is in the way; choose another target_root") from None


def _maker(known: Mapping[str, Any]) -> str:
    return f" (mission {known['job_id']} made it)" if known.get("job_id") else ""


def _read(path: Path) -> dict[str, Any]:
    # Torn or foreign content is nobody's claim: then an existing folder is refused, which is the safe side.
    try:
        known = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return known if isinstance(known, dict) else {}


def _write(lock: int, claim: Mapping[str, Any]) -> None:
    text = json.dumps(claim).encode()
    os.pwrite(lock, text, 0)
    os.ftruncate(lock, len(text))
    os.fsync(lock)
