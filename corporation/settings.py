"""The environment, read once at the edge of each process into one frozen `Settings` (contract env.md).

Nothing here runs at import: a process calls `load_settings(os.environ, …)` and passes the value down.
"""

import re
import socket
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote, urlsplit

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
)
from pydantic_core import PydanticCustomError

from corporation.errors import SettingsError
from corporation.roles import FactoryRole, default_factory_id, default_queue, read_role

TRUE_WORDS = frozenset({"1", "true", "yes", "on"})
FALSE_WORDS = frozenset({"0", "false", "no", "off"})
LONGEST_SECONDS = 3_155_760_000
"""A hundred years: more is a slip, and the database could not add it to a time."""


def read_flag(word: str | None, default: bool) -> bool:
    """The 3-state flag of contract E-2: a word for yes, a word for no, and everything else is the default."""
    text = (word or "").strip().lower()
    if text in TRUE_WORDS:
        return True
    return False if text in FALSE_WORDS else default


def _flag(default: bool) -> BeforeValidator:
    def read(word: Any) -> bool:
        return word if isinstance(word, bool) else read_flag(str(word), default)

    return BeforeValidator(read)


def _address(*schemes: str) -> AfterValidator:
    """The text must be an address with one of `schemes`; what is wrong with it is said without repeating any of it."""

    def check(given: str | SecretStr) -> str | SecretStr:
        address = given if isinstance(given, str) else given.get_secret_value()
        try:
            parts = urlsplit(address)
            _ = parts.port  # only reading it shows that it is no number
        except ValueError:
            raise PydanticCustomError("address", "is no address; write special characters as %XX") from None
        if "password=" in parts.query.lower():
            # It would be shown wherever an address is shown; only the part before the @ is hidden there.
            raise PydanticCustomError("address", "must not carry its password in the query; write it before the @")
        if address and parts.scheme not in schemes:
            allowed = " or ".join(f"{scheme}://" for scheme in schemes)
            raise PydanticCustomError("address", "must start with {allowed}", {"allowed": allowed})
        return given

    return AfterValidator(check)


def _long_secret(secret: SecretStr) -> SecretStr:
    if len(secret.get_secret_value().encode()) < 32:
        raise PydanticCustomError("secret", "must be at least 32 bytes long")
    return secret


_Redis = Annotated[SecretStr, _address("redis", "rediss")]
_Web = Annotated[str, _address("http", "https")]
_LongSecret = Annotated[SecretStr, AfterValidator(_long_secret)]
_Postgres = Annotated[SecretStr, _address("postgresql", "postgres", "postgresql+psycopg")]


def _env(*names: str, default: Any, **limits: Any) -> Any:
    """A field read from the first of `names` that is set; the order is the contract's fallback order."""
    return Field(default, validation_alias=AliasChoices(*names), **limits)


class Settings(BaseModel):
    """All a process knows from its environment; secrets are `SecretStr`, and `repr` never shows them."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True, extra="ignore")

    role_word: str | None = _env("FACTORY_ROLE", default=None)
    factory_name: str | None = _env("UA_FACTORY_ID", "UA_MACHINE_SLUG", "INFISICAL_MACHINE_IDENTITY_NAME", default=None)
    hostname: str = _env("UA_FACTORY_HOSTNAME", "HOSTNAME", default="")
    deployment_profile: str = _env("UA_DEPLOYMENT_PROFILE", default="local_workstation")
    queue_name: str | None = _env("UA_FACTORY_QUEUE", default=None)

    redis_url_given: _Redis | None = _env("UA_REDIS_URL", default=None)
    redis_host: str = _env("UA_REDIS_HOST", default="127.0.0.1")
    redis_port: int = _env("UA_REDIS_PORT", default=6379, ge=1, le=65535)
    redis_db: int = _env("UA_REDIS_DB", default=0, ge=0)
    redis_password: SecretStr | None = _env("REDIS_PASSWORD", default=None)
    database_url_given: _Postgres | None = _env("UA_DATABASE_URL", "DATABASE_URL", default=None)
    mailbox_url_given: _Postgres | None = _env("UA_RESULT_BACKEND_URL", default=None)

    hq_base_url: _Web = _env("UA_HQ_BASE_URL", "UA_BASE_URL", "UA_GATEWAY_URL", default="")
    # Loopback, although the contract's H-1 says 0.0.0.0: ops/decisions/0002-loopback-by-default.md.
    gateway_host: str = _env("UA_GATEWAY_HOST", default="127.0.0.1")
    gateway_port: int = _env("UA_GATEWAY_PORT", default=8002, ge=1, le=65535)
    ops_token: SecretStr | None = _env("UA_OPS_TOKEN", default=None)
    ops_jwt_secret: _LongSecret | None = _env("UA_OPS_JWT_SECRET", default=None)
    ops_auth_allow_legacy: Annotated[bool, _flag(True)] = _env("UA_OPS_AUTH_ALLOW_LEGACY", default=True)

    heartbeat_interval_seconds: int = _env(
        "UA_HEARTBEAT_INTERVAL_SECONDS", "UA_FACTORY_REGISTRATION_INTERVAL_SECONDS", default=60, ge=10
    )
    handler_modules: str = _env("UA_HANDLER_MODULES", default="")
    """Python modules with further mission kinds, separated by commas; workers import them beside our own."""
    factory_slots: int = _env("UA_FACTORY_SLOTS", default=1, ge=1)
    factory_stale_seconds: int = _env("UA_FACTORY_STALE_SECONDS", default=300, ge=1)
    factory_offline_seconds: int = _env("UA_FACTORY_OFFLINE_SECONDS", default=900, ge=1)
    spool_path: Path = _env("UA_VP_DB_PATH", "UA_RUNTIME_DB_PATH", default=Path("vp_state.db"))
    sqlite_busy_timeout_ms: int = _env("UA_SQLITE_BUSY_TIMEOUT_MS", default=15000, ge=250)
    repositories_root: Path = _env(
        "UA_TUTORIAL_BOOTSTRAP_LOCAL_ROOT",
        "UA_TUTORIAL_BOOTSTRAP_TARGET_ROOT",
        "UA_TUTORIAL_BOOTSTRAP_REPO_ROOT",
        default=Path("~/corporation-repositories"),
    )
    artifact_root: Path = _env("UA_ARTIFACT_ROOT", default=Path(".corporation/artifacts"))

    ready_file: Path | None = _env("UA_READY_FILE", default=None)
    """A worker creates this file when it takes missions and removes it when it stops; supervisors wait for it."""

    attempt_lease_seconds: int = _env("UA_ATTEMPT_LEASE_SECONDS", default=180, ge=1, le=LONGEST_SECONDS)
    retry_base_seconds: float = _env("UA_MISSION_RETRY_BASE_SECONDS", default=15.0, ge=0, le=LONGEST_SECONDS)
    retry_cap_seconds: float = _env("UA_MISSION_RETRY_CAP_SECONDS", default=900.0, ge=0, le=LONGEST_SECONDS)
    retry_jitter: float = _env("UA_MISSION_RETRY_JITTER", default=0.2, ge=0, le=1)
    timeout_grace_seconds: int = _env("UA_MISSION_TIMEOUT_GRACE_SECONDS", default=30, ge=1)
    default_ttl_seconds: int = _env("UA_MISSION_DEFAULT_TTL_SECONDS", default=604800, ge=0, le=LONGEST_SECONDS)
    waiting_limit: int = _env("UA_MISSION_WAITING_LIMIT", default=10000, ge=1)
    """Missions that may wait before publish answers 429 `queue_full` (notes, bad-input §1)."""

    @cached_property
    def role(self) -> FactoryRole:
        """What this node is."""
        return read_role(self.role_word)

    @cached_property
    def host(self) -> str:
        """The host name as a slug of at most 80 characters (contract env §4)."""
        name = self.hostname or socket.gethostname()
        return re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")[:80] or "node"

    @cached_property
    def factory_id(self) -> str:
        """The one identity of this node's processes, stable over restarts (E-10, F-1)."""
        return self.factory_name or default_factory_id(self.role, self.host)

    @cached_property
    def mission_queue(self) -> str:
        """The queue that this node's mission workers share."""
        return self.queue_name or default_queue(self.role)

    @cached_property
    def redis_url(self) -> str:
        """The broker's address, password included and percent-encoded: never log it, use `shown(…)`."""
        if self.redis_url_given:
            return self.redis_url_given.get_secret_value()
        password = f":{quote(self.redis_password.get_secret_value(), safe='')}@" if self.redis_password else ""
        return f"redis://{password}{self.redis_host}:{self.redis_port}/{self.redis_db}"

    @cached_property
    def database_url(self) -> str | None:
        """The ledger's address for SQLAlchemy, or None on a node that must not open it (E-7)."""
        if self.database_url_given is None or self.role is FactoryRole.LOCAL_WORKER:
            return None
        return "postgresql+psycopg://" + _after_scheme(self.database_url_given.get_secret_value())

    @cached_property
    def mailbox_url(self) -> str | None:
        """The result backend's address as libpq wants it, or None when results travel over HTTPS."""
        given = self.mailbox_url_given or (
            self.database_url_given if self.role is not FactoryRole.LOCAL_WORKER else None
        )
        return "postgresql://" + _after_scheme(given.get_secret_value()) if given else None


def _after_scheme(url: str) -> str:
    return url.partition("://")[2]


def shown(url: str) -> str:
    """`url` without its password, fit for logs and pages."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    host = f"{parts.hostname or ''}:{parts.port}" if parts.port else (parts.hostname or "")
    return parts._replace(netloc=f"{parts.username or ''}:***@{host}").geturl()


def load_settings(environ: Mapping[str, str], *required: str) -> Settings:
    """The settings in `environ`; raises SettingsError naming every problem at once, with no value of a secret.

    `required` names variables this process cannot do without. Calling twice gives equal values.
    """
    given = {name: value for name, value in environ.items() if value.strip()}
    settings, wrong = _read(given)
    problems = [f"{name}: {message}" for name, message in wrong.items()]
    problems += [_missing(name, given) for name in required if not _is_set(name, given)]
    problems += _contradictions(settings, wrong)
    if problems:
        raise SettingsError(problems)
    return settings


def _read(given: Mapping[str, str]) -> tuple[Settings, dict[str, str]]:
    """The settings in `given` with defaults in place of what is wrong, and what is wrong with which variable."""
    try:
        return Settings.model_validate(given), {}
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)
        wrong = {str(detail["loc"][0]): detail["msg"] for detail in details}
        settings, more = _read({name: value for name, value in given.items() if name not in wrong})
        return settings, wrong | more


def warnings_about(environ: Mapping[str, str]) -> list[str]:
    """What is odd but not wrong: names that look like one of ours with a slip, and words that are no flag."""
    notes = [
        f"{name} is not a variable of Corporation; did you mean {near}?"
        for name in sorted(environ)
        if name.startswith("UA_") and name not in KNOWN_NAMES and (near := nearest_name(name))
    ]
    for name, default in FLAGS.items():
        word = environ.get(name, "").strip().lower()
        if word and word not in TRUE_WORDS | FALSE_WORDS:
            notes.append(f"{name} is neither yes nor no; the default {'yes' if default else 'no'} is used")
    role = environ.get("FACTORY_ROLE", "").strip().upper()
    if role and role not in FactoryRole.__members__:
        notes.append(f"FACTORY_ROLE names no role, so this node is a LOCAL_WORKER; allowed: {', '.join(FactoryRole)}")
    return notes


def nearest_name(name: str) -> str | None:
    """The variable that somebody who wrote `name` most likely meant, or None."""
    close = get_close_matches(name, KNOWN_NAMES, n=1, cutoff=0.85)
    return close[0] if close else None


def names_of(field: str) -> tuple[str, ...]:
    """The variables that fill `field` of Settings, in the order in which they win."""
    alias = Settings.model_fields[field].validation_alias
    return tuple(str(choice) for choice in alias.choices) if isinstance(alias, AliasChoices) else ()


KNOWN_NAMES = frozenset(name for field in Settings.model_fields for name in names_of(field))
FLAGS = {
    names_of(name)[0]: bool(info.default) for name, info in Settings.model_fields.items() if info.annotation is bool
}


def _is_set(name: str, given: Mapping[str, str]) -> bool:
    family = next((names_of(field) for field in Settings.model_fields if name in names_of(field)), (name,))
    return any(alias in given for alias in family)


def _missing(name: str, given: Mapping[str, str]) -> str:
    slip = next((other for other in sorted(given) if other not in KNOWN_NAMES and nearest_name(other) == name), None)
    hint = f"; {slip} is set, did you mean {name}?" if slip else "; `corporation env` prints a working set"
    return f"{name} is missing{hint}"


def _contradictions(settings: Settings, wrong: Collection[str]) -> list[str]:
    """Values that do not go together; one that is wrong in itself is not compared, since its default stands there."""
    families = [names_of(field) for field in Settings.model_fields]
    unknown = {names[0] for names in families if any(name in wrong for name in names)}
    problems: list[str] = []
    if settings.attempt_lease_seconds < 2 * settings.heartbeat_interval_seconds:
        problems.append("UA_ATTEMPT_LEASE_SECONDS: must be at least twice UA_HEARTBEAT_INTERVAL_SECONDS")
    if settings.factory_offline_seconds <= settings.factory_stale_seconds:
        problems.append("UA_FACTORY_OFFLINE_SECONDS: must exceed UA_FACTORY_STALE_SECONDS")
    return [problem for problem in problems if not any(name in problem for name in unknown)]
