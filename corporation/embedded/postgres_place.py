"""Where PostgreSQL's files lie and as whom it runs: in its folder, or elsewhere if only another user may run it."""

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from corporation.embedded.server_process import ServerError, usable
from corporation.embedded.unprivileged import Runner, choose_runner

ELSEWHERE: Final = Path("/var/lib/corporation")


@dataclass(frozen=True)
class Place:
    """`folder` is what the caller named: password, log, lock; `home` holds the data and is mostly the same."""

    folder: Path
    home: Path
    programs: Path
    runner: Runner

    @property
    def data(self) -> Path:
        """PostgreSQL's data folder."""
        return self.home / "data"

    @property
    def log(self) -> Path:
        """What the server and its initialisation wrote."""
        return self.folder / "postgres.log"


def find_place(folder: Path, programs: Path, mode: str | None) -> Place:
    """Where and as whom to run the server of `folder`; call it while you hold its lock, safe to call again.

    When root may only start it as another user and that user cannot reach `folder`, the data lies below
    /var/lib/corporation, and `folder/elsewhere` points there; programs that the user cannot reach are copied.
    """
    home = home_of(folder)
    runner = choose_runner(mode, home, programs / "postgres")
    if runner.mode == "drop":
        with usable(folder):
            home = _reachable_home(folder, home, runner)
            programs = _reachable_programs(home, programs, runner)
    return Place(folder, home, programs, runner)


def home_of(folder: Path) -> Path:
    """The folder that holds the data of the server of `folder`."""
    link = folder / "elsewhere"
    return link.resolve() if link.is_symlink() else folder


def _reachable_home(folder: Path, home: Path, runner: Runner) -> Path:
    home.chmod(home.stat().st_mode | 0o011)
    if runner.can_enter(home):
        return home
    if (home / "data").exists():
        raise ServerError(
            f"User {runner.owner[0]} cannot reach the data in {home}, which was made in another way; "
            "start it as before (mode `userns`), or open the folders above it"
        )
    ELSEWHERE.mkdir(mode=0o755, parents=True, exist_ok=True)
    elsewhere = Path(tempfile.mkdtemp(prefix="postgres-", dir=ELSEWHERE))
    elsewhere.chmod(0o711)
    (folder / "elsewhere").symlink_to(elsewhere)
    return elsewhere


def _reachable_programs(home: Path, programs: Path, runner: Runner) -> Path:
    if runner.can_start(programs / "postgres"):
        return programs
    # The programs find their libraries by a path relative to themselves, so both keep their places.
    installation, package = programs.parent, programs.parent.parent
    copy, libraries = home / "server", package.with_name(f"{package.name}.libs")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(installation, copy / package.name / installation.name, symlinks=True)
    if libraries.is_dir():
        shutil.copytree(libraries, copy / libraries.name, symlinks=True)
    for path in [copy, *copy.rglob("*")]:
        if not path.is_symlink():
            mode = path.stat().st_mode
            path.chmod(mode | (0o055 if mode & 0o100 else 0o044))
    return copy / package.name / installation.name / programs.name
