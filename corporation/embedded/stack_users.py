"""Who each process of a stack is at the servers that the stack itself starts, and what those users may do (pure)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final

from corporation.embedded.stack_shape import ROLES, Shape, id_of
from corporation.roles import FactoryRole, default_queue, slug_of
from corporation.settings import Settings
from corporation.trust.redis_profiles import HqUser, factory_rules, hq_rules, user_of, user_of_hq
from corporation.variables import KEY_NAME

LONGEST_ROLE: Final = 63
"""Bytes of a role's name; PostgreSQL cuts a longer one, and two may become one."""
_OF_HQ: Final = {"engine": HqUser.engine, "api": HqUser.api, "flower": HqUser.flower}
_NEEDS_NO_BROKER: Final = ("telegram",)


@dataclass(frozen=True)
class OwnUsers:
    """Who is let into the servers that a stack starts itself; the factory is the one beside HQ, or that may join it."""

    broker: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    """What each user of our own Redis may do."""
    older_broker: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    """The same for a server that does not know CLIENT SETINFO."""
    factory_id: str = ""
    mailbox_role: str = ""
    """The role of our own database that the factory fills its rows of the mailbox with."""


def own_users(shape: Shape, settings: Settings) -> OwnUsers:
    """The users of a stack of `shape`; raises ValueError for a node whose name must have no user, and says why."""
    if shape is Shape.WORKER:
        return OwnUsers()
    ids = {role: id_of(role, shape, settings.factory_name or "", settings.host) for role in FactoryRole}
    node, queue = ids[ROLES[shape]], default_queue(ROLES[shape])
    if shape is not Shape.WHOLE and settings.queue_name:
        queue = settings.queue_name
    if not re.fullmatch(KEY_NAME, queue):
        raise ValueError("the name of a queue is letters, digits and any of . : _ -")
    factory = ids[FactoryRole.LOCAL_WORKER] if ROLES[shape] is FactoryRole.HEADQUARTERS else ""
    nodes = {**({factory: ()} if factory else {}), node: (queue,)}
    return OwnUsers(
        broker=_broker(settings, nodes, queue, has_setinfo=True),
        older_broker=_broker(settings, nodes, queue, has_setinfo=False),
        factory_id=factory,
        mailbox_role=role_of(factory) if factory else "",
    )


def user_for(process: str, factory_id: str) -> str:
    """Who `process` of the node `factory_id` is at our own Redis; an empty text for one that needs none."""
    if process in _NEEDS_NO_BROKER:
        return ""
    return user_of_hq(_OF_HQ[process]) if process in _OF_HQ else user_of(factory_id)


def role_of(factory_id: str) -> str:
    """The name of a factory's role: `f_<slug>`, or where that is too long for PostgreSQL, its start and a checksum."""
    name = f"f_{slug_of(factory_id)}"
    digest = sha256(factory_id.encode()).hexdigest()[:12]
    return name if len(name) <= LONGEST_ROLE else f"{name[: LONGEST_ROLE - 13]}_{digest}"


def _broker(
    settings: Settings, nodes: Mapping[str, tuple[str, ...]], queue: str, *, has_setinfo: bool
) -> dict[str, tuple[str, ...]]:
    """The rules of every user; `nodes` are those of this machine, with the queues that they alone take from."""
    # Flower may hear what they do: they are this machine's, and speak for nobody else's.
    workers = {
        user_of(node): factory_rules(node, own_queues=queues, seen=True, has_setinfo=has_setinfo)
        for node, queues in nodes.items()
    }
    streams = {"mission_stream": settings.stream_name, "dead_letter_stream": settings.dead_letter_stream}
    hq = {user: hq_rules(user, **streams, has_setinfo=has_setinfo) for user in HqUser}
    # The queue that this node's workers share may have any name; HQ fills only those that reach one factory.
    hq[HqUser.flower] += (f"(%R~{queue} +llen)",)
    return {**{user_of_hq(user): rules for user, rules in hq.items()}, **workers}
