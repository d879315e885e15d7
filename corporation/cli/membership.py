"""What a machine keeps of having joined: which factory it is, of which HQ, and what it proves that with."""

import json
import os
import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Final

import typer

import corporation
from corporation.cli import exits
from corporation.cli.exits import Refusal
from corporation.embedded.stack_addresses import DATABASE_NAMES, REDIS_NAMES
from corporation.embedded.stack_state import StateFolder
from corporation.errors import SettingsError
from corporation.settings import load_settings, names_of

FOLDER: Final = ".corporation-factory"
_HELP: Final = "Where this factory keeps its things (default: .corporation-factory in the project); one folder each."
FactoryStateOption = Annotated[Path | None, typer.Option("--state", "--state-dir", metavar="DIR", help=_HELP)]

PACES: Final = names_of("heartbeat_interval_seconds")
# HQ's own secrets, in the shell of somebody who works at both, must not become this factory's.
_NOT_OURS: Final = (
    *DATABASE_NAMES,
    *REDIS_NAMES,
    "UA_REDIS_PORT",
    "UA_REDIS_DB",
    "REDIS_PASSWORD",
    "UA_DELEGATION_REDIS_ENABLED",
    "UA_OPS_TOKEN",
    "UA_OPS_JWT_SECRET",
    "UA_INTERNAL_API_TOKEN",
    *names_of("hq_base_url"),
    *names_of("factory_name"),
    "UA_FACTORY_CREDENTIAL",
)


@dataclass(frozen=True)
class Membership:
    """One factory of one HQ; `redis_url` is empty where missions come over HTTPS only."""

    factory_id: str
    hq_base_url: str
    factory_credential: str = field(repr=False)
    redis_url: str = field(default="", repr=False)
    factory_queue: str = ""
    heartbeat_interval_seconds: int = 0
    plaintext_allowed: bool = False
    """Whether whoever joined let the credential cross the internet unencrypted."""

    def environment(self, environ: Mapping[str, str]) -> dict[str, str]:
        """`environ` with this factory's own variables, which win; those of an HQ are taken out."""
        own = {
            "UA_FACTORY_ID": self.factory_id,
            "UA_HQ_BASE_URL": self.hq_base_url,
            "UA_FACTORY_CREDENTIAL": self.factory_credential,
            "UA_REDIS_URL": self.redis_url,
            "UA_FACTORY_QUEUE": self.factory_queue,
            "UA_HQ_ALLOW_PLAINTEXT": "1" if self.plaintext_allowed else "",
        }
        named = {name: value for name, value in own.items() if value}
        way = {} if self.redis_url else {"UA_DELEGATION_REDIS_ENABLED": "0"}
        pace = {}
        if self.heartbeat_interval_seconds and not any(environ.get(name) for name in PACES):
            pace = {PACES[0]: str(self.heartbeat_interval_seconds)}
        return without_hqs(environ) | named | way | pace


def without_hqs(environ: Mapping[str, str]) -> dict[str, str]:
    """`environ` without what is an HQ's, or says which factory of which HQ this is."""
    return {name: value for name, value in environ.items() if name not in _NOT_OURS}


def factory_folder(given: Path | None) -> StateFolder:
    """The folder named on the command line, else the one of this project."""
    if given:
        return StateFolder(given.absolute())
    root = Path(corporation.__file__).parent.parent
    return StateFolder((root if (root / "pyproject.toml").is_file() else Path.cwd()) / FOLDER)


def keep(folder: StateFolder, membership: Membership) -> None:
    """From now on this folder is that factory's, and its owner alone can read it; the old file or the new one, whole.

    Raises OSError when the disk takes nothing. The folder must be prepared.
    """
    place = _place(folder)
    draft = place.with_suffix(".tmp")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        json.dump(asdict(membership), file, indent=2, sort_keys=True)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())  # HQ has given the credential out, and keeps only its hash
    draft.replace(place)


def kept(folder: StateFolder) -> Membership | None:
    """Who this folder's factory is, None where nobody joined; refuses (78) a file that cannot be used."""
    place = _place(folder)
    try:
        if stat.S_IMODE(place.stat().st_mode) & 0o077:
            raise Refusal(exits.CONFIG, f"{place} holds a credential but others may read it; run: chmod 600 {place}")
        return _read(json.loads(place.read_text(encoding="utf-8")))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, TypeError):
        raise Refusal(exits.CONFIG, f"{place} cannot be read; join again with a code that HQ made for it") from None


def joined(folder: StateFolder) -> Membership:
    """As `kept`; refuses (78) with what to do where nobody joined."""
    membership = kept(folder)
    if membership is None:
        raise Refusal(
            exits.CONFIG,
            f"No factory has joined from {folder.path}; at HQ, `corporation join-code` prints the line to run here, "
            "or name another folder with --state DIR",
        )
    return membership


def why_unusable(membership: Membership, environ: Mapping[str, str]) -> list[str]:
    """What keeps a process from starting with these values, one line each; nothing secret is in it."""
    try:
        load_settings({"FACTORY_ROLE": "LOCAL_WORKER", **membership.environment(environ)})
    except SettingsError as error:
        return list(error.problems)
    return []


def _read(document: Any) -> Membership:
    if not isinstance(document, dict):
        raise TypeError
    known = {one.name: document[one.name] for one in fields(Membership) if one.name in document}
    for one in fields(Membership):
        if one.name in known and type(known[one.name]) is not _TYPES[one.name]:
            raise TypeError
    return Membership(**known)


_TYPES: Final[dict[str, type]] = {
    "factory_id": str,
    "hq_base_url": str,
    "factory_credential": str,
    "redis_url": str,
    "factory_queue": str,
    "heartbeat_interval_seconds": int,
    "plaintext_allowed": bool,
}


def _place(folder: StateFolder) -> Path:
    return folder.path / "factory.json"
