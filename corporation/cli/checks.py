"""What `corporation doctor` looks at; each check is one finding: fine, odd or wrong, and then what to do."""

import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import psycopg
import redis
from redis.exceptions import AuthenticationError, NoPermissionError
from sqlalchemy import create_engine
from sqlalchemy.exc import SQLAlchemyError

import corporation
from corporation.broker_link import PasswordFileError, open_own_link
from corporation.cli import exits
from corporation.cli.checks_of_headquarters import headquarters
from corporation.cli.checks_of_progress import progress
from corporation.cli.checks_of_trust import keys_of_a_factory
from corporation.cli.connection import effective
from corporation.cli.finding import Finding
from corporation.cli.origins import dotenv_file, origin_of
from corporation.cli.untouched import NOTHING_YET, is_untouched
from corporation.database_role import is_strict, judge
from corporation.db import newest_revision, revision, sqlalchemy_url
from corporation.embedded.connection_causes import NO_ANSWER, cause_of
from corporation.embedded.stack_components import TelegramFacts, components_of, row_of
from corporation.embedded.stack_shape import shape_of_role
from corporation.embedded.stack_state import StateFolder
from corporation.errors import SettingsError
from corporation.oddities import alarms_about, warnings_about
from corporation.secrets import load_secrets
from corporation.settings import Settings, load_settings
from corporation.shown_address import shown

PROJECT_ROOT: Final = Path(corporation.__file__).parent.parent
OLDEST_PYTHON: Final = (3, 11)
LEAST_FREE_BYTES: Final = 1024**3
CONNECT_SECONDS: Final = 3
REFUSED_ADVICE: Final = "look at the line `token` below; where HQ accepts that, join again: it gives a new password"


def examine(environ: Mapping[str, str], folder: StateFolder) -> list[Finding]:
    """All findings about this node; reads and connects, and changes nothing but a temporary file."""
    complete, secrets = loaded_secrets(environ)
    seen = effective(complete, folder)
    findings = [python_version(sys.version_info[:3]), *secrets, *variables(complete), *programs(shutil.which)]
    findings += [writable(folder), free_space(folder, shutil.disk_usage)]
    try:
        settings = load_settings(seen)
    except SettingsError:
        return findings  # the variables are wrong, and said so: there is no address to try
    if is_untouched(complete, folder):
        return [*findings, NOTHING_YET]
    broker, database = redis_answers(settings), database_answers(settings)
    findings += [node(settings), broker, *database, *keys_of_a_factory(settings)]
    if [one.grade for one in database[:2]] == ["ok", "ok"]:  # it answers, and has the tables of this code
        findings += progress(settings, folder, redis_answers=broker.grade == "ok")
    return [*findings, *headquarters(seen, folder, settings, origin_of("UA_OPS_TOKEN", environ))]


def loaded_secrets(environ: Mapping[str, str]) -> tuple[Mapping[str, str], list[Finding]]:
    """The environment with its secrets, and where they come from; nothing to say where no vault is configured."""
    try:
        loaded = load_secrets(environ, PROJECT_ROOT)
    except SettingsError as error:
        return environ, [Finding("secrets", "problem", text, "", exits.CONFIG) for text in error.problems]
    report = loaded.report
    if report.fallback_used and "MissingCredentials" not in report.errors:
        what = f"the vault gave none ({', '.join(report.errors)}); they come from: {report.source}"
        return loaded.environ, [Finding("secrets", "warning", what, "check the INFISICAL_ variables and the network")]
    place = dotenv_file(environ) if report.source == "dotenv" else report.source
    return loaded.environ, [Finding("secrets", "ok", f"from: {place}")]


def node(settings: Settings) -> Finding:
    """What this node is and does, by its role and the overrides."""
    policy = settings.policy
    telegram = TelegramFacts(settings.telegram_bot_token is not None, bool(settings.telegram_allowed_user_ids))
    row = row_of(policy, components_of(policy, shape_of_role(policy.factory_role), telegram))
    return Finding("node", "ok", f"{settings.factory_id}, {row}")


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
        alarms = alarms_about(environ, load_settings(environ))
        found += [Finding("variables", "warning", alarm, "correct it, or remove it") for alarm in alarms]
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
    """The broker takes our password and answers PING, where this node is to use one."""
    if not settings.redis_delegation_enabled and not settings.policy.opens_ledger:
        return Finding("redis", "ok", "not used: missions come over HTTPS")
    address = shown(settings.redis_url)
    try:
        with open_own_link(settings, limit_seconds=CONNECT_SECONDS) as server:
            server.ping()
    except PasswordFileError as error:
        return Finding("redis", "problem", str(error), "write it there, or join HQ again", exits.CONFIG)
    except (AuthenticationError, NoPermissionError):
        joined = settings.redis_password_file is not None and not settings.policy.opens_ledger
        advice = REFUSED_ADVICE if joined else "check UA_REDIS_URL"
        return Finding("redis", "problem", f"{address} refuses the password", advice, exits.CONFIG)
    except (redis.RedisError, OSError, ValueError) as error:
        return Finding("redis", "problem", *_away(address, error, "UA_REDIS_URL"), exits.UNAVAILABLE)
    return Finding("redis", "ok", address)


def _away(address: str, error: Exception, variable: str) -> tuple[str, str]:
    """What is wrong with a server, and what to do: one that is silent is there, and starting another helps nothing."""
    cause = cause_of(error)
    if cause == NO_ANSWER:
        advice = f"see its log and whether it stands still or is overloaded, and restart it; or check {variable}"
    else:
        advice = f"start it (`corporation up` starts one), or check {variable}"
    return f"{address}: {cause}", advice


def database_answers(settings: Settings) -> list[Finding]:
    """The ledger answers and has the schema that this code expects; a factory has HQ's mailbox instead."""
    if not settings.policy.opens_ledger:
        return [mailbox_answers(settings), *role_owns_nothing("UA_RESULT_BACKEND_URL", settings.mailbox_url, settings)]
    if settings.database_url is None:
        advice = "set UA_DATABASE_URL, or run `corporation up`, which brings one"
        return [Finding("postgresql", "warning", "no ledger is configured", advice)]
    address = shown(settings.database_url).replace("+psycopg", "", 1)
    try:
        now = _revision_of(settings.database_url)
    except (SQLAlchemyError, psycopg.Error, ValueError) as error:
        return [Finding("postgresql", "problem", *_away(address, error, "UA_DATABASE_URL"), exits.UNAVAILABLE)]
    schema = _schema(now, newest_revision())
    role = role_owns_nothing("UA_DATABASE_URL", settings.database_url, settings)
    return [Finding("postgresql", "ok", address), schema, *role]


def role_owns_nothing(variable: str, url: str | None, settings: Settings) -> list[Finding]:
    """The role of the address in `variable` is weak enough; nothing of a database that is away, as said already."""
    judgement = judge(variable, url) if url else None
    if judgement is None or judgement.unknown:
        return []
    if not judgement.reasons:
        return [Finding("database role", "ok", f"{judgement.role!r} owns nothing")]
    if is_strict(settings):
        return [Finding("database role", "problem", judgement.objection, judgement.advice, exits.CONFIG)]
    return [Finding("database role", "warning", judgement.objection, judgement.advice)]


def _revision_of(url: str) -> str | None:
    engine = create_engine(sqlalchemy_url(url), connect_args={"connect_timeout": CONNECT_SECONDS})
    try:
        with engine.connect() as connection:
            return revision(connection)
    finally:
        engine.dispose()


def mailbox_answers(settings: Settings) -> Finding:
    """HQ's mailbox takes the connection of this factory."""
    if settings.mailbox_url is None:
        return Finding("mailbox", "ok", "not used: results go to HQ over HTTPS")
    address = shown(settings.mailbox_url)
    try:
        psycopg.connect(settings.mailbox_url, connect_timeout=CONNECT_SECONDS).close()
    except (psycopg.Error, ValueError) as error:
        advice = "start HQ, or check UA_RESULT_BACKEND_URL"
        return Finding("mailbox", "problem", f"{address}: {cause_of(error)}", advice, exits.UNAVAILABLE)
    return Finding("mailbox", "ok", address)


def _schema(now: str | None, wanted: str) -> Finding:
    if now == wanted:
        return Finding("schema", "ok", f"revision {wanted}")
    what = f"revision {now} instead of {wanted}" if now else "never migrated"
    return Finding("schema", "problem", what, "run `corporation migrate`", exits.CONFIG)
