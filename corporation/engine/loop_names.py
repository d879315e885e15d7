"""Which loops HQ has, and which of them a node's settings want to run (pure)."""

from typing import Final

from corporation.settings import Settings

LEDGERS: Final = ("dispatcher", "sender", "collector", "rescuer", "rebuilder", "sweeper")
LOOPS: Final = (*LEDGERS, "importer", "publisher", "doorkeeper")
NEED_REDIS: Final = frozenset(LOOPS) - {"dispatcher", "collector", "sweeper"}
"""Those whose rounds fail while Redis is away; some of them only when there is something to do."""


def wanted_loops(settings: Settings) -> tuple[str, ...]:
    """The loops that go round where all of this node's processes run; none where it runs no engine."""
    policy = settings.policy
    if not policy.runs_engine:
        return ()
    streams = settings.redis_delegation_enabled
    imports = streams and policy.can_publish_delegations
    keeps_door = policy.is_headquarters
    more = (("importer", imports), ("publisher", streams), ("doorkeeper", keeps_door))
    return (*LEDGERS, *(name for name, is_wanted in more if is_wanted))
