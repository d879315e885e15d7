"""Which kinds of stack there are, which processes each may have, and what node each process belongs to (pure)."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from corporation.roles import FactoryRole, default_factory_id


class Shape(StrEnum):
    """What is started together: an HQ with a factory beside it, or one node of one role."""

    WHOLE = "whole"
    HQ = "hq"
    WORKER = "worker"
    STANDALONE = "standalone"


ROLES: Final[Mapping[Shape, FactoryRole]] = MappingProxyType(
    {
        Shape.WHOLE: FactoryRole.HEADQUARTERS,
        Shape.HQ: FactoryRole.HEADQUARTERS,
        Shape.WORKER: FactoryRole.LOCAL_WORKER,
        Shape.STANDALONE: FactoryRole.STANDALONE_NODE,
    }
)
"""What the node that gives a stack its name is; a whole stack has a LOCAL_WORKER beside it."""

MISSION_WORKERS: Final[Mapping[FactoryRole, str]] = MappingProxyType(
    {
        FactoryRole.HEADQUARTERS: "hq-worker",
        FactoryRole.LOCAL_WORKER: "factory-worker",
        FactoryRole.STANDALONE_NODE: "node-worker",
    }
)
"""The process of each kind of node that runs missions."""


def parts_of(shape: Shape) -> dict[FactoryRole, tuple[str, ...]]:
    """The processes that the nodes of `shape` may have, in the order in which they are shown."""
    if shape is Shape.WHOLE:
        return {
            FactoryRole.HEADQUARTERS: ("api", "engine", "hq-worker", "telegram", "flower"),
            FactoryRole.LOCAL_WORKER: ("factory-worker", "pull", "control", "beat"),
        }
    role = ROLES[shape]
    pull = ("pull",) if role is FactoryRole.LOCAL_WORKER else ()
    return {role: ("api", "engine", MISSION_WORKERS[role], *pull, "control", "beat", "telegram", "flower")}


def role_of(process: str, shape: Shape) -> FactoryRole:
    """What the node is that `process` of a `shape` belongs to; an unknown name is a KeyError.

    A mission worker's name says it already, so that an HQ's stack also knows the variables of a factory that joins it.
    """
    known = {name: role for role, name in MISSION_WORKERS.items()}
    known |= {name: role for role, names in parts_of(shape).items() for name in names}
    return known[process]


def id_of(role: FactoryRole, shape: Shape, node_name: str, host: str) -> str:
    """The identity of the node of `role` in a stack of `shape`; a `node_name` is that of a stack's one node."""
    named = node_name if shape is not Shape.WHOLE and role is ROLES[shape] else ""
    return named or default_factory_id(role, host)


def shape_of_role(role: FactoryRole) -> Shape:
    """The stack of one node of `role`."""
    return next(shape for shape, of in ROLES.items() if of is role and shape is not Shape.WHOLE)
