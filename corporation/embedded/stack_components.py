"""Which processes a node runs, decided by its policy alone, and the row of that policy for people (pure)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from corporation.embedded.stack_shape import MISSION_WORKERS, Shape, parts_of
from corporation.roles import FactoryRole, FactoryRuntimePolicy

NO_REDIS: Final = "missions come over HTTPS only"
_OVER_REDIS: Final = frozenset({*MISSION_WORKERS.values(), "control", "beat"})


@dataclass(frozen=True)
class Component:
    """One process of a node: whether it runs, and why or why not."""

    name: str
    on: bool
    why: str


@dataclass(frozen=True)
class TelegramFacts:
    """Whether the two things are set without which a poller could serve nobody."""

    token: bool = False
    allowed_users: bool = False


def components_of(
    policy: FactoryRuntimePolicy, shape: Shape, telegram: TelegramFacts | None = None, *, over_redis: bool = True
) -> list[Component]:
    """One row for every process that a node with `policy` could have in a stack of `shape`, running or not.

    A LOCAL_WORKER that is not reached `over_redis` asks HQ for its missions, and needs no process that Redis wakes.
    """
    facts = telegram or TelegramFacts()
    names = parts_of(shape)[policy.factory_role]
    rows = [_telegram(policy, facts) if name == "telegram" else _JUDGES[name](policy) for name in names]
    if over_redis or policy.factory_role is not FactoryRole.LOCAL_WORKER:
        return rows
    return [Component(one.name, False, NO_REDIS) if one.name in _OVER_REDIS and one.on else one for one in rows]


def row_of(policy: FactoryRuntimePolicy, components: Sequence[Component]) -> str:
    """The policy in one line: what is served and done; what is not, although the policy names it, says why."""
    poller = next((one for one in components if one.name == "telegram"), None)
    polls = "yes" if poller and poller.on else f"no ({poller.why})" if poller else "no"
    words = [
        f"gateway {policy.gateway_mode}",
        f"UI {_served(policy)}",
        f"Telegram {polls}",
        f"heartbeat {policy.heartbeat_scope}",
        f"delegation {policy.delegation_mode}",
        f"VP coder {_on(policy.enable_vp_coder)}",
        f"VP general {_on(policy.enable_vp_general)}",
        f"CSI ingest {_on(policy.enable_csi_ingest)}",
        f"AgentMail {_on(policy.enable_agentmail)}",
    ]
    return f"{policy.factory_role}: {' · '.join(words)}"


def left_out(components: Sequence[Component]) -> str:
    """The processes that do not run and why, as one line, or an empty text; Telegram stands in `row_of` already."""
    absent = [f"{one.name} ({one.why})" for one in components if not one.on and one.name != "telegram"]
    return f"Not started: {', '.join(absent)}" if absent else ""


def _api(policy: FactoryRuntimePolicy) -> Component:
    what = "health only, everything else is closed" if policy.health_only else "the full surface"
    return Component("api", True, what)


def _engine(policy: FactoryRuntimePolicy) -> Component:
    if policy.runs_engine:
        return Component("engine", True, "routes missions and brings outcomes home")
    if not policy.opens_ledger:
        return Component("engine", False, f"a {policy.factory_role} opens no ledger")
    return Component("engine", False, f"delegation is {policy.delegation_mode}, so no mission is given away here")


def _mission_worker(policy: FactoryRuntimePolicy) -> Component:
    name = MISSION_WORKERS[policy.factory_role]
    if policy.can_listen_delegations:
        return Component(name, True, f"delegation is {policy.delegation_mode}")
    return Component(name, False, f"delegation is {policy.delegation_mode}, so no mission is taken here")


def _pull(policy: FactoryRuntimePolicy) -> Component:
    if policy.can_listen_delegations:
        return Component("pull", True, "asks HQ for missions while Redis does not bring them")
    return Component("pull", False, f"delegation is {policy.delegation_mode}, so no mission is taken here")


def _control(_policy: FactoryRuntimePolicy) -> Component:
    return Component("control", True, "heartbeats and orders, never behind a long mission")


def _beat(policy: FactoryRuntimePolicy) -> Component:
    return Component("beat", True, f"heartbeat {policy.heartbeat_scope}")


def _flower(policy: FactoryRuntimePolicy) -> Component:
    if policy.opens_ledger:
        return Component("flower", True, "shows the workers of this node's broker")
    return Component("flower", False, "the broker is watched at headquarters")


def _telegram(policy: FactoryRuntimePolicy, facts: TelegramFacts) -> Component:
    if not policy.enable_telegram_poll:
        return Component("telegram", False, _why_no_poll(policy.factory_role))
    if not facts.token:
        return Component("telegram", False, "TELEGRAM_BOT_TOKEN is not set")
    if not facts.allowed_users:
        return Component("telegram", False, "TELEGRAM_ALLOWED_USER_IDS is not set, and strangers are never served")
    return Component("telegram", True, "polls for the people in TELEGRAM_ALLOWED_USER_IDS")


def _why_no_poll(role: FactoryRole) -> str:
    match role:
        case FactoryRole.HEADQUARTERS:
            return "UA_CAPABILITY_TELEGRAM_POLL says no"
        case FactoryRole.LOCAL_WORKER:
            return "a LOCAL_WORKER never polls"
        case FactoryRole.STANDALONE_NODE:
            return "UA_STANDALONE_ENABLE_TELEGRAM_POLL or UA_CAPABILITY_TELEGRAM_POLL would have to say yes"


def _served(policy: FactoryRuntimePolicy) -> str:
    if policy.serves_pages or not policy.start_ui:
        return "yes" if policy.serves_pages else "no"
    return "no (the gateway is health_only)" if policy.health_only else "no (a LOCAL_WORKER has no ledger)"


def _on(value: bool) -> str:
    return "on" if value else "off"


_JUDGES: Final[Mapping[str, Callable[[FactoryRuntimePolicy], Component]]] = MappingProxyType(
    {
        "api": _api,
        "engine": _engine,
        **dict.fromkeys(MISSION_WORKERS.values(), _mission_worker),
        "pull": _pull,
        "control": _control,
        "beat": _beat,
        "flower": _flower,
    }
)
