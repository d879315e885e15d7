"""The capability labels a node says of itself: present only while the thing works (contract fleet §6, F-18); pure."""

from collections.abc import Collection, Iterable
from typing import Final

from corporation.factories.permissions import permits
from corporation.roles import FactoryRuntimePolicy

CODER: Final = "vp_coder"
OF_KINDS: Final = (CODER, "vp_general", "tutorial_bootstrap_consumer")
"""The labels that the contract's kinds need, in the order of a factory's beat."""
OVER_HTTPS: Final = "transport:http"
"""This factory asks for its missions over HTTPS: nothing is sent to it over Redis."""
KIND_PREFIX: Final = "kind:"
"""Before the name of a kind that the contract does not know."""


def headquarters_labels(
    policy: FactoryRuntimePolicy, earned: Collection[str], delegation_connected: bool, llm_override: str | None
) -> list[str]:
    """HQ's own labels, sorted and each once; `earned` are those of the kinds that every one of its workers can run.

    `vp_coder` is there only if the coder is on and a worker earned it: routing believes this list.
    """
    labels = [
        f"gateway_{policy.gateway_mode}",
        *_surface(policy),
        *_delegation(policy, delegation_connected),
        *_modes(policy),
        f"agentmail:{_on(policy.enable_agentmail)}",
        *_override(llm_override),
        *(label for label in earned if permits(policy, label)),
    ]
    return sorted(set(labels))


def factory_labels(
    policy: FactoryRuntimePolicy,
    earned: Collection[str],
    delegation_connected: bool,
    llm_override: str | None,
    *,
    over_https: bool = False,
) -> list[str]:
    """The labels of a factory's beat, each once, in the contract's order; labels of further kinds come last, sorted."""
    permitted = {label for label in earned if permits(policy, label)}
    labels = [
        *_delegation(policy, delegation_connected and not over_https),
        *(label for label in OF_KINDS if label in permitted),
        f"gateway_mode:{policy.gateway_mode}",
        *_modes(policy),
        *_surface(policy),
        *_override(llm_override),
        *([OVER_HTTPS] if over_https and policy.can_listen_delegations else []),
        *sorted(permitted - {*OF_KINDS}),
    ]
    return list(dict.fromkeys(labels))


def earned_among(labels: Iterable[str]) -> list[str]:
    """Those of `labels` that workers earn by the kinds they run; the others follow from the policy and the network."""
    return [label for label in labels if label in OF_KINDS or label.startswith(KIND_PREFIX)]


def _delegation(policy: FactoryRuntimePolicy, connected: bool) -> list[str]:
    return ["delegation_redis"] if connected and policy.can_listen_delegations else []


def _modes(policy: FactoryRuntimePolicy) -> list[str]:
    return [
        f"delegation_mode:{policy.delegation_mode}",
        f"heartbeat_scope:{policy.heartbeat_scope}",
        f"csi_ingest:{_on(policy.enable_csi_ingest)}",
    ]


def _surface(policy: FactoryRuntimePolicy) -> list[str]:
    return [*(["ui"] if policy.serves_pages else []), *(["telegram_poll"] if policy.enable_telegram_poll else [])]


def _override(llm_override: str | None) -> list[str]:
    return [f"llm_override:{llm_override}"] if llm_override else []


def _on(switch: bool) -> str:
    return "on" if switch else "off"
