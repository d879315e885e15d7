"""The environment, read once at the edge of each process into one frozen `Settings` (contract env.md).

Nothing here runs at import: `corporation.bootstrap` calls `load_settings` with the complete environment.
"""

import re
import socket
from collections.abc import Callable, Collection, Mapping, Sequence
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, SecretStr, ValidationError

from corporation.errors import SettingsError
from corporation.roles import (
    DelegationMode,
    Executors,
    FactoryRole,
    FactoryRuntimePolicy,
    GatewayMode,
    HeartbeatScope,
    Overrides,
    build_factory_runtime_policy,
    default_factory_id,
    default_queue,
    read_role,
)
from corporation.variables import (
    IN_CLEAR,
    KEY_NAME,
    LONGEST_SECONDS,
    STAGES,
    FactoryRedis,
    HeaderSecret,
    HostName,
    Name,
    Origins,
    Postgres,
    Proxies,
    Redis,
    SigningSecret,
    Stage,
    UserIds,
    Web,
    Words,
    broker_problems,
    choice,
    crosses_the_internet_in_clear,
    flag,
    floor,
)

CODER_ID, GENERAL_ID = "vp.coder.primary", "vp.general.primary"
LONGEST_WORD_SHOWN = 20
"""Characters of a wrong value that an error repeats; no number or choice of ours is longer."""

PROFILES = ("local_workstation", "standalone_node", "vps")


def _env(*names: str, default: Any, **limits: Any) -> Any:
    """A field read from the first of `names` that is set; the order is the contract's fallback order."""
    return Field(default, validation_alias=AliasChoices(*names), **limits)


class Settings(BaseModel):
    """All a process knows from its environment; secrets are `SecretStr`, and `repr` never shows them."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True, extra="ignore")

    role_word: str | None = _env("FACTORY_ROLE", default=None)
    factory_name: Name | None = _env(
        "UA_FACTORY_ID", "UA_MACHINE_SLUG", "INFISICAL_MACHINE_IDENTITY_NAME", default=None
    )
    hostname: str = _env("UA_FACTORY_HOSTNAME", "HOSTNAME", default="")
    profile_word: str = _env("UA_DEPLOYMENT_PROFILE", default="local_workstation")
    stage: Annotated[Stage | None, choice()] = _env("UA_RUNTIME_STAGE", default=None)
    infisical_environment: str | None = _env("INFISICAL_ENVIRONMENT", default=None)
    queue_name: Name | None = _env("UA_FACTORY_QUEUE", default=None)

    gateway_mode: Annotated[GatewayMode | None, choice()] = _env("UA_CAPABILITY_GATEWAY_MODE", default=None)
    heartbeat_scope: Annotated[HeartbeatScope | None, choice()] = _env("UA_CAPABILITY_HEARTBEAT_SCOPE", default=None)
    delegation_mode: Annotated[DelegationMode | None, choice()] = _env("UA_CAPABILITY_DELEGATION_MODE", default=None)
    start_ui: Annotated[bool | None, flag(None)] = _env("UA_CAPABILITY_START_UI", default=None)
    telegram_poll: Annotated[bool | None, flag(None)] = _env("UA_CAPABILITY_TELEGRAM_POLL", default=None)
    csi_ingest: Annotated[bool | None, flag(None)] = _env("UA_CAPABILITY_CSI_INGEST", default=None)
    agentmail: Annotated[bool | None, flag(None)] = _env("UA_CAPABILITY_AGENTMAIL", default=None)
    standalone_telegram_poll: Annotated[bool, flag(False)] = _env("UA_STANDALONE_ENABLE_TELEGRAM_POLL", default=False)

    llm_provider_override: str | None = _env("LLM_PROVIDER_OVERRIDE", default=None)
    vp_coder: Annotated[bool | None, flag(None)] = _env("ENABLE_VP_CODER", default=None)
    vp_coder_disabled: Annotated[bool | None, flag(None)] = _env("UA_DISABLE_CODER_VP", default=None)
    vp_coder_enabled: Annotated[bool | None, flag(None)] = _env("UA_ENABLE_CODER_VP", default=None)
    vp_general: Annotated[bool, flag(True)] = _env("ENABLE_VP_GENERAL", default=True)
    vp_enabled_ids: Words = _env("UA_VP_ENABLED_IDS", default=(CODER_ID, GENERAL_ID))
    coder_display_name: str | None = _env("UA_CODER_VP_DISPLAY_NAME", default=None)
    zai_api_key: SecretStr | None = _env("ZAI_API_KEY", default=None)
    anthropic_api_key: SecretStr | None = _env("ANTHROPIC_API_KEY", default=None)
    openai_api_key: SecretStr | None = _env("OPENAI_API_KEY", default=None)
    ollama_api_key: SecretStr | None = _env("OLLAMA_API_KEY", default=None)
    xai_api_key: SecretStr | None = _env("XAI_API_KEY", "GROK_API_KEY", default=None)

    redis_url_given: Redis | None = _env("UA_REDIS_URL", default=None)
    redis_host: HostName = _env("UA_REDIS_HOST", default="127.0.0.1")
    redis_port: int = _env("UA_REDIS_PORT", default=6379, ge=1, le=65535)
    redis_db: int = _env("UA_REDIS_DB", default=0, ge=0)
    redis_password: SecretStr | None = _env("REDIS_PASSWORD", default=None)
    redis_plaintext_allowed: Annotated[bool, flag(False)] = _env("UA_REDIS_ALLOW_PLAINTEXT", default=False)
    """Let missions and passwords cross the open internet unencrypted; a private network needs no permission."""
    redis_password_file: Path | None = _env("UA_REDIS_PASSWORD_FILE", default=None)
    """A file with the password of the user that `UA_REDIS_URL` names, read anew for each connection: it may change."""
    redis_admin_url: Redis | None = _env("UA_REDIS_ADMIN_URL", default=None)
    """The broker as a user who may manage users, for HQ's engine alone; without one it uses `UA_REDIS_URL`."""
    redis_delegation_enabled: Annotated[bool, flag(True)] = _env("UA_DELEGATION_REDIS_ENABLED", default=True)
    stream_name: str = _env("UA_DELEGATION_STREAM_NAME", default="ua:missions:delegation", pattern=KEY_NAME)
    consumer_group: str = _env("UA_DELEGATION_CONSUMER_GROUP", default="ua_workers", pattern=KEY_NAME)
    dead_letter_stream: str = _env("UA_DELEGATION_DLQ_STREAM", default="ua:missions:dlq", pattern=KEY_NAME)
    consumer_name: str | None = _env("UA_DELEGATION_CONSUMER_NAME", default=None, min_length=1)
    reclaim_idle_seconds: Annotated[int, floor(1)] = _env(
        "UA_DELEGATION_RECLAIM_IDLE_SECONDS", default=60, le=LONGEST_SECONDS
    )
    poll_seconds: float = _env("UA_BRIDGE_POLL_SECONDS", default=5.0, gt=0, le=LONGEST_SECONDS)
    stream_length: int = _env("UA_DELEGATION_STREAM_MAXLEN", default=100_000, ge=0, le=2**53)
    """How many entries of each stream are kept at least; 0 keeps all (S-41)."""
    database_url_given: Postgres | None = _env("UA_DATABASE_URL", "DATABASE_URL", default=None)
    mailbox_url_given: Postgres | None = _env("UA_RESULT_BACKEND_URL", default=None)

    hq_base_url: Web = _env("UA_HQ_BASE_URL", "UA_BASE_URL", "UA_GATEWAY_URL", default="")
    # Loopback, although the contract's H-1 says 0.0.0.0: ops/decisions/0002-loopback-by-default.md.
    gateway_host: str = _env("UA_GATEWAY_HOST", default="127.0.0.1")
    gateway_port: int = _env("UA_GATEWAY_PORT", default=8002, ge=1, le=65535)
    trusted_proxies: Proxies = _env("UA_GATEWAY_TRUSTED_PROXIES", default=())
    """Addresses or networks whose `X-Forwarded-For` is believed; without them every caller is who connects."""
    ops_token: HeaderSecret | None = _env("UA_OPS_TOKEN", default=None)
    ops_jwt_secret: SigningSecret | None = _env("UA_OPS_JWT_SECRET", default=None)
    ops_auth_allow_legacy: Annotated[bool, flag(True)] = _env("UA_OPS_AUTH_ALLOW_LEGACY", default=True)

    internal_api_token: HeaderSecret | None = _env("UA_INTERNAL_API_TOKEN", default=None)
    """The bootstrap credential; without it `UA_OPS_TOKEN` is one."""
    ca_file: Path | None = _env("SSL_CERT_FILE", default=None)
    """Authorities that may vouch for HQ, instead of the usual ones."""
    plaintext_allowed: Annotated[bool, flag(False)] = _env("UA_HQ_ALLOW_PLAINTEXT", default=False)
    """Let credentials cross the open internet unencrypted on their way to HQ; a private network needs no permission."""
    factory_credential: HeaderSecret | None = _env("UA_FACTORY_CREDENTIAL", default=None)
    mission_signing_key: SecretStr | None = _env("UA_MISSION_SIGNING_KEY", default=None)
    """HQ's Ed25519 key that signs missions: 32 bytes in base64. Without one missions are not signed."""
    mission_keys: Words = _env("UA_MISSION_KEYS", default=())
    """The public keys (32 bytes each, in base64) that may sign missions for this node; without any it runs unsigned."""
    update_keys: Words = _env("UA_UPDATE_KEYS", default=())
    """The public keys that may sign releases for this node: never one that signs missions."""
    publisher_requests_per_minute: int = _env("UA_API_PUBLISHER_PER_MINUTE", default=3000, ge=1, le=1_000_000)
    factory_requests_per_minute: int = _env("UA_API_FACTORY_PER_MINUTE", default=30_000, ge=60, le=1_000_000)
    """Requests a minute to one process, of one publisher (the `sub` of its tokens) and of one factory."""
    cors_allowed_origins: Origins = _env("UA_CORS_ALLOWED_ORIGINS", default=())
    telegram_bot_token: HeaderSecret | None = _env("TELEGRAM_BOT_TOKEN", default=None)
    telegram_allowed_user_ids: UserIds = _env("TELEGRAM_ALLOWED_USER_IDS", default=())
    telegram_api_url: Web = _env("UA_TELEGRAM_API_URL", default="https://api.telegram.org")

    heartbeat_interval_seconds: Annotated[int, floor(10)] = _env(
        "UA_HEARTBEAT_INTERVAL_SECONDS", "UA_FACTORY_REGISTRATION_INTERVAL_SECONDS", default=60
    )
    handler_modules: str = _env("UA_HANDLER_MODULES", default="")
    """Python modules with further mission kinds, separated by commas; workers import them beside our own."""
    factory_slots: int = _env("UA_FACTORY_SLOTS", default=1, ge=1)
    factory_stale_seconds: int = _env("UA_FACTORY_STALE_SECONDS", default=300, ge=1)
    factory_offline_seconds: int = _env("UA_FACTORY_OFFLINE_SECONDS", default=900, ge=1)
    factory_sweep_seconds: int = _env("UA_FACTORY_SWEEP_SECONDS", default=60, ge=1, le=LONGEST_SECONDS)
    factory_redis_url: FactoryRedis | None = _env("UA_FACTORY_REDIS_URL", default=None)
    """The broker's address as a joining factory is told it; without one it gets its missions over HTTPS."""
    factory_update_remote: str = _env("UA_FACTORY_UPDATE_REMOTE", default="origin")
    bootstrap_claim_ttl_seconds: Annotated[int, floor(60)] = _env(
        "UA_TUTORIAL_BOOTSTRAP_CLAIM_TTL_SECONDS", default=1800
    )
    bootstrap_jobs_max: int = _env("UA_TUTORIAL_BOOTSTRAP_JOBS_MAX", default=300, ge=1, le=500)
    spool_path: Path = _env("UA_VP_DB_PATH", "UA_RUNTIME_DB_PATH", default=Path("vp_state.db"))
    sqlite_busy_timeout_ms: Annotated[int, floor(250)] = _env("UA_SQLITE_BUSY_TIMEOUT_MS", default=15000)
    repositories_root: Path = _env(
        "UA_TUTORIAL_BOOTSTRAP_LOCAL_ROOT",
        "UA_TUTORIAL_BOOTSTRAP_TARGET_ROOT",
        "UA_TUTORIAL_BOOTSTRAP_REPO_ROOT",
        default=Path("~/corporation-repositories"),
    )
    artifact_root: Path = _env("UA_ARTIFACT_ROOT", default=Path(".corporation/artifacts"))

    ready_file: Path | None = _env("UA_READY_FILE", default=None)
    """A process creates this file when it is ready (a worker when it takes missions, the API when its port is bound)
    and removes it when it stops; supervisors wait for it."""

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
        """What this node is; what it may do is asked of `policy`."""
        return read_role(self.role_word)

    @cached_property
    def policy(self) -> FactoryRuntimePolicy:
        """What this node does: the row of its role, with its overrides (contract env §2)."""
        overrides = Overrides(
            gateway_mode=self.gateway_mode,
            start_ui=self.start_ui,
            enable_telegram_poll=self.telegram_poll,
            heartbeat_scope=self.heartbeat_scope,
            delegation_mode=self.delegation_mode,
            enable_csi_ingest=self.csi_ingest,
            enable_agentmail=self.agentmail,
            standalone_telegram_poll=self.standalone_telegram_poll,
        )
        return build_factory_runtime_policy(self.role, overrides, Executors(self._coder(), self._general()))

    def _coder(self) -> bool:
        """The order of E-8: the list of ids, the flag, then the two older names."""
        if CODER_ID not in self.vp_enabled_ids:
            return False
        if self.vp_coder is not None:
            return self.vp_coder
        if self.vp_coder_disabled:
            return False
        return self.vp_coder_enabled is not False

    def _general(self) -> bool:
        return self.vp_general and GENERAL_ID in self.vp_enabled_ids

    @cached_property
    def deployment_profile(self) -> str:
        """Where this node stands; a word that is none of `PROFILES` is a workstation, and is warned about."""
        word = self.profile_word.strip().lower()
        return word if word in PROFILES else PROFILES[0]

    @cached_property
    def runtime_stage(self) -> str:
        """`development`, `staging`, `local` or `production` (contract env §2)."""
        if self.stage is not None:
            return str(self.stage)
        named = STAGES.get((self.infisical_environment or "").strip().lower())
        return named or ("production" if self.deployment_profile == "vps" else "development")

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
        word = self.redis_password.get_secret_value() if self.redis_password else ""
        password = f":{quote(word, safe='', errors='surrogateescape')}@" if word else ""
        host = f"[{self.redis_host}]" if ":" in self.redis_host else self.redis_host
        return f"redis://{password}{host}:{self.redis_port}/{self.redis_db}"

    @cached_property
    def database_url(self) -> str | None:
        """The ledger's address for SQLAlchemy, or None on a node that must not open it (E-7)."""
        if self.database_url_given is None or not self.policy.opens_ledger:
            return None
        return "postgresql+psycopg://" + _after_scheme(self.database_url_given.get_secret_value())

    @cached_property
    def mailbox_url(self) -> str | None:
        """The result backend's address as libpq wants it, or None when results travel over HTTPS."""
        given = self.mailbox_url_given or (self.database_url_given if self.policy.opens_ledger else None)
        return "postgresql://" + _after_scheme(given.get_secret_value()) if given else None


def _after_scheme(url: str) -> str:
    return url.partition("://")[2]


Check = Callable[[Settings], Sequence[str]]
"""What one kind of process asks of its settings: the problems that keep it from starting, one line each."""


def load_settings(environ: Mapping[str, str], *required: str, checks: Sequence[Check] = ()) -> Settings:
    """The settings in `environ`; raises SettingsError naming every problem at once, with no value of a secret.

    `required` names variables this process cannot do without. Calling twice gives equal values.
    """
    given = {name: value for name, value in environ.items() if value.strip()}
    settings, wrong = _read(given)
    problems = [f"{name}: {message}" for name, message in wrong.items()]
    problems += [_missing(name, given) for name in required if not _is_set(name, given)]
    judged = [*_contradictions(settings), *(problem for check in checks for problem in check(settings))]
    problems += [problem for problem in judged if not _speaks_of(problem, wrong)]
    problems += _unsafe(settings, environ)
    if problems:
        raise SettingsError(problems)
    return settings


def _read(given: Mapping[str, str]) -> tuple[Settings, dict[str, str]]:
    """The settings in `given` with defaults in place of what is wrong, and what is wrong with which variable."""
    try:
        return Settings.model_validate(given), {}
    except ValidationError as error:
        wrong = {str(detail["loc"][0]): _said(detail) for detail in error.errors(include_url=False)}
        settings, more = _read({name: value for name, value in given.items() if name not in wrong})
        return settings, wrong | more


def _said(detail: Mapping[str, Any]) -> str:
    """What is wrong with one variable, and what stood there unless that may be secret (E-3, E-4)."""
    name = str(detail["loc"][0])
    given = str(detail["input"])
    # A long word where a number belongs may be a password in the wrong line.
    if may_be_secret(name) or "address" in detail["type"] or len(given) > LONGEST_WORD_SHOWN:
        return str(detail["msg"])
    return f"{detail['msg']}, not {given!r}"


def names_of(field: str) -> tuple[str, ...]:
    """The variables that fill `field` of Settings, in the order in which they win."""
    alias = Settings.model_fields[field].validation_alias
    return tuple(str(choice) for choice in alias.choices) if isinstance(alias, AliasChoices) else ()


KNOWN_NAMES = frozenset(name for field in Settings.model_fields for name in names_of(field))


def may_be_secret(name: str) -> bool:
    """Whether the value of the variable `name` must be hidden: it is declared so, or it is none of ours."""
    field = next((info for field, info in Settings.model_fields.items() if name in names_of(field)), None)
    return field is None or "SecretStr" in repr(field)


def nearest_name(name: str) -> str | None:
    """The variable that somebody who wrote `name` most likely meant, or None."""
    close = get_close_matches(name, KNOWN_NAMES, n=1, cutoff=0.85)
    return close[0] if close else None


def _is_set(name: str, given: Mapping[str, str]) -> bool:
    family = next((names_of(field) for field in Settings.model_fields if name in names_of(field)), (name,))
    return any(alias in given for alias in family)


def _missing(name: str, given: Mapping[str, str]) -> str:
    slip = next((other for other in sorted(given) if other not in KNOWN_NAMES and nearest_name(other) == name), None)
    hint = f"; {slip} is set, did you mean {name}?" if slip else "; `corporation env` prints a working set"
    return f"{name} is missing{hint}"


def _speaks_of(problem: str, wrong: Collection[str]) -> bool:
    """Whether `problem` is about a value that is wrong in itself: its default stands there, so it was not judged."""
    families = [names_of(field) for field in Settings.model_fields]
    unknown = {names[0] for names in families if any(name in wrong for name in names)}
    return any(name in problem for name in unknown)


def _contradictions(settings: Settings) -> list[str]:
    """Values that do not go together."""
    problems: list[str] = []
    if settings.attempt_lease_seconds < 2 * settings.heartbeat_interval_seconds:
        problems.append("UA_ATTEMPT_LEASE_SECONDS: must be at least twice UA_HEARTBEAT_INTERVAL_SECONDS")
    if settings.factory_offline_seconds <= settings.factory_stale_seconds:
        problems.append("UA_FACTORY_OFFLINE_SECONDS: must exceed UA_FACTORY_STALE_SECONDS")
    if settings.dead_letter_stream in (settings.stream_name, f"{settings.stream_name}:results"):
        problems.append("UA_DELEGATION_DLQ_STREAM: must differ from the mission stream and from its results stream")
    return problems


def _unsafe(settings: Settings, environ: Mapping[str, str]) -> list[str]:
    others = {"UA_FACTORY_REDIS_URL": settings.factory_redis_url, "UA_REDIS_ADMIN_URL": settings.redis_admin_url}
    brokers = {"UA_REDIS_URL": SecretStr(settings.redis_url), **others}
    problems = [] if settings.redis_plaintext_allowed else broker_problems(brokers)
    if crosses_the_internet_in_clear(settings.hq_base_url) and not settings.plaintext_allowed:
        problems.append(f"UA_HQ_BASE_URL: {IN_CLEAR.format('https://', 'UA_HQ_ALLOW_PLAINTEXT')}")
    uses_parts = settings.redis_delegation_enabled and not settings.redis_url_given
    if uses_parts and not environ.get("REDIS_PASSWORD", "none").strip():
        problems.append("REDIS_PASSWORD: is set but empty; remove it, or give Redis its password")
    return problems
