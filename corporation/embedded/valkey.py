"""Start Valkey, a Redis-compatible server, in a folder of its own: durable, with its users, on loopback only."""

import json
import secrets
import signal
import subprocess
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Final

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from corporation.embedded.binaries import find_valkey
from corporation.embedded.ports import LOOPBACK
from corporation.embedded.server_folder import held, note_holder, password_of, write_private
from corporation.embedded.server_process import (
    ENVIRONMENT,
    Server,
    fresh_log,
    on_a_port,
    spawn,
    usable,
    wait_until_ready,
)

NAME: Final = "Valkey"
PASSWORDS: Final = "user-passwords.json"
"""The file, beside the operator's password, with those of the further users."""
Rules = Sequence[str]
"""What a user may do, in the words of ACL SETUSER."""
# No eviction: a queue that silently drops messages is worse than one that refuses them. No value and no name is larger
# than five of the largest messages (1.5 MiB): names that it refused a factory the server keeps and tells whole.
CONFIGURATION: Final = """\
bind {address}
port {port}
protected-mode yes
daemonize no
dir {data}
aclfile {users}
appendonly yes
appendfsync everysec
save ""
maxmemory-policy noeviction
proto-max-bulk-len 8mb
"""


def start_valkey(folder: Path, *, port: int | None = None, users: Mapping[str, Rules] | None = None) -> Server:
    """A Valkey server that answers; its data, users and passwords in `folder` survive restarts and crashes.

    The address of the returned server is its operator's, who may do everything. Each of `users` may do what its rules
    say, and nothing that they said before; `passwords_of` has their passwords. Users that somebody else made stay.
    A power failure or a kill can lose the last second or two of writes, acknowledged ones too; so what lies here may be
    no more than a hint. Without `port` a free one is taken. Call it from the main thread. Raises ServerError
    when it cannot start, and when `folder` is in use.
    """
    folder = folder.absolute()
    program = find_valkey()
    with held(folder, NAME) as lock:
        password = password_of(folder)
        with usable(folder):
            (folder / "data").mkdir(mode=0o700, exist_ok=True)
            _write_users(folder / "users.acl", password, _lines(folder, users or {}))
        return on_a_port(port, lambda port: _start(program, folder, lock, password, port))


def passwords_of(folder: Path) -> dict[str, str]:
    """The passwords of the users that the server of `folder` was started with, by name; none of the operator's."""
    try:
        kept = json.loads((folder / PASSWORDS).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError, RecursionError):
        return {}
    return {str(name): str(password) for name, password in kept.items()} if isinstance(kept, dict) else {}


def knows_setinfo() -> bool:
    """Whether the server that would be started knows CLIENT SETINFO: Valkey, and Redis from 7.2 on.

    One that does not refuses to start with a user whose rules name it. Raises ServerError where there is none.
    """
    program = str(find_valkey())
    said = subprocess.run([program, "--version"], env=ENVIRONMENT, capture_output=True, text=True, check=False).stdout
    version = next((word[2:] for word in said.split() if word.startswith("v=")), "")
    return "Valkey" in said or tuple(int(part) for part in version.split(".")[:2] if part.isdigit()) >= (7, 2)


def _lines(folder: Path, users: Mapping[str, Rules]) -> dict[str, str]:
    """A line for each of `users` as the file of users wants it, by name; their passwords are kept from now on."""
    if not users:
        return {}
    kept = passwords_of(folder)
    passwords = kept | {name: secrets.token_urlsafe(32) for name in users if name not in kept}
    if passwords != kept:
        write_private(folder / PASSWORDS, json.dumps(passwords, indent=2, sort_keys=True) + "\n")
    return {name: _line(name, passwords[name], rules) for name, rules in users.items()}


def _line(name: str, password: str, rules: Rules) -> str:
    return " ".join(("user", name, "on", "sanitize-payload", f"#{sha256(password.encode()).hexdigest()}", *rules))


def _start(program: Path, folder: Path, lock: int, password: str, port: int) -> Server:
    configuration, log = folder / "valkey.conf", folder / "valkey.log"
    with usable(folder):
        write_private(configuration, _configuration(folder, port))
    written = fresh_log(log)
    argv = [str(program), str(configuration)]
    process = spawn(argv, folder=folder, log=log, lock=lock, stop_signal=signal.SIGTERM)
    note_holder(lock, process.pid)
    wait_until_ready(NAME, process, lambda: _answers(port, password, process.pid), log, written)
    return Server(NAME, f"redis://:{password}@{LOOPBACK}:{port}/0", process.pid, log, port, process)


def _configuration(folder: Path, port: int) -> str:
    data, users = _quoted(folder / "data"), _quoted(folder / "users.acl")
    return CONFIGURATION.format(address=LOOPBACK, port=port, data=data, users=users)


def _quoted(path: Path) -> str:
    return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _write_users(path: Path, password: str, own: Mapping[str, str]) -> None:
    """Give the default user our password and our `own` users their lines; any other stays as `ACL SAVE` wrote it.

    Here and not as `requirepass`, which Valkey ignores beside a file of users.
    """
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    ours = [["user", name] for name in ("default", *own)]
    others = [line for line in lines if line.strip() and line.split()[:2] not in ours]
    default = f"user default on sanitize-payload #{sha256(password.encode()).hexdigest()} ~* &* +@all"
    write_private(path, "\n".join([default, *own.values(), *others]) + "\n")


def _answers(port: int, password: str, pid: int) -> bool:
    """Whether this very server answers: on a port that is taken, somebody else might."""
    once = Retry(NoBackoff(), 0)
    with redis.Redis(host=LOOPBACK, port=port, password=password, socket_timeout=2, retry=once) as client:
        try:
            # A server that is still reading its file answers INFO, and refuses everything else.
            return client.info("server").get("process_id") == pid and bool(client.ping())
        except redis.RedisError:
            return False
