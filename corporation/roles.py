"""What a node is and what that lets it do: the roles, the table of their policies, and the names they give."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final


class FactoryRole(StrEnum):
    """What a node does; one codebase, three kinds of node."""

    HEADQUARTERS = "HEADQUARTERS"
    LOCAL_WORKER = "LOCAL_WORKER"
    STANDALONE_NODE = "STANDALONE_NODE"


class GatewayMode(StrEnum):
    """How much of the HTTP surface a node shows."""

    FULL = "full"
    HEALTH_ONLY = "health_only"


class HeartbeatScope(StrEnum):
    """Whose life a node watches: the fleet's, or only its own."""

    GLOBAL = "global"
    LOCAL = "local"


class DelegationMode(StrEnum):
    """Whether a node gives missions away and takes them, takes them only, or does neither."""

    PUBLISH_AND_LISTEN = "publish_and_listen"
    LISTEN_ONLY = "listen_only"
    DISABLED = "disabled"


@dataclass(frozen=True)
class Executors:
    """Which executors are switched on here (contract env §3); the role does not decide it."""

    coder: bool = True
    general: bool = True


@dataclass(frozen=True)
class Overrides:
    """What `UA_CAPABILITY_*` says; None leaves the role's own value (E-6)."""

    gateway_mode: GatewayMode | None = None
    start_ui: bool | None = None
    enable_telegram_poll: bool | None = None
    heartbeat_scope: HeartbeatScope | None = None
    delegation_mode: DelegationMode | None = None
    enable_csi_ingest: bool | None = None
    enable_agentmail: bool | None = None
    standalone_telegram_poll: bool = False
    """`UA_STANDALONE_ENABLE_TELEGRAM_POLL`: means something on a STANDALONE_NODE only."""


@dataclass(frozen=True)
class FactoryRuntimePolicy:
    """What this node does. Every component asks this and nothing else; only `FACTORY_ROLE` and overrides made it."""

    factory_role: FactoryRole
    gateway_mode: GatewayMode
    start_ui: bool
    enable_telegram_poll: bool
    heartbeat_scope: HeartbeatScope
    delegation_mode: DelegationMode
    enable_csi_ingest: bool
    enable_agentmail: bool
    enable_vp_coder: bool = True
    enable_vp_general: bool = True

    @property
    def can_publish_delegations(self) -> bool:
        """Whether missions may be given away from here (E-6)."""
        return self.delegation_mode is DelegationMode.PUBLISH_AND_LISTEN

    @property
    def can_listen_delegations(self) -> bool:
        """Whether workers of this node may take missions (E-6)."""
        return self.delegation_mode is not DelegationMode.DISABLED

    @property
    def is_headquarters(self) -> bool:
        """Whether this node keeps the fleet: registry, missions, dead letters."""
        return self.factory_role is FactoryRole.HEADQUARTERS

    @property
    def opens_ledger(self) -> bool:
        """Whether this node may open a database of the ledger; a worker never does (E-7)."""
        return self.factory_role is not FactoryRole.LOCAL_WORKER

    @property
    def runs_engine(self) -> bool:
        """Whether the loops that route missions and bring outcomes home belong here."""
        return self.opens_ledger and (
            self.can_publish_delegations or (self.is_headquarters and self.can_listen_delegations)
        )

    @property
    def runs_strangers_scripts(self) -> bool:
        """Whether missions that run a repository's own script may come here: to a worker, never beside the ledger."""
        return self.factory_role is FactoryRole.LOCAL_WORKER

    @property
    def health_only(self) -> bool:
        """Whether the HTTP surface is closed but for its health."""
        return self.gateway_mode is GatewayMode.HEALTH_ONLY

    @property
    def serves_pages(self) -> bool:
        """Whether there is a dashboard: behind a health-only gateway none is reached, without a ledger none is safe."""
        return self.start_ui and not self.health_only and self.opens_ledger

    @property
    def shows_corporation_view(self) -> bool:
        """Whether the page of the whole fleet, and the menu's entry for it, exist here (contract http §13)."""
        return self.is_headquarters and not self.health_only

    def snapshot(self) -> dict[str, Any]:
        """The `policy_snapshot` of a heartbeat (contract fleet §2)."""
        return {
            "factory_role": str(self.factory_role),
            "gateway_mode": str(self.gateway_mode),
            "delegation_mode": str(self.delegation_mode),
            "heartbeat_scope": str(self.heartbeat_scope),
            "start_ui": self.start_ui,
            "enable_telegram_poll": self.enable_telegram_poll,
            "enable_csi_ingest": self.enable_csi_ingest,
            "enable_agentmail": self.enable_agentmail,
            "can_publish_delegations": self.can_publish_delegations,
            "can_listen_delegations": self.can_listen_delegations,
        }


def _row(role: FactoryRole, gateway: str, ui: bool, telegram: bool, heartbeat: str, delegation: str, csi: bool) -> Any:
    modes = GatewayMode(gateway), HeartbeatScope(heartbeat), DelegationMode(delegation)
    return FactoryRuntimePolicy(role, modes[0], ui, telegram, modes[1], modes[2], csi, csi)


POLICIES: Final[Mapping[FactoryRole, FactoryRuntimePolicy]] = MappingProxyType(
    {
        row.factory_role: row
        for row in (
            #                                 gateway        UI     Telegram heartbeat delegation            CSI, mail
            _row(FactoryRole.HEADQUARTERS, "full", True, True, "global", "publish_and_listen", True),
            _row(FactoryRole.LOCAL_WORKER, "health_only", False, False, "local", "listen_only", False),
            _row(FactoryRole.STANDALONE_NODE, "full", True, False, "local", "disabled", True),
        )
    }
)
"""The table of contract env §2, before any override."""


def read_role(word: str | None) -> FactoryRole:
    """The role named by `word`: HEADQUARTERS when there is none, and the least powerful role when it is junk (D18)."""
    name = (word or "").strip().upper()
    if not name:
        return FactoryRole.HEADQUARTERS
    return FactoryRole.__members__.get(name, FactoryRole.LOCAL_WORKER)


def build_factory_runtime_policy(
    role: FactoryRole, overrides: Overrides | None = None, executors: Executors | None = None
) -> FactoryRuntimePolicy:
    """The policy of a node of `role`; each override changes its own field, and none makes a worker more than one."""
    overrides, executors = overrides or Overrides(), executors or Executors()
    row = POLICIES[role]
    if role is FactoryRole.STANDALONE_NODE:
        row = replace(row, enable_telegram_poll=overrides.standalone_telegram_poll)
    named = {field: value for field in _OVERRIDABLE if (value := getattr(overrides, field)) is not None}
    allowed = {field: value for field, value in named.items() if not beyond_role(role, field, value)}
    return replace(row, **allowed, enable_vp_coder=executors.coder, enable_vp_general=executors.general)


def beyond_role(role: FactoryRole, field: str, value: object) -> bool:
    """Whether an override would give a LOCAL_WORKER what it must not have: Telegram, or the right to publish (E-7)."""
    if role is not FactoryRole.LOCAL_WORKER:
        return False
    return (field, value) in (("enable_telegram_poll", True), ("delegation_mode", DelegationMode.PUBLISH_AND_LISTEN))


_OVERRIDABLE: Final = (
    "gateway_mode",
    "start_ui",
    "enable_telegram_poll",
    "heartbeat_scope",
    "delegation_mode",
    "enable_csi_ingest",
    "enable_agentmail",
)


def default_factory_id(role: FactoryRole, host: str) -> str:
    """The identity of a node nobody named: from its host, and never random (E-10)."""
    suffix = {FactoryRole.HEADQUARTERS: "-hq", FactoryRole.LOCAL_WORKER: "", FactoryRole.STANDALONE_NODE: "-node"}
    return f"{host}{suffix[role]}"


def default_queue(role: FactoryRole) -> str:
    """The mission queue a node's workers listen on unless `UA_FACTORY_QUEUE` names another (architecture §6)."""
    return "local_factory" if role is FactoryRole.LOCAL_WORKER else "headquarters"


def slug_of(factory_id: str) -> str:
    """The identity inside names of queues and keys: only letters, digits, `:`, `_` and `-` (S-1, F-2)."""
    return re.sub(r"[^A-Za-z0-9:_-]+", "-", factory_id)


def private_queue(factory_id: str) -> str:
    """The queue that reaches this factory and no other, even when several share a mission queue (F-2)."""
    return f"factory.{slug_of(factory_id)}"


def control_queue(factory_id: str) -> str:
    """The queue of the factory's control worker: heartbeats and orders, never behind a long mission."""
    return f"{slug_of(factory_id)}.control"
