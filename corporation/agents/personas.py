"""Who the agents of a node are, and who may tell whom what (contract fleet §9, F-29); pure."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from corporation.agents.harmless_text import one_line
from corporation.roles import FactoryRole, FactoryRuntimePolicy

LONGEST_NAME: Final = 60


@dataclass(frozen=True)
class Personas:
    """The names by which people know a node's agents."""

    primary: str
    """The agent that decides; at headquarters it is the one that the owner talks to."""
    coder: str
    """`vp.coder.primary`"""
    general: str
    """`vp.general.primary`"""


_HEADQUARTERS: Final = Personas("Simone", "Codie", "HAL")
PERSONAS: Final[Mapping[FactoryRole, Personas]] = MappingProxyType(
    {
        FactoryRole.HEADQUARTERS: _HEADQUARTERS,
        FactoryRole.LOCAL_WORKER: Personas("Homer", "Lisa", "Bart"),
        # Its owner talks to it directly, as to an HQ; the contract names only the other two.
        FactoryRole.STANDALONE_NODE: _HEADQUARTERS,
    }
)


def personas_of(policy: FactoryRuntimePolicy, coder_display_name: str | None = None) -> Personas:
    """The names on a node with `policy`; a display name replaces the coder's, unless nothing of it can be shown."""
    names = PERSONAS[policy.factory_role]
    shown = one_line(coder_display_name or "", LONGEST_NAME)
    return replace(names, coder=shown) if shown else names


def speaks_outside(policy: FactoryRuntimePolicy) -> bool:
    """Whether the agents of this node may start communication with people outside; local ones never may (F-29)."""
    return policy.factory_role is not FactoryRole.LOCAL_WORKER


def chain_of_command(policy: FactoryRuntimePolicy, personas: Personas) -> str:
    """Who gives orders to whom on this node, in sentences for its agents (F-29)."""
    source = "the owner" if speaks_outside(policy) else "headquarters, over the bus,"
    executors = _executors(policy, personas)
    hands = f"hands the work to {executors}" if executors else "does the work alone: no executor is switched on"
    sentences = [f"{personas.primary} takes orders from {source} and {hands}."]
    if policy.can_publish_delegations:
        sentences.append(f"Only {personas.primary} publishes missions to local factories.")
    if not speaks_outside(policy):
        sentences.append(
            "Agents here start no communication with the outside: no Telegram, no mail. "
            "What there is to say goes into the result of the mission."
        )
    return " ".join(sentences)


def _executors(policy: FactoryRuntimePolicy, personas: Personas) -> str:
    switched_on = [
        *([f"{personas.coder} (code)"] if policy.enable_vp_coder else []),
        *([f"{personas.general} (research and everything else)"] if policy.enable_vp_general else []),
    ]
    return " or ".join(switched_on)
