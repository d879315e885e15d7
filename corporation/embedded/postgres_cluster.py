"""PostgreSQL's data folder: initialised or copied once, never half, and with no stale lock file in it."""

import shutil
import signal
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import psutil

from corporation.embedded.postgres_place import Place, home_of
from corporation.embedded.server_folder import password_of, write_private
from corporation.embedded.server_process import ServerError, fresh_log, spawn, usable, why_not

NAME: Final = "PostgreSQL"
USER: Final = "corporation"
"""The superuser, which owns the tables; only whoever starts the server logs in as it."""
FIRST_WITH_BUILTIN_LOCALE: Final = 17


def prepare_cluster(place: Place, template: Path | None, lock: int, *, durable: bool) -> str:
    """Afterwards `place.data` is a whole cluster that the server may open; returns the password of its superuser.

    A new one is a copy of `template`'s, or initialised. Whoever is killed meanwhile leaves nothing that counts.
    """
    with usable(place.folder):
        if not place.data.exists():
            with _draft_of(place) as draft:
                if template is None:
                    _initialise(place, draft, lock, durable=durable)
                else:
                    _copy(template.absolute(), place, draft)
        elif not (place.folder / "password").exists():
            raise ServerError(
                f"{place.folder / 'password'} is missing, and without it nobody can use the data beside it; "
                f"restore it, or remove {place.folder} to start with an empty database"
            )
        place.runner.give(place.data)
        _remove_stale_lock(place.data)
        return password_of(place.folder)


@contextmanager
def _draft_of(place: Place) -> Generator[Path]:
    draft = place.home / "data.init"
    if draft.exists():
        shutil.rmtree(draft)
    draft.mkdir(mode=0o700)
    yield draft
    draft.rename(place.data)


def _copy(template: Path, place: Place, draft: Path) -> None:
    source = home_of(template) / "data"
    if not source.is_dir() or (source / "postmaster.pid").exists():
        raise ServerError(f"{template} holds no stopped PostgreSQL; start it once, stop it, and use it then")
    shutil.copytree(source, draft, symlinks=True, dirs_exist_ok=True)
    write_private(place.folder / "password", (template / "password").read_text(encoding="ascii"))


def _initialise(place: Place, draft: Path, lock: int, *, durable: bool) -> None:
    password_file, written = place.home / "initial-password", fresh_log(place.log)
    write_private(password_file, password_of(place.folder))
    place.runner.give(password_file)
    place.runner.give(draft)
    try:
        process = spawn(
            _initdb(place, draft, password_file, durable=durable),
            folder=place.home,
            log=place.log,
            lock=lock,
            stop_signal=signal.SIGKILL,
            prefix=place.runner.prefix,
            as_user=place.runner.as_user,
        )
        if process.wait() != 0:
            raise why_not(f"{NAME}'s initdb", process, place.log, written)
    finally:
        password_file.unlink()


def _initdb(place: Place, draft: Path, password_file: Path, *, durable: bool) -> list[str]:
    program = str(place.programs / "initdb")
    # One sort order on every machine, whatever locales it has; before 17 plain C sorts the same.
    builtin = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    return [
        *(program, "-D", str(draft), "-U", USER, "-E", "UTF8", "--locale=C"),
        *(builtin if _major_version(program) >= FIRST_WITH_BUILTIN_LOCALE else []),
        *("--auth=scram-sha-256", f"--pwfile={password_file}", "--no-instructions"),
        *([] if durable else ["--no-sync"]),
    ]


def _major_version(program: str) -> int:
    words = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.split()
    return int(words[2].partition(".")[0])


def _remove_stale_lock(data: Path) -> None:
    """Nobody holds our folder any more, yet PostgreSQL takes any living process with the old id for its predecessor.

    After a kill that may be a zombie that nobody has reaped yet, or another program that got the id.
    """
    path = data / "postmaster.pid"
    try:
        process = psutil.Process(int(path.read_text(encoding="ascii").split()[0]))
        if process.status() != psutil.STATUS_ZOMBIE and _serves(process, data):
            raise ServerError(f"PostgreSQL process {process.pid} uses {data}; stop it with `kill -INT {process.pid}`")
    except (FileNotFoundError, psutil.NoSuchProcess):
        return  # of a process that is gone, PostgreSQL removes it itself
    except (ValueError, IndexError):
        pass  # cut short by a crash
    path.unlink()


def _serves(process: psutil.Process, data: Path) -> bool:
    try:
        return str(data) in process.cmdline() or process.cwd() == str(data.resolve())
    except psutil.AccessDenied:
        return False
