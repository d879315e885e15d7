"""What `corporation doctor` looks at; each check is one finding: fine, odd or wrong, and then what to do."""

import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

import psycopg
import redis
from redis.exceptions import AuthenticationError, NoPermissionError
from sqlalchemy import create_engine
from sqlalchemy.exc import SQLAlchemyError

from corporation import clock
from corporation.cli import exits
from corporation.cli.client import HqClient
from corporation.cli.connection import effective, find_connection
from corporation.cli.exits import Refusal
from corporation.db import newest_revision, revision, sqlalchemy_url
from corporation.embedded.stack_state import StateFolder, StateFolderError
from corporation.errors import SettingsError
from corporation.settings import Settings, load_settings, shown, warnings_about

OLDEST_PYTHON: Final = (3, 11)
LEAST_FREE_BYTES: Final = 1024**3
MOST_SKEW_SECONDS: Final = 30.0
CONNECT_SECONDS: Final = 3

Grade = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Finding:
    """The outcome of one check; `advice` is what to do, and `exit_code` what the command ends with if it is wrong."""

    name: str
    grade: Grade
    what: str
    advice: str = ""
    exit_code: int = exits.OK


def examine(environ: Mapping[str, str], folder: StateFolder) -> list[Finding]:
    """All findings about this node; reads and connects, and changes nothing but a temporary file."""
    seen = effective(environ, folder)
    findings = [python_version(sys.version_info[:3]), *variables(environ), *programs(shutil.which)]
    findings += [writable(folder), free_space(folder, shutil.disk_usage)]
    try:
        settings = load_settings(seen)
    except SettingsError:
        return findings  # the variables are wrong, and said so: there is no address to try
    return [*findings, redis_answers(settings), *database_answers(settings), *headquarters(environ, folder)]


def python_version(version: tuple[int, ...]) -> Finding:
    """Python is new enough."""
    text = ".".join(str(part) for part in version)
    if version >= OLDEST_PYTHON:
        return Finding("python", "ok", text)
    return Finding("python", "problem", f"{text} is too old", "install Python 3.11 or newer", exits.CONFIG)


def variables(environ: Mapping[str, str]) -> list[Finding]:
    """The environment can be used, and holds no name that looks like a slip."""
    found = [Finding("variables", "warning", note, "correct it, or remove it") for note in warnings_about(environ)]
    try:
        load_settings(environ)
    except SettingsError as error:
        found += [
            Finding("variables", "problem", text, "correct it and try again", exits.CONFIG) for text in error.problems
        ]
    return found or [Finding("variables", "ok", "nothing is wrong with them")]


def programs(which: Callable[[str], str | None]) -> list[Finding]:
    """The programs that missions need are installed."""
    return [
        Finding(name, "ok", path)
        if (path := which(name))
        else Finding(name, "problem", "not found on PATH", f"install {name}", exits.CONFIG)
        for name in ("git", "bash")
    ]


def writable(folder: StateFolder) -> Finding:
    """A file can be made in the state folder, or the folder can be made."""
    place = folder.path if folder.path.exists() else folder.path.parent
    try:
        with tempfile.TemporaryFile(dir=place):
            return Finding("state folder", "ok", str(folder.path))
    except OSError as error:
        advice = "make it writable, or name another one with --state DIR"
        return Finding("state folder", "problem", f"{place}: {error.strerror}", advice, exits.CONFIG)


def free_space(folder: StateFolder, usage: Callable[[str], tuple[int, int, int]]) -> Finding:
    """There is room for logs, repositories and the database."""
    place = next(path for path in (folder.path, *folder.path.parents) if path.exists())
    free = usage(str(place))[2]
    text = f"{free / 1024**3:.1f} GiB free"
    if free >= LEAST_FREE_BYTES:
        return Finding("disk", "ok", text)
    return Finding("disk", "warning", f"only {text} at {place}", "make room: at least 1 GiB")


def redis_answers(settings: Settings) -> Finding:
    """The broker takes our password and answers PING."""
    address = shown(settings.redis_url)
    limits = {"socket_timeout": CONNECT_SECONDS, "socket_connect_timeout": CONNECT_SECONDS}
    try:
        with redis.Redis.from_url(settings.redis_url, **limits) as server:
            server.ping()
    except (AuthenticationError, NoPermissionError):
        return Finding("redis", "problem", f"{address} refuses the password", "check UA_REDIS_URL", exits.CONFIG)
    except (redis.RedisError, OSError) as error:
        advice = "start it (`corporation up` starts one), or check UA_REDIS_URL"
        return Finding("redis", "problem", f"{address}: {type(error).__name__}", advice, exits.UNAVAILABLE)
    return Finding("redis", "ok", address)


def database_answers(settings: Settings) -> list[Finding]:
    """The ledger answers and has the schema that this code expects; a factory has none to check."""
    if settings.database_url is None:
        advice = "set UA_DATABASE_URL, or run `corporation up`, which brings one"
        return [Finding("postgresql", "warning", "no ledger is configured", advice)]
    address = shown(settings.database_url).replace("+psycopg", "", 1)
    engine = create_engine(sqlalchemy_url(settings.database_url), connect_args={"connect_timeout": CONNECT_SECONDS})
    try:
        with engine.connect() as connection:
            now, wanted = revision(connection), newest_revision()
    except (SQLAlchemyError, psycopg.Error) as error:
        advice = "start it (`corporation up` starts one), or check UA_DATABASE_URL"
        return [Finding("postgresql", "problem", f"{address}: {type(error).__name__}", advice, exits.UNAVAILABLE)]
    finally:
        engine.dispose()
    return [Finding("postgresql", "ok", address), _schema(now, wanted)]


def _schema(now: str | None, wanted: str) -> Finding:
    if now == wanted:
        return Finding("schema", "ok", f"revision {wanted}")
    what = f"revision {now} instead of {wanted}" if now else "never migrated"
    return Finding("schema", "problem", what, "run `corporation migrate`", exits.CONFIG)


def headquarters(environ: Mapping[str, str], folder: StateFolder) -> list[Finding]:
    """HQ answers, takes the token, and its clock agrees with ours."""
    try:
        connection = find_connection(environ, folder)
    except (Refusal, StateFolderError) as error:
        return [Finding("headquarters", "problem", str(error), "", exits.CONFIG)]
    with HqClient(connection, tries=1, answer_seconds=CONNECT_SECONDS) as client:
        try:
            health, took = client.health()
            found = [_health(health, connection.base_url), clock_skew(health, took, clock.utc_now())]
        except Refusal as refusal:
            return [Finding("headquarters", "problem", str(refusal), "", exits.UNAVAILABLE)]
        try:
            client.missions({"limit": 1})
        except Refusal as refusal:
            return [*found, Finding("token", "problem", str(refusal), "", _token_exit(refusal))]
    return [*found, Finding("token", "ok", f"accepted (from {connection.token_from})")]


def _health(health: Mapping[str, object], base_url: str) -> Finding:
    if health.get("status") == "healthy":
        return Finding("headquarters", "ok", base_url)
    what = f"{base_url} is {health.get('status')}: {health.get('db_error') or 'no reason given'}"
    return Finding("headquarters", "problem", what, "look into the log of HQ's API", exits.UNAVAILABLE)


def _token_exit(refusal: Refusal) -> int:
    return exits.CONFIG if refusal.exit_code == exits.NO_PERMISSION else exits.UNAVAILABLE


def clock_skew(health: Mapping[str, object], took_seconds: float, now: datetime) -> Finding:
    """HQ's clock and ours differ by less than the limit, half of the answer's way allowed for."""
    try:
        theirs = datetime.fromisoformat(str(health.get("timestamp")))
    except ValueError:
        return Finding("clock", "warning", "HQ did not say what time it is", "update HQ")
    theirs = theirs if theirs.tzinfo else theirs.replace(tzinfo=UTC)
    skew = (now - theirs).total_seconds() - took_seconds / 2
    if abs(skew) <= MOST_SKEW_SECONDS:
        return Finding("clock", "ok", f"{abs(skew):.1f} s from HQ's")
    word = "ahead of" if skew > 0 else "behind"
    what = f"this clock is {abs(skew):.0f} s {word} HQ's; tokens and deadlines will seem wrong"
    return Finding("clock", "problem", what, "let both machines set their time (NTP)", exits.CONFIG)
