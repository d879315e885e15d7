"""Git, used so that nothing in a strange repository runs: no hooks, no monitor, no helper transports, no submodules."""

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Final

from factory_tasks.bootstrap_repo.output import clean
from factory_tasks.bootstrap_repo.workbench import Ran, Workbench

_SAFE: Final = (
    "git",
    "-c",
    "core.hooksPath=/dev/null",
    "-c",
    "core.fsmonitor=false",
    "-c",
    "protocol.ext.allow=never",
    "-c",
    "submodule.recurse=false",
)
_COMMIT: Final = re.compile(r"[0-9a-f]{7,64}")
_IGNORED_EVERYWHERE: Final = "__pycache__/\n"


def clone(bench: Workbench, url: str, ref: str, folder: Path) -> Ran:
    """The files of `url` at `ref` (its default branch when "") are in `folder` when the returned command is ok.

    `ref` is a branch, a tag or a commit. Only what is needed of the history comes along, unless `ref` is a commit.
    """
    transports = "file" if url.startswith("/") else "https:ssh:git"
    at_work = replace(
        bench, more_environment={"GIT_ALLOW_PROTOCOL": transports, "GIT_SSH_COMMAND": "ssh -oBatchMode=yes"}
    )
    is_commit = _COMMIT.fullmatch(ref) is not None
    wanted = ["--no-checkout"] if is_commit else ["--depth=1", *([f"--branch={ref}"] if ref else [])]
    safely = [*_SAFE, "clone", "--no-local", "--no-recurse-submodules", *wanted, "--", url, str(folder)]
    ran = at_work.run(safely, bench.scratch)
    if ran.ok and is_commit:
        ran = at_work.run([*_SAFE, "checkout", "--detach", ref, "--"], folder)
    return ran


def ensure_commit(bench: Workbench, repository: Path) -> str:
    """The id of the newest commit of `repository`, which is a git repository with at least one commit now.

    What the repository ignores, and `__pycache__`, stays out of a commit that we make. Raises StepFailedError. Safe to
    call twice.
    """
    if not os.path.lexists(repository / ".git"):
        _git(bench, repository, "init", "--quiet", "--initial-branch=main", what="git init failed")
    newest = bench.run([*_SAFE, "rev-parse", "--verify", "--quiet", "HEAD^{commit}"], repository, _unheard)
    if not newest.ok:
        _first_commit(bench, repository)
        newest = _git(bench, repository, "rev-parse", "--verify", "HEAD^{commit}", what="git made no commit")
    return clean(newest.stdout).strip()


def _first_commit(bench: Workbench, repository: Path) -> None:
    ignored = bench.scratch / "ignored"
    ignored.write_text(_IGNORED_EVERYWHERE)
    _git(bench, repository, "-c", f"core.excludesFile={ignored}", "add", "--all", what="git add failed")
    commit = ("commit", "--quiet", "--allow-empty", "--no-verify", "--no-gpg-sign", "--message=First commit")
    _git(bench, repository, *commit, what="git commit failed")


def _git(bench: Workbench, repository: Path, *arguments: str, what: str) -> Ran:
    return bench.must([*_SAFE, *arguments], repository, what)


def _unheard(line: str, stream: str) -> None:
    """A question to git is no news."""
