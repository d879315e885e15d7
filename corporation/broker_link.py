"""How a process of a node opens Redis beside Celery, and with whose password.

The broker is asked for labels, health and pages, so it answers in a second or counts as away.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.credentials import CredentialProvider
from redis.retry import Retry

from corporation.settings import Settings

LIMIT_SECONDS: Final = 1


class PasswordFileError(redis.ConnectionError):
    """The file with the broker's password cannot be read now; the next connection looks again. Names the file."""


@dataclass(frozen=True)
class PasswordFile(CredentialProvider):
    """A user whose password is what stands in `path` at the moment somebody connects: it may change meanwhile."""

    user: str
    path: Path

    def get_credentials(self) -> tuple[str, str]:
        """User and password for one connection; raises PasswordFileError, on which clients connect again later."""
        try:
            password = self.path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise PasswordFileError(f"no password in {self.path} ({type(error).__name__})") from None
        if not password:
            raise PasswordFileError(f"no password in {self.path} (it is empty)")
        return self.user, password


def open_link(url: str, password_file: Path | None = None, limit_seconds: float = LIMIT_SECONDS) -> redis.Redis:
    """A client that waits so long to connect and so long for an answer, and repeats nothing; connects when asked.

    With a `password_file` that wins over a password in `url`, and is read for each connection.
    """
    return redis.Redis.from_url(
        _without_user(url) if password_file else url,
        socket_timeout=limit_seconds,
        socket_connect_timeout=limit_seconds,
        retry=Retry(NoBackoff(), 0),
        **_credentials(url, password_file),
    )


def open_own_link(settings: Settings, limit_seconds: float = LIMIT_SECONDS) -> redis.Redis:
    """As `open_link`, to this node's own broker as this node's own user."""
    return open_link(settings.redis_url, settings.redis_password_file, limit_seconds)


def user_in(url: str) -> str:
    """The user that an address names; `default` is who connects with a password alone."""
    return unquote(urlsplit(url).username or "") or "default"


def why_not_connected(client: redis.Redis) -> str | None:
    """The class of the error that a ping ends in, None when it is answered; the error's text may hold an address."""
    try:
        client.ping()
    except (redis.RedisError, OSError) as error:
        return type(error).__name__
    return None


def _credentials(url: str, password_file: Path | None) -> dict[str, Any]:
    return {"credential_provider": PasswordFile(user_in(url), password_file)} if password_file else {}


def _without_user(url: str) -> str:
    """redis-py takes an address that names somebody or a provider, never both."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
