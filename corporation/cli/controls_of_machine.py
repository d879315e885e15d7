"""The controls of this machine: who may read its secrets, as whom it works, and where its secrets come from."""

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from corporation.cli.control import Control, judged
from corporation.cli.origins import PROJECT_ROOT, dotenv_file
from corporation.cli.security_view import View
from corporation.secrets import load_secrets

OTHERS = 0o077


def of_machine(view: View, environ: Mapping[str, str]) -> list[Control]:
    """What is so on this machine; `environ` is what this command was started with."""
    return [files(view, environ), user(view), vault(environ)]


def files(view: View, environ: Mapping[str, str]) -> Control:
    """Files with secrets can be read by their owner alone."""
    open_ones: list[str] = []
    count = 0
    for path in _secret_files(view, environ):
        try:
            mode = stat.S_IMODE(path.stat().st_mode)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError:
            return Control("secrets' files", "unknown", f"{path} cannot be looked at", "run it as the folder's owner")
        count += 1
        if mode & OTHERS:
            open_ones.append(str(path))
    seen = f"others may read {', '.join(open_ones)}" if open_ones else f"{count} looked at, each its owner's alone"
    return judged("secrets' files", not open_ones, seen, f"chmod go= {' '.join(open_ones)}")


def _secret_files(view: View, environ: Mapping[str, str]) -> Iterator[Path]:
    folder = view.folder
    yield folder.path
    yield folder.facts
    for name in ("factory.json", "redis-password", "valkey", "postgres"):
        yield folder.path / name
    if view.settings.redis_password_file:
        yield view.settings.redis_password_file
    if (dotenv := dotenv_file(environ)) != Path(os.devnull):
        yield dotenv


def user(view: View) -> Control:
    """Missions run as a user who may do little here: their scripts may do what he may."""
    try:
        owner = view.folder.path.stat().st_uid
    except OSError:
        owner = os.geteuid()
    advice = "start it as a user made for it (useradd --system corporation)"
    seen = "root: a mission's script may do everything here" if owner == 0 else f"user id {owner}"
    return judged("not as root", owner != 0, seen, advice, advised=True)


def vault(environ: Mapping[str, str]) -> Control:
    """Secrets come from a vault, where they can be changed and taken back for all machines at once."""
    source = load_secrets(environ, PROJECT_ROOT).report.source
    places = {"infisical": "Infisical", "dotenv": f"{dotenv_file(environ)}, not from a vault"}
    seen = f"secrets come from {places.get(source, 'the environment and the state folder, not from a vault')}"
    advice = "set INFISICAL_CLIENT_ID, INFISICAL_CLIENT_SECRET and INFISICAL_PROJECT_ID"
    return judged("vault", source == "infisical", seen, advice, advised=True)
