"""Folders that come and go: a scratch folder for one mission, and removal that nothing in the tree can hinder."""

import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def scratch_folder(path: Path) -> Generator[Path]:
    """A fresh folder at `path` with `home` and `tmp` in it, gone afterwards; what a crash left there goes first."""
    remove_tree(path)
    for name in ("home", "tmp"):
        (path / name).mkdir(parents=True, mode=0o700)
    try:
        yield path
    finally:
        remove_tree(path)


def remove_tree(path: Path) -> None:
    """Nothing is at `path`, also if it held folders without write permission; a link goes, not what it points to."""
    if path.is_symlink() or path.is_file():
        path.unlink()
        return
    if path.exists():
        _open_for_removal(path)
        shutil.rmtree(path)


def _open_for_removal(top: Path) -> None:
    folders = [top]
    while folders:
        folder = folders.pop()
        folder.chmod(0o700)
        with os.scandir(folder) as entries:
            folders += [Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)]
