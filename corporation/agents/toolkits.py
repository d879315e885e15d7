"""Every tool an agent may ever have, and what the policy must say for it (contract fleet F-30); pure.

The registry decides: what it does not give is registered for no agent, whatever a text says. Nothing here can be
called; who builds an agent passes its functions through `registered`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final, TypeVar

from corporation.agents.personas import speaks_outside
from corporation.roles import FactoryRuntimePolicy

Function = TypeVar("Function")


class Domain(StrEnum):
    """The headings under which agents and tools stand, in the order of the document (contract fleet §10)."""

    BROWSER = "Browser Operations"
    RESEARCH = "Research & Analysis"
    CREATIVE = "Creative & Media"
    ENGINEERING = "Engineering & Code"
    OPERATIONS = "Operations & Communication"
    GENERAL = "General Tools"


class Need(StrEnum):
    """What a tool needs of the policy."""

    CODER = "the VP coder is on"
    GENERAL = "the VP general is on"
    EXECUTOR = "an executor is on"
    PUBLISH = "missions may be given away"
    HEADQUARTERS = "the fleet is kept here"
    OUTSIDE = "agents here may speak to the outside"
    TELEGRAM = "Telegram is on"
    MAIL = "mail is on"


_MET: Final[Mapping[Need, Callable[[FactoryRuntimePolicy], bool]]] = MappingProxyType(
    {
        Need.CODER: lambda policy: policy.enable_vp_coder,
        Need.GENERAL: lambda policy: policy.enable_vp_general,
        Need.EXECUTOR: lambda policy: policy.enable_vp_coder or policy.enable_vp_general,
        Need.PUBLISH: lambda policy: policy.can_publish_delegations,
        Need.HEADQUARTERS: lambda policy: policy.is_headquarters,
        Need.OUTSIDE: speaks_outside,
        Need.TELEGRAM: lambda policy: policy.enable_telegram_poll,
        Need.MAIL: lambda policy: policy.enable_agentmail,
    }
)


@dataclass(frozen=True)
class Tool:
    """One tool: the name by which a model calls it, where it stands, what it does, and all it needs."""

    name: str
    domain: Domain
    purpose: str
    needs: tuple[Need, ...]


TOOLS: Final = (
    Tool("vp_coder_dispatch", Domain.ENGINEERING, "give the VP coder a piece of work", (Need.CODER,)),
    Tool("vp_coder_cancel", Domain.ENGINEERING, "stop work that the VP coder has", (Need.CODER,)),
    Tool("delegation_publish", Domain.OPERATIONS, "publish a mission to the factories", (Need.PUBLISH,)),
    Tool("missions_list", Domain.OPERATIONS, "find missions by state", (Need.HEADQUARTERS,)),
    Tool("missions_show", Domain.OPERATIONS, "read one mission and its attempts", (Need.HEADQUARTERS,)),
    Tool("factories_list", Domain.OPERATIONS, "see the factories and what they can do", (Need.HEADQUARTERS,)),
    Tool("telegram_send", Domain.OPERATIONS, "write to the owner on Telegram", (Need.OUTSIDE, Need.TELEGRAM)),
    Tool("agentmail_send", Domain.OPERATIONS, "send mail", (Need.OUTSIDE, Need.MAIL)),
    Tool("vp_general_dispatch", Domain.GENERAL, "give the VP general a piece of work", (Need.GENERAL,)),
    Tool("vp_general_cancel", Domain.GENERAL, "stop work that the VP general has", (Need.GENERAL,)),
    Tool("vp_missions_list", Domain.GENERAL, "see what the executors work on", (Need.EXECUTOR,)),
)

NAMES: Final = frozenset(tool.name for tool in TOOLS)


def tools_for(policy: FactoryRuntimePolicy) -> tuple[Tool, ...]:
    """The tools that agents of a node with `policy` may have, in the order of their domains; never one more (F-30)."""
    return tuple(tool for tool in TOOLS if all(_MET[need](policy) for need in tool.needs))


def registered(policy: FactoryRuntimePolicy, functions: Mapping[str, Function]) -> dict[str, Function]:
    """Those of `functions`, by the names of their tools, that an agent may be given (F-30).

    Raises ValueError for a name that is no tool of the registry: nobody would know what it needs.
    """
    if unknown := sorted(set(functions) - NAMES):
        raise ValueError(f"not in the registry of tools: {', '.join(unknown)}; add them with what they need")
    allowed = {tool.name for tool in tools_for(policy)}
    return {name: function for name, function in functions.items() if name in allowed}
