"""Redis 7 beside Valkey: the one on PATH, else Debian's, unpacked below `.boot` without installing anything."""

import fcntl
import os
import shutil
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_urlsafe

import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from corporation.embedded.ports import free_port

BOOT = Path(__file__).parent.parent.parent / ".boot"
PACKAGES = (
    "redis-server",
    "redis-tools",
    "libjemalloc2",
    "liblua5.1-0",
    "liblzf1",
    "libhiredis0.14",
    "lua-bitop",
    "lua-cjson",
    "libatomic1",
)


class NoRedisSevenError(Exception):
    """There is none here and none can be fetched; the text says why."""


@contextmanager
def redis_seven(folder: Path, *more: str) -> Generator[str]:
    """A server on loopback with a password and a file of users, ended with the block; its address for everything.

    `more` are further options of its command line.
    """
    program, env = _found()
    password, port = token_urlsafe(16), free_port(None)
    users = folder / "users.acl"
    users.write_text(f"user default on >{password} ~* &* +@all\n")
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder), "--aclfile", str(users)]
    with (folder / "redis.log").open("wb") as log:
        process = subprocess.Popen([program, *options, *more], env=env, stdout=log, stderr=log)
    url = f"redis://:{password}@127.0.0.1:{port}/0"
    try:
        with redis.Redis.from_url(
            url, retry=Retry(ConstantBackoff(0.02), 500), retry_on_error=[redis.ConnectionError]
        ) as client:
            client.ping()
        yield url
    finally:
        process.kill()
        process.wait()


def _found() -> tuple[str, dict[str, str]]:
    on_path = shutil.which("redis-server")
    if on_path and b" v=7." in subprocess.run([on_path, "--version"], capture_output=True, check=True).stdout:
        return on_path, dict(os.environ)
    root = _unpacked(BOOT / "redis7")
    libraries = {str(path.parent) for path in root.rglob("*.so*")}
    return str(root / "usr/bin/redis-server"), {**os.environ, "LD_LIBRARY_PATH": ":".join(sorted(libraries))}


def _unpacked(folder: Path) -> Path:
    """The packages' files, fetched once for all test processes."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            try:
                _run(folder, "apt-get", "download", *PACKAGES)
                for package in folder.glob("*.deb"):
                    _run(folder, "dpkg", "-x", package.name, "root")
            except (OSError, subprocess.CalledProcessError) as error:
                raise NoRedisSevenError(f"no Redis 7 on PATH, and Debian's cannot be fetched: {error}") from error
            (folder / "complete").touch()
    return folder / "root"


def _run(folder: Path, *command: str) -> None:
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=120)
