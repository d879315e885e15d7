"""What a stack is made of, and the environment of each of its processes: an allow-list, plus what the role needs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from corporation.embedded.stack_state import StateFolder
from corporation.roles import FactoryRole, default_factory_id

HQ_PROCESSES: Final = frozenset({"api", "engine", "hq-worker", "flower"})
FACTORY_PROCESSES: Final = frozenset({"factory-worker", "control", "beat"})

INHERITED: Final = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ", "USER", "LOGNAME", "SSL_CERT_FILE")
"""What every process gets from the launcher's environment, if it is set there."""

TUNING: Final = (
    "UA_ATTEMPT_LEASE_SECONDS",
    "UA_HEARTBEAT_INTERVAL_SECONDS",
    "UA_MISSION_DEFAULT_TTL_SECONDS",
    "UA_MISSION_RETRY_BASE_SECONDS",
    "UA_MISSION_RETRY_CAP_SECONDS",
    "UA_MISSION_RETRY_JITTER",
    "UA_MISSION_TIMEOUT_GRACE_SECONDS",
    "UA_MISSION_WAITING_LIMIT",
)
"""Settings without secrets that a person may change for a run; they win over the stack's own values."""

FACTORY_ONLY: Final = (
    "UA_FACTORY_SLOTS",
    "UA_HANDLER_MODULES",
    "LLM_PROVIDER_OVERRIDE",
    "ENABLE_VP_CODER",
    "ENABLE_VP_GENERAL",
    "ANTHROPIC_API_KEY",
    "OPENAI_API_KEY",
    "ZAI_API_KEY",
)
"""What only the factory gets from the launcher: the keys of its models, and how much it does at once."""

HEARTBEAT_SECONDS: Final = "15"
SLOTS: Final = "2"


@dataclass(frozen=True)
class Stack:
    """One HQ and one factory on this machine: addresses, secrets, and where they keep their things."""

    state: Path
    python: str
    host: str
    redis_url: str
    database_url: str
    gateway_port: int
    flower_port: int
    ops_token: str
    jwt_secret: str
    flower_password: str
    inherited: Mapping[str, str]

    @property
    def folder(self) -> StateFolder:
        """The paths below the state folder."""
        return StateFolder(self.state)

    @property
    def hq_base_url(self) -> str:
        """Where HQ's API answers; loopback only."""
        return f"http://127.0.0.1:{self.gateway_port}"

    @property
    def flower_url(self) -> str:
        """Where Flower answers; loopback only, user `corporation`."""
        return f"http://127.0.0.1:{self.flower_port}"

    def to_facts(self) -> dict[str, Any]:
        """The JSON object kept in the state folder; `from_facts` reads it back."""
        return {
            "database_url": self.database_url,
            "factory_id": default_factory_id(FactoryRole.LOCAL_WORKER, self.host),
            "flower_password": self.flower_password,
            "flower_port": self.flower_port,
            "flower_url": self.flower_url,
            "flower_user": "corporation",
            "gateway_port": self.gateway_port,
            "host": self.host,
            "hq_base_url": self.hq_base_url,
            "hq_factory_id": default_factory_id(FactoryRole.HEADQUARTERS, self.host),
            "jwt_secret": self.jwt_secret,
            "ops_token": self.ops_token,
            "python": self.python,
            "redis_url": self.redis_url,
        }


_TEXTS: Final = ("python", "host", "redis_url", "database_url", "ops_token", "jwt_secret", "flower_password")
_PORTS: Final = ("gateway_port", "flower_port")


def from_facts(state: Path, facts: Mapping[str, Any], inherited: Mapping[str, str]) -> Stack | None:
    """The stack that `facts` describe, or None when they are not whole (an older version, a hand that slipped)."""
    texts = {name: facts.get(name) for name in _TEXTS}
    ports = {name: facts.get(name) for name in _PORTS}
    if not all(isinstance(value, str) for value in texts.values()):
        return None
    if not all(isinstance(value, int) for value in ports.values()):
        return None
    values: dict[str, Any] = {**texts, **ports}
    return Stack(state=state, inherited=inherited, **values)


def inherited_from(environ: Mapping[str, str]) -> dict[str, str]:
    """The part of the launcher's environment that any of its processes may see."""
    return {name: environ[name] for name in (*INHERITED, *TUNING, *FACTORY_ONLY) if environ.get(name)}


def environment_of(process: str, stack: Stack) -> dict[str, str]:
    """The whole environment of `process`; an unknown name is a KeyError.

    The factory gets neither the ledger's variable nor the secret that signs tokens. It is still one trust zone with HQ:
    its mailbox is the same database, its token the operator's, and its scripts run as the same user.
    """
    base = _picked(stack, INHERITED) | {
        "PYTHONUNBUFFERED": "1",
        "UA_READY_FILE": str(stack.folder.ready_file(process)),
    }
    return base | variables_of(process, stack)


def variables_of(process: str, stack: Stack) -> dict[str, str]:
    """Only what Corporation reads: with these set, the same process can be started by hand."""
    role: dict[str, Callable[[Stack], dict[str, str]]] = {
        **dict.fromkeys(HQ_PROCESSES, _headquarters),
        **dict.fromkeys(FACTORY_PROCESSES, _factory),
    }
    extra = {"FLOWER_BASIC_AUTH": f"corporation:{stack.flower_password}"} if process == "flower" else {}
    return _shared(stack) | role[process](stack) | _picked(stack, TUNING) | extra


def _shared(stack: Stack) -> dict[str, str]:
    return {
        "UA_REDIS_URL": stack.redis_url,
        "UA_HQ_BASE_URL": stack.hq_base_url,
        "UA_OPS_TOKEN": stack.ops_token,
        "UA_HEARTBEAT_INTERVAL_SECONDS": HEARTBEAT_SECONDS,
    }


def _headquarters(stack: Stack) -> dict[str, str]:
    return {
        "FACTORY_ROLE": FactoryRole.HEADQUARTERS.value,
        "UA_FACTORY_ID": default_factory_id(FactoryRole.HEADQUARTERS, stack.host),
        "UA_DATABASE_URL": stack.database_url,
        "UA_OPS_JWT_SECRET": stack.jwt_secret,
        "UA_GATEWAY_HOST": "127.0.0.1",
        "UA_GATEWAY_PORT": str(stack.gateway_port),
        "UA_ARTIFACT_ROOT": str(stack.folder.artifacts),
        "UA_VP_DB_PATH": str(stack.folder.spool("hq")),
    }


def _factory(stack: Stack) -> dict[str, str]:
    return {
        "FACTORY_ROLE": FactoryRole.LOCAL_WORKER.value,
        "UA_FACTORY_ID": default_factory_id(FactoryRole.LOCAL_WORKER, stack.host),
        "UA_RESULT_BACKEND_URL": stack.database_url,
        "UA_VP_DB_PATH": str(stack.folder.spool("factory")),
        "UA_FACTORY_SLOTS": SLOTS,
        "UA_TUTORIAL_BOOTSTRAP_LOCAL_ROOT": str(stack.folder.repositories),
    } | _picked(stack, FACTORY_ONLY)


def _picked(stack: Stack, names: tuple[str, ...]) -> dict[str, str]:
    return {name: stack.inherited[name] for name in names if name in stack.inherited}
