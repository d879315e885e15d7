"""Who each process of a stack is at the servers that the stack itself starts, and what those users may do (pure)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from corporation.embedded.postgres import role_of
from corporation.embedded.stack_shape import ROLES, Shape, id_of
from corporation.roles import FactoryRole, default_queue
from corporation.settings import Settings
from corporation.trust.redis_profiles import HqUser, factory_rules, hq_rules, user_of, user_of_hq

_OF_HQ: Final = {"engine": HqUser.engine, "api": HqUser.api, "flower": HqUser.flower}
_NEEDS_NO_BROKER: Final = ("telegram",)


@dataclass(frozen=True)
class OwnUsers:
    """Who is let into the servers that a stack starts itself; the factory is the one beside HQ, or that may join it."""

    broker: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    """What each user of our own Redis may do."""
    factory_id: str = ""
    mailbox_role: str = ""
    """The role of our own database that the factory fills its rows of the mailbox with."""
    slots: int = 1
    """How many processes of the factory may have a result at once."""


def own_users(shape: Shape, settings: Settings) -> OwnUsers:
    """The users of a stack of `shape`; raises ValueError for a node whose name must have no user, and says why."""
    if shape is Shape.WORKER:
        return OwnUsers()
    ids = {role: id_of(role, shape, settings.factory_name or "", settings.host) for role in FactoryRole}
    factory = ids[FactoryRole.LOCAL_WORKER] if ROLES[shape] is FactoryRole.HEADQUARTERS else ""
    queue = settings.queue_name if shape is not Shape.WHOLE and settings.queue_name else default_queue(ROLES[shape])
    return OwnUsers(
        broker={
            **{user_of_hq(user): _hq(user, settings, queue) for user in HqUser},
            # Flower shows what they do: they are this machine's, and speak for nobody else's.
            **({user_of(factory): factory_rules(factory, seen=True)} if factory else {}),
            user_of(ids[ROLES[shape]]): factory_rules(ids[ROLES[shape]], own_queues=(queue,), seen=True),
        },
        factory_id=factory,
        mailbox_role=role_of(factory) if factory else "",
        slots=settings.factory_slots,
    )


def user_for(process: str, factory_id: str) -> str:
    """Who `process` of the node `factory_id` is at our own Redis; an empty text for one that needs none."""
    if process in _NEEDS_NO_BROKER:
        return ""
    return user_of_hq(_OF_HQ[process]) if process in _OF_HQ else user_of(factory_id)


def _hq(user: HqUser, settings: Settings, queue: str) -> tuple[str, ...]:
    rules = hq_rules(user, mission_stream=settings.stream_name, dead_letter_stream=settings.dead_letter_stream)
    if queue == default_queue(FactoryRole.HEADQUARTERS):
        return rules
    # A queue with a name of its own is none that the rules know.
    more = {HqUser.engine: f"(~{queue} +lpush +llen +lrange +lrem)", HqUser.flower: f"(%R~{queue} +llen)"}
    return (*rules, more[user]) if user in more else rules
