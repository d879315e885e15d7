"""Missions of the kind `bootstrap_repo` for tests: bundles, recorders, and a count of who is still alive."""

import base64
import io
import os
import subprocess
import tarfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from factory_tasks.handlers import Mission

PATIENCE_SECONDS = 30.0
GIT = ["git", "-c", "user.name=Test", "-c", "user.email=test@localhost", "-c", "init.defaultBranch=main"]


@dataclass
class Recorder:
    """A Reporter that keeps everything; `heard` is set when a line holds `awaited`."""

    awaited: str = "\0"
    lines: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    heard: threading.Event = field(default_factory=threading.Event)

    def log(self, line: str, stream: str = "log") -> None:
        self.lines.append((stream, line))
        if self.awaited in line:
            self.heard.set()

    def progress(self, percent: int | None, message: str) -> None:
        """Nothing here looks at progress."""


def mission(
    root: Path, context: Mapping[str, Any], *, job_id: str = "job-1", bundle: bytes | None = None, **more: Any
) -> Mission:
    def fetch() -> bytes:
        assert bundle is not None, "this mission has no bundle at HQ"
        return bundle

    fields: dict[str, Any] = {
        "attempt_id": "3b8c5a86-0c3e-4f2f-9d59-0e5a1f1f2c11",
        "attempt": 1,
        "kind": "bootstrap_repo",
        "task": "Make a repository",
        "timeout_seconds": 60,
        "factory_id": "desk-7",
        "grace_seconds": 0.3,
        "reporter": Recorder(),
    }
    return Mission(job_id=job_id, context=context, repositories_root=root, fetch_bundle=fetch, **(fields | more))


def bundle(script: str, files: Mapping[str, str] | None = None) -> bytes:
    """A tar.gz as HQ serves it, with `script` as its create_new_repo.sh."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, text in {"create_new_repo.sh": script, **(files or {})}.items():
            add(archive, f"implementation/{name}", text.encode())
    return packed.getvalue()


def add(
    archive: tarfile.TarFile, name: str, data: bytes = b"", change: Callable[[tarfile.TarInfo], None] | None = None
) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    if change is not None:
        change(member)
    archive.addfile(member, io.BytesIO(data))


def inline(script: str, files: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The context of a mission that brings its script along."""
    return {"bundle_base64": base64.b64encode(bundle(script, files)).decode(), "repo_name": "made"}


def alive_with(mark: str) -> list[str]:
    """The command lines of all processes whose environment holds `mark`; this one is not counted."""
    found: list[str] = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if mark.encode() in (entry / "environ").read_bytes():
                found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found


def git(folder: Path, *arguments: str) -> str:
    ran = subprocess.run([*GIT, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return ran.stdout.strip()


def git_repository(folder: Path, files: Mapping[str, str]) -> Path:
    """A repository at `folder` with one commit that holds `files`."""
    folder.mkdir(parents=True)
    git(folder, "init", "--quiet")
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message=Start")
    return folder
