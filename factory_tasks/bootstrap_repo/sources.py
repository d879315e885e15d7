"""From a source to a folder with files: a script that makes it, or a git repository that it starts from."""

import json
import os
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from corporation.errors import CorporationError
from factory_tasks.bootstrap_repo import git, templates
from factory_tasks.bootstrap_repo.bundle import BundleUnreadableError, unpack
from factory_tasks.bootstrap_repo.claim import Claim
from factory_tasks.bootstrap_repo.folders import remove_tree
from factory_tasks.bootstrap_repo.order import GitSource, InlineBundle, OrderRefusedError, RepositoryOrder
from factory_tasks.bootstrap_repo.workbench import Ran, StepFailedError, Workbench
from factory_tasks.handlers import Mission

_READY: Final = re.compile(r"\s*Repo ready:\s*(\S.*?)\s*")


class NoRepositoryError(CorporationError):
    """The script ended well, and yet there is no repository that can be taken as its work."""

    code = "no_repository"


@dataclass(frozen=True)
class Built:
    """How the making ended, and where it says that the repository is ("" when it says nothing)."""

    ran: Ran
    says: str = ""


def build(mission: Mission, order: RepositoryOrder, claim: Claim, bench: Workbench) -> Built:
    """The order's source has been turned into a folder, or `ran` says why not; raises OrderRefusedError and its kin."""
    if isinstance(order.source, GitSource):
        return _from_git(order.source, claim, bench)
    return _by_script(_bundle(mission, order), order, claim, bench)


def locate(claim: Claim, says: str, before: frozenset[str]) -> Path:
    """The folder of the finished repository, inside the target folder; raises NoRepositoryError.

    A script may choose another name than the one it was given, but not a folder that was there `before` it ran.
    """
    target = claim.repository.parent
    try:
        folder = (target / (says or claim.repository.name)).resolve()
    except (OSError, RuntimeError, ValueError):
        raise NoRepositoryError("The path after `Repo ready:` cannot be followed") from None
    if folder == target or not folder.is_relative_to(target):
        raise NoRepositoryError(
            f"`Repo ready: {says}` lies outside {target}; the script must stay below its first argument"
        )
    if not folder.is_dir():
        raise NoRepositoryError(f"The script made no folder {folder}; let it print `Repo ready: <path>` at its end")
    first = folder.relative_to(target).parts[0]
    if first != claim.repository.name and first in before:
        raise NoRepositoryError(f"`Repo ready: {says}` was there before this mission; the script must make its own")
    return folder


def _bundle(mission: Mission, order: RepositoryOrder) -> bytes:
    if isinstance(order.source, InlineBundle):
        return order.source.data
    mission.reporter.progress(None, "fetching the bundle from HQ")
    return mission.fetch_bundle()


def _by_script(data: bytes, order: RepositoryOrder, claim: Claim, bench: Workbench) -> Built:
    folder = bench.scratch / "bundle"
    folder.mkdir()
    try:
        script = unpack(data, folder)
    except BundleUnreadableError as error:
        if isinstance(order.source, InlineBundle):
            raise OrderRefusedError(f"{error}; the same bytes would come again") from None
        raise
    says = [""]

    def hear(line: str, stream: str) -> None:
        bench.forward(line, stream)
        if stream == "stdout" and (ready := _READY.fullmatch(line)):
            says[0] = ready[1]

    version = [order.python_version] if order.python_version else []
    argv = ["bash", str(script), str(claim.repository.parent), claim.repository.name, *version]
    return Built(bench.run(argv, script.parent, hear), says[0])


def _from_git(source: GitSource, claim: Claim, bench: Workbench) -> Built:
    """A new repository always: the files come along, the history does not, with or without variables."""
    folder = bench.scratch / "clone"
    ran = git.clone(bench, source.url, source.ref, folder)
    if ran.ok:
        remove_tree(folder / ".git")
        if source.variables is not None:
            _render(source, folder, bench)
        shutil.move(folder, claim.repository)
    return Built(ran)


def _render(source: GitSource, folder: Path, bench: Workbench) -> None:
    values = bench.scratch / "variables.json"
    values.write_text(json.dumps(source.variables), "utf-8")
    argv = [sys.executable, "-I", str(Path(templates.__file__)), str(folder), str(values)]
    try:
        bench.must(argv, bench.scratch, "The template cannot be filled in")
    except StepFailedError as error:
        if error.ran.exit_code == templates.REFUSED:
            raise OrderRefusedError(f"{error}; correct the template or context.template_variables") from None
        raise


def names_in(folder: Path) -> frozenset[str]:
    """The names in `folder` at this moment."""
    return frozenset(os.listdir(folder))  # noqa: PTH208
