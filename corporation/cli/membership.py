"""What a machine keeps of having joined: which factory it is, of which HQ, and what it proves that with."""

import json
import os
import shlex
import stat
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import unquote, urlsplit

import typer

import corporation
from corporation.cli import exits
from corporation.cli.exits import Refusal
from corporation.embedded.stack_addresses import DATABASE_NAMES, REDIS_NAMES
from corporation.embedded.stack_shape import Shape
from corporation.embedded.stack_state import SUB_FOLDERS, StateFolder
from corporation.errors import SettingsError
from corporation.settings import load_settings, names_of
from corporation.shown_address import without_password

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
    "UA_REDIS_PASSWORD_FILE",
    "UA_REDIS_ADMIN_URL",
    "UA_FACTORY_REDIS_URL",
    "UA_OPS_TOKEN",
    "UA_OPS_JWT_SECRET",
    "UA_INTERNAL_API_TOKEN",
    "UA_MISSION_SIGNING_KEY",
    "UA_MISSION_KEYS",
    *names_of("hq_base_url"),
    *names_of("factory_name"),
    "UA_FACTORY_CREDENTIAL",
)


@dataclass(frozen=True)
class Membership:
    """One factory of one HQ; `redis_url` is empty where missions come over HTTPS only.

    `keep` puts its password into a file of its own, which a rotation replaces while the factory works.
    """

    factory_id: str
    hq_base_url: str
    factory_credential: str = field(repr=False)
    redis_url: str = field(default="", repr=False)
    factory_queue: str = ""
    heartbeat_interval_seconds: int = 0
    plaintext_allowed: bool = False
    """Whether whoever joined let the credential cross the internet unencrypted."""
    mission_keys: tuple[str, ...] = ()
    """The public keys of HQ that missions are signed with; without any it runs what is not signed."""
    redis_password_file: str = field(default="", compare=False)
    """Where the broker's password lies in this folder; not written down, since folders are moved."""

    def environment(self, environ: Mapping[str, str]) -> dict[str, str]:
        """`environ` with this factory's own variables, which win; those of an HQ are taken out.

        UA_DELEGATION_REDIS_ENABLED=0 there makes it one that speaks HTTPS only.
        """
        own = {
            "UA_FACTORY_ID": self.factory_id,
            "UA_HQ_BASE_URL": self.hq_base_url,
            "UA_FACTORY_CREDENTIAL": self.factory_credential,
            "UA_REDIS_URL": self.redis_url,
            "UA_REDIS_PASSWORD_FILE": self.redis_password_file if self.redis_url else "",
            "UA_MISSION_KEYS": ",".join(self.mission_keys),
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


def state_words(folder: StateFolder) -> str:
    """` --state DIR` for a command about this folder, or nothing where it finds the folder without."""
    return "" if folder.path == factory_folder(None).path else f" --state {shlex.quote(str(folder.path))}"


def refuse_stack(folder: StateFolder) -> None:
    """Refuses (78) a folder in which `corporation up` keeps an HQ or a standalone node: no factory may join there."""
    facts = folder.read_facts()
    if facts is not None and facts.get("shape", Shape.WHOLE) != Shape.WORKER:
        raise Refusal(
            exits.CONFIG,
            f"{folder.path} is the state folder of `corporation up` ({facts.get('shape', Shape.WHOLE)}); "
            "a factory needs a folder of its own: name another one with --state DIR, or none",
        )


@contextmanager
def prepared(folder: StateFolder) -> Generator[None]:
    """The folder is there in this block, and can be written; when the block fails, what is new and empty goes again."""
    wanted = [*(folder.path / name for name in SUB_FOLDERS), folder.path, *folder.path.parents]
    new = [path for path in wanted if not os.path.lexists(path)]
    try:
        folder.prepare()
        yield
    except BaseException:
        for path in new:
            with suppress(OSError):
                path.rmdir()
        raise


def keep(folder: StateFolder, membership: Membership) -> None:
    """From now on this folder is that factory's, and its owner alone can read it; each file is the old or the new one.

    A password in the broker's address lies in a file of its own from then on. Where the address holds none, only the
    file that `membership` names stays: the password of an earlier joining is nobody's at this one's broker. Raises
    OSError when the disk takes nothing. The folder must be prepared.
    """
    password, file = unquote(urlsplit(membership.redis_url).password or ""), password_file(folder)
    is_new = bool(password) or not (membership.redis_url and membership.redis_password_file)
    if is_new:
        # One that was asked for and waits to take its place belongs to the user before.
        file.with_name(f"{file.name}.new").unlink(missing_ok=True)
    if password:
        _write(file, f"{password}\n")
    elif is_new:
        file.unlink(missing_ok=True)
    document = asdict(membership) | {"redis_url": without_password(membership.redis_url)}
    del document["redis_password_file"]
    _write(_place(folder), json.dumps(document, indent=2, sort_keys=True) + "\n")


def _write(place: Path, text: str) -> None:
    draft = place.with_suffix(".tmp")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())  # HQ has given it out, and keeps only its hash
    draft.replace(place)


def password_file(folder: StateFolder) -> Path:
    """The file with the password of this factory's user of the broker, if HQ gave it one."""
    return folder.path / "redis-password"


def kept(folder: StateFolder) -> Membership | None:
    """Who this folder's factory is, None where nobody joined; refuses (78) a file that cannot be used."""
    place, file = _place(folder), password_file(folder)
    try:
        for one in (place, file):
            if one.exists() and stat.S_IMODE(one.stat().st_mode) & 0o077:
                raise Refusal(exits.CONFIG, f"{one} holds a secret but others may read it; run: chmod 600 {one}")
        membership = _read(json.loads(place.read_text(encoding="utf-8")))
        return replace(membership, redis_password_file=str(file.absolute()) if file.exists() else "")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError:
        raise Refusal(
            exits.CONFIG, f"{place} may not be read by this user; run it as the owner of the folder"
        ) from None
    except (OSError, ValueError, TypeError, RecursionError):
        raise Refusal(exits.CONFIG, f"{place} cannot be read; join again with a code that HQ made for it") from None


def is_a_factorys(folder: StateFolder) -> bool:
    """Whether a factory has joined from this folder, whatever has become of the file that says so."""
    return _place(folder).exists()


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
    known: dict[str, Any] = {one.name: document[one.name] for one in fields(Membership) if one.name in document}
    for name, value in known.items():
        if type(value) is not _TYPES[name]:
            raise TypeError
    known["mission_keys"] = tuple(known.get("mission_keys", ()))
    if not all(isinstance(key, str) for key in known["mission_keys"]):
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
    "mission_keys": list,
    "redis_password_file": str,
}


def _place(folder: StateFolder) -> Path:
    return folder.path / "factory.json"
