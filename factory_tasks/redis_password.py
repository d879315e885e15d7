"""The factory takes a new password for the broker when HQ wants it to: from HQ into its file, and nothing restarts.

The file is read for each new connection. So the new password lies beside it until the broker takes it: the broker hears
of it from HQ's engine, which may be away for a while, and the old one is good until then.
"""

import fcntl
import os
import sqlite3
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import redis
import redis.exceptions
import structlog

from corporation import clock
from corporation.broker_link import open_link
from corporation.errors import CorporationError
from corporation.federation import notes
from corporation.federation.hq import Hq
from corporation.settings import Settings
from corporation.trust.redis_address import with_user
from factory_tasks.node import Node

log = structlog.get_logger()

TRIES: Final = 10
PAUSE_SECONDS: Final = 0.3
"""Before each look whether the broker knows the new password already; after `TRIES` the next beat looks again."""
GIVEN_UP_SECONDS: Final = 600.0
"""A password that the broker has not taken after this is replaced by another, while the old one is still good."""
TOLD: Final = "rotate_redis_password_told"
LONGEST: Final = 500
NO_FILE: Final = "set UA_REDIS_PASSWORD_FILE, or join again; a password in UA_REDIS_URL cannot be changed while we run"


def rotate_if_asked(here: Node) -> None:
    """If HQ wants a new password, it is the one in the file when this returns, or the next beat tries again.

    Of the processes of this factory one does it at a time. Raises nothing; safe to call again and again.
    """
    try:
        if here.hq is None or not _is_asked(here):
            return
        if (file := here.settings.redis_password_file) is None:
            _tell_once(here)
            return
        with _alone(file) as alone:
            # Looked at again: another process may have done it while this one came here.
            if alone and _is_asked(here) and _rotated(here.settings, here.hq, file):
                here.spool.note(notes.ROTATE_REDIS, notes.UNSET)
                log.info("redis_password_rotated", file=str(file))
    except (CorporationError, OSError, sqlite3.Error) as error:
        log.warning("redis_password_waits", error=type(error).__name__)


def _is_asked(here: Node) -> bool:
    return here.spool.noted(notes.ROTATE_REDIS) == notes.SET


def _tell_once(here: Node) -> None:
    if here.spool.noted(TOLD) != notes.SET:
        log.error("redis_password_not_rotated", what_next=NO_FILE)
        here.spool.note(TOLD, notes.SET)


def _rotated(settings: Settings, hq: Hq, file: Path) -> bool:
    """Whether the new password is in place; one that was fetched before is tried before another is asked for."""
    fresh = file.with_name(f"{file.name}.new")
    if not fresh.exists():
        write_password(fresh, _password_in(hq.new_redis_password()))
    for _ in range(TRIES):
        clock.pause(PAUSE_SECONDS)
        taken = _is_taken(settings, fresh)
        if taken is None:
            return False  # the broker is away: nobody can connect, with whatever password
        if taken:
            fresh.replace(file)
            _sync(file.parent)
            return True
    if clock.utc_now().timestamp() - fresh.stat().st_mtime > GIVEN_UP_SECONDS:
        # HQ may have forgotten it: it was restored from a copy, or another process asked for one after this.
        fresh.unlink()
    return False


def _password_in(answer: dict[str, Any]) -> str:
    password = answer.get("redis_password")
    if not isinstance(password, str) or not 0 < len(password) <= LONGEST or not password.isprintable():
        raise CorporationError("HQ's answer holds no password")
    return password


def _is_taken(settings: Settings, fresh: Path) -> bool | None:
    """Whether the broker lets our user in with the password in `fresh`; None while it does not answer."""
    user = unquote(urlsplit(settings.redis_url).username or "default")
    link = open_link(with_user(settings.redis_url, user, fresh.read_text(encoding="utf-8").strip()))
    try:
        link.ping()
    except redis.exceptions.AuthenticationError:
        return False
    except (redis.RedisError, OSError):
        return None
    finally:
        link.close()
    return True


def write_password(file: Path, password: str) -> None:
    """`file` holds `password`, for our eyes only, and on the disk; nobody ever sees half of it."""
    draft = file.with_name(f"{file.name}.draft")
    with suppress(FileNotFoundError):
        draft.unlink()
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        stream.write(f"{password}\n")
        stream.flush()
        os.fsync(stream.fileno())
    draft.replace(file)
    _sync(file.parent)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _alone(file: Path) -> Generator[bool]:
    """Whether no other process is at it within the block; the kernel lets go for one that is killed."""
    handle = os.open(file.with_name(f"{file.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(handle)
