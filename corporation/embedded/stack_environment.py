"""What a stack is made of, and the environment of each of its processes: an allow-list, plus what the role needs."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from corporation.embedded import stack_names as names
from corporation.embedded.stack_shape import MISSION_WORKERS, ROLES, Shape, id_of, parts_of, role_of
from corporation.embedded.stack_state import StateFolder
from corporation.embedded.stack_users import user_for
from corporation.roles import FactoryRole, default_queue, private_queue
from corporation.shown_address import without_password
from corporation.trust.redis_address import with_user

HEARTBEAT_SECONDS: Final = "15"
SLOTS: Final = "2"

LOADS_NO_SECRETS: Final = {
    "UA_INFISICAL_ENABLED": "0",
    "UA_INFISICAL_ALLOW_DOTENV_FALLBACK": "0",
    # The launcher has already refused to start where the profile demands the vault and the vault did not answer. A
    # strict child without a vault would refuse for ever; it has its secrets from the launcher.
    "UA_INFISICAL_STRICT": "0",
}
"""Each process gets what it may see and asks for nothing more."""

_RUNS_CELERY: Final = frozenset({*MISSION_WORKERS.values(), "control", "beat"})
# Not Flower: it would read results of factories as Celery does, which believes what stands there.
_USES_LEDGER: Final = frozenset({"api", "engine", "telegram"}) | _RUNS_CELERY
_SPEAKS_TO_HQ: Final = _RUNS_CELERY | {"pull"}
_SIGNS: Final = ("api", "engine")
_JUDGES_SIGNATURES: Final = _SPEAKS_TO_HQ - {"beat"}


@dataclass(frozen=True)
class Stack:
    """The nodes that run together on this machine: addresses, secrets, and where they keep their things.

    A worker's stack has HQ's mailbox as its `database_url`; what it has no use for, or was not given, is empty. The
    `redis_url` of our own Redis is the operator's, who may do everything there; no process is that.
    """

    state: Path
    python: str
    host: str
    redis_url: str = field(repr=False)
    database_url: str = field(repr=False)
    gateway_port: int
    flower_port: int
    ops_token: str = field(repr=False)
    jwt_secret: str = field(repr=False)
    flower_password: str = field(repr=False)
    inherited: Mapping[str, str] = field(repr=False)
    shape: Shape = Shape.WHOLE
    factory_credential: str = field(default="", repr=False)
    """What the factory proves itself with: the one beside HQ, one that joins HQ's stack, or this worker."""
    node_name: str = ""
    """The identity that the environment gives the one node of this stack; a whole stack names its two itself."""
    queue_name: str = ""
    hq_given: str = ""
    """The HQ of a stack that has none of its own."""
    processes: tuple[str, ...] | None = None
    """The processes that the policy lets run, or None for all that a stack of this shape may have."""
    redis_away: bool = False
    """Whether HQ's Redis did not answer when this worker was started: nothing waits for what needs it."""
    factory_shut_out: bool = False
    """Whether the factory beside HQ was in quarantine when the stack was started: nothing waits for it."""
    redis_passwords: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    """Those of the users of our own Redis; none where somebody else runs it, and all processes are who its address
    names."""
    redis_password_file: str = ""
    """Where the password of a given Redis is read for each connection; what stands in its address counts without."""
    mailbox_url: str = field(default="", repr=False)
    """Our own database as the role of the factory beside HQ, which sees its rows of the mailbox and nothing else."""
    mission_signing_key: str = field(default="", repr=False)
    mission_key: str = ""
    """The public key that belongs to it."""

    @property
    def folder(self) -> StateFolder:
        """The paths below the state folder."""
        return StateFolder(self.state)

    @property
    def gateway_url(self) -> str:
        """Where this stack's own API answers; loopback only."""
        return f"http://127.0.0.1:{self.gateway_port}"

    @property
    def hq_base_url(self) -> str:
        """Where the missions of this stack come from, or an empty text where nobody sends any."""
        return self.gateway_url if ROLES[self.shape] is FactoryRole.HEADQUARTERS else self.hq_given

    @property
    def flower_url(self) -> str:
        """Where Flower answers; loopback only, user `corporation`."""
        return f"http://127.0.0.1:{self.flower_port}"

    @property
    def running(self) -> tuple[str, ...]:
        """The names of the processes that this stack runs."""
        if self.processes is not None:
            return self.processes
        return tuple(name for of in parts_of(self.shape).values() for name in of)

    def id_of(self, role: FactoryRole) -> str:
        """The identity of this stack's node of `role`."""
        return id_of(role, self.shape, self.node_name, self.host)

    def queue_of(self, role: FactoryRole) -> str:
        """The queue that the mission workers of this stack's node of `role` share."""
        named = self.queue_name if self.shape is not Shape.WHOLE and role is ROLES[self.shape] else ""
        if not named and role is FactoryRole.LOCAL_WORKER and self.redis_passwords:
            return private_queue(self.id_of(role))  # its user may reach no queue that others take from
        return named or default_queue(role)

    def redis_url_of(self, process: str) -> str:
        """The broker as `process` is let in there; an empty text where it needs none."""
        if not self.redis_passwords:
            return self.redis_url
        user = user_for(process, self.id_of(role_of(process, self.shape)))
        password = self.redis_passwords.get(user, "")
        return with_user(self.redis_url, user, password) if password else ""


def inherited_from(environ: Mapping[str, str]) -> dict[str, str]:
    """The part of the launcher's environment that any of its processes may see; an older name becomes today's.

    Folders of PYTHONPATH are named from the root: the processes run in another folder than the launcher.
    """
    handed = {name: environ[name] for name in names.HANDED_ON if environ.get(name)}
    handed |= {name: _from_the_root(handed[name]) for name in names.KINDS if name in handed}
    for older, name in names.OLDER.items():
        if environ.get(older):
            handed.setdefault(name, environ[older])
    return handed


def _from_the_root(folders: str) -> str:
    """The folders without the empty ones, which would be wherever a process happens to run."""
    return os.pathsep.join(str(Path(folder).absolute()) for folder in folders.split(os.pathsep) if folder)


def environment_of(process: str, stack: Stack) -> dict[str, str]:
    """The whole environment of `process`; an unknown name is a KeyError.

    The factory gets neither the ledger's variable nor a secret that signs tokens or missions. It is still one trust
    zone with HQ: its scripts run as the same user.
    """
    base = _picked(stack, names.INHERITED) | {
        "PYTHONUNBUFFERED": "1",
        "UA_READY_FILE": str(stack.folder.ready_file(process)),
    }
    kinds = _picked(stack, names.KINDS) if _loads_kinds(process, stack) else {}
    return base | LOADS_NO_SECRETS | kinds | variables_of(process, stack)


def variables_of(process: str, stack: Stack) -> dict[str, str]:
    """Only what Corporation reads: with these set, the same process can be started by hand."""
    role = role_of(process, stack.shape)
    beside_hq = stack.shape is Shape.WHOLE and role is FactoryRole.LOCAL_WORKER
    return {
        **_node(role, stack),
        **_picked(stack, names.NODE),
        **({} if beside_hq else _picked(stack, names.OVERRIDES)),
        **_broker(process, stack),
        **_storage(process, role, stack),
        **_keys(process, stack),
        **_proof(process, role, stack),
        **_picked(stack, names.TUNING),
        **_own(process, role, stack),
    }


def operators_variables(process: str, stack: Stack) -> dict[str, str]:
    """The same for a person's commands, who at our own Redis is its operator."""
    broker = {"UA_REDIS_URL": stack.redis_url} if stack.redis_url else {}
    return variables_of(process, stack) | broker


def _node(role: FactoryRole, stack: Stack) -> dict[str, str]:
    heard = {"UA_HQ_BASE_URL": stack.hq_base_url} if stack.hq_base_url else {}
    queue = {"UA_FACTORY_QUEUE": stack.queue_of(role)} if stack.queue_of(role) != default_queue(role) else {}
    return {
        "FACTORY_ROLE": role.value,
        "UA_FACTORY_ID": stack.id_of(role),
        "UA_HEARTBEAT_INTERVAL_SECONDS": HEARTBEAT_SECONDS,
        **heard,
        **queue,
    }


def _broker(process: str, stack: Stack) -> dict[str, str]:
    url = stack.redis_url_of(process)
    if not url:
        return {}
    file = {"UA_REDIS_PASSWORD_FILE": stack.redis_password_file} if stack.redis_password_file else {}
    admin = {}
    if process == "engine":
        # It makes the users of factories that join: for that alone it is the operator.
        admin = {"UA_REDIS_ADMIN_URL": stack.redis_url} if stack.redis_passwords else _picked(stack, names.ENGINE)
    return {"UA_REDIS_URL": url} | file | admin


def _keys(process: str, stack: Stack) -> dict[str, str]:
    """What `process` signs missions with, and whose signatures it takes: other keys than ours while ours is changed."""
    if process in _SIGNS:
        own = {"UA_MISSION_SIGNING_KEY": stack.mission_signing_key} if stack.mission_signing_key else {}
        return own | _picked(stack, names.KEYS)
    if process not in _JUDGES_SIGNATURES:
        return {}
    trusted = [key for key in (stack.mission_key, *_picked(stack, names.KEYS).values()) if key]
    return ({names.KEYS[0]: ",".join(trusted)} if trusted else {}) | _picked(stack, names.UPDATES)


def _storage(process: str, role: FactoryRole, stack: Stack) -> dict[str, str]:
    if role is FactoryRole.LOCAL_WORKER:
        # What asks over HTTPS answers over HTTPS; so does the rest of a factory that was told of no mailbox.
        url = stack.mailbox_url or stack.database_url
        mailbox = {"UA_RESULT_BACKEND_URL": url} if url and process != "pull" else {}
        return mailbox | {"UA_VP_DB_PATH": str(stack.folder.spool("factory"))} if process in _SPEAKS_TO_HQ else {}
    ledger = {"UA_DATABASE_URL": stack.database_url} if process in _USES_LEDGER else {}
    return ledger | {"UA_VP_DB_PATH": str(stack.folder.spool("hq"))} if process in _RUNS_CELERY else ledger


def _proof(process: str, role: FactoryRole, stack: Stack) -> dict[str, str]:
    """What `process` proves itself with: the factory with its own credential, once there is one."""
    if process not in _SPEAKS_TO_HQ:
        return {}
    if role is not FactoryRole.HEADQUARTERS and stack.factory_credential:
        return {"UA_FACTORY_CREDENTIAL": stack.factory_credential}
    return {"UA_OPS_TOKEN": stack.ops_token} if stack.ops_token and stack.hq_base_url else {}


def _own(process: str, role: FactoryRole, stack: Stack) -> dict[str, str]:
    """What this process alone needs, or the workers of a node together."""
    special: dict[str, Callable[[Stack], dict[str, str]]] = {
        "api": _gateway,
        "telegram": lambda stack: _picked(stack, names.TELEGRAM),
        "flower": lambda stack: {"FLOWER_BASIC_AUTH": f"corporation:{stack.flower_password}"},
    }
    own = special[process](stack) if process in special else {}
    if _loads_kinds(process, stack):
        own |= _picked(stack, names.WORKING) if role is FactoryRole.HEADQUARTERS else _factory(stack)
    return own


def _loads_kinds(process: str, stack: Stack) -> bool:
    """Whether `process` loads further kinds; headquarters' own worker does where no factory beside it does."""
    if process == MISSION_WORKERS[FactoryRole.HEADQUARTERS]:
        return stack.shape is Shape.HQ
    works = role_of(process, stack.shape) is FactoryRole.LOCAL_WORKER and process in _SPEAKS_TO_HQ
    return works or process == MISSION_WORKERS[FactoryRole.STANDALONE_NODE]


def _gateway(stack: Stack) -> dict[str, str]:
    tokens = {"UA_OPS_TOKEN": stack.ops_token, "UA_OPS_JWT_SECRET": stack.jwt_secret}
    return {
        "UA_GATEWAY_HOST": "127.0.0.1",
        "UA_GATEWAY_PORT": str(stack.gateway_port),
        "UA_ARTIFACT_ROOT": str(stack.folder.artifacts),
        **{name: value for name, value in tokens.items() if value},
        **_broker_for_factories(stack),
        **_picked(stack, names.GATEWAY),
    }


def _broker_for_factories(stack: Stack) -> dict[str, str]:
    """What HQ tells a factory that joins; one on another machine gets nothing while this names our loopback.

    Our own Redis gets a user for each of them, so its address names none.
    """
    if ROLES[stack.shape] is not FactoryRole.HEADQUARTERS:
        return {}
    url = without_password(stack.redis_url) if stack.redis_passwords else stack.redis_url
    own = {"UA_FACTORY_REDIS_URL": url} if url else {}
    return own | _picked(stack, names.JOINING)


def _factory(stack: Stack) -> dict[str, str]:
    return {
        "UA_FACTORY_SLOTS": SLOTS,
        "UA_TUTORIAL_BOOTSTRAP_LOCAL_ROOT": str(stack.folder.repositories),
        **_picked(stack, names.WORKING),
        **_picked(stack, names.MODELS),
    }


def _picked(stack: Stack, wanted: tuple[str, ...]) -> dict[str, str]:
    return {name: stack.inherited[name] for name in wanted if name in stack.inherited}
