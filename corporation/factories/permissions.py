"""Which missions a node may be given at all, by the capability label that each kind needs: pure, from its policy."""

from corporation.roles import FactoryRuntimePolicy


def permits(policy: FactoryRuntimePolicy, label: str) -> bool:
    """Whether workers of a node with `policy` may run kinds that need `label`.

    It decides what a worker registers and what its node advertises, so that neither can say more than the other. HQ
    leaves general missions and strangers' scripts to its factories (contract fleet §6).
    """
    switches = {
        "vp_coder": policy.enable_vp_coder,
        "vp_general": policy.enable_vp_general and not policy.is_headquarters,
        "tutorial_bootstrap_consumer": policy.runs_strangers_scripts,
    }
    return policy.can_listen_delegations and switches.get(label, True)
