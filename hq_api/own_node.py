"""What this node says of itself: its policy as the contract's factory block, and whether its broker is there now."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import redis

from corporation.broker_link import why_not_connected
from corporation.clock import iso
from corporation.settings import Settings


@dataclass(frozen=True)
class DelegationLink:
    """The way missions leave by Redis: whether it is wanted here, and as it was a moment ago, whether it is there."""

    wanted: bool
    last_error: str | None

    @property
    def connected(self) -> bool:
        """Whether the broker answered."""
        return self.wanted and self.last_error is None


def look_at_delegation(client: redis.Redis, settings: Settings) -> DelegationLink:
    """Ask the broker now, unless this node delegates nothing or by HTTPS only: then nothing is asked."""
    wanted = settings.redis_delegation_enabled and settings.policy.can_listen_delegations
    return DelegationLink(wanted, why_not_connected(client) if wanted else None)


def factory_block(settings: Settings, link: DelegationLink, now: datetime) -> dict[str, Any]:
    """The object `factory` of contract http §5, also told to the registry (F-12)."""
    policy = settings.policy
    return {
        "factory_id": settings.factory_id,
        "deployment_profile": settings.deployment_profile,
        **policy.snapshot(),
        "enable_vp_coder": policy.enable_vp_coder,
        "llm_provider_override": settings.llm_provider_override,
        "redis_delegation_enabled": link.connected,
        "redis_stream_name": settings.stream_name,
        "redis_consumer_group": settings.consumer_group,
        "updated_at": iso(now),
    }
