"""What a node is: the three roles, and how the environment's word for one is read (contract env §2)."""

import re
from enum import StrEnum


class FactoryRole(StrEnum):
    """What a node does; one codebase, three kinds of node."""

    HEADQUARTERS = "HEADQUARTERS"
    LOCAL_WORKER = "LOCAL_WORKER"
    STANDALONE_NODE = "STANDALONE_NODE"


def read_role(word: str | None) -> FactoryRole:
    """The role named by `word`: HEADQUARTERS when there is none, and the least powerful role when it is junk (D18)."""
    name = (word or "").strip().upper()
    if not name:
        return FactoryRole.HEADQUARTERS
    return FactoryRole.__members__.get(name, FactoryRole.LOCAL_WORKER)


def default_factory_id(role: FactoryRole, host: str) -> str:
    """The identity of a node nobody named: from its host, and never random (E-10)."""
    suffix = {FactoryRole.HEADQUARTERS: "-hq", FactoryRole.LOCAL_WORKER: "", FactoryRole.STANDALONE_NODE: "-node"}
    return f"{host}{suffix[role]}"


def default_queue(role: FactoryRole) -> str:
    """The mission queue a node's workers listen on unless `UA_FACTORY_QUEUE` names another (architecture §6)."""
    return "local_factory" if role is FactoryRole.LOCAL_WORKER else "headquarters"


def slug_of(factory_id: str) -> str:
    """The identity inside names of queues and keys: only letters, digits, `:`, `_` and `-` (S-1, F-2)."""
    return re.sub(r"[^A-Za-z0-9:_-]+", "-", factory_id)


def private_queue(factory_id: str) -> str:
    """The queue that reaches this factory and no other, even when several share a mission queue (F-2)."""
    return f"factory.{slug_of(factory_id)}"


def control_queue(factory_id: str) -> str:
    """The queue of the factory's control worker: heartbeats and orders, never behind a long mission."""
    return f"{slug_of(factory_id)}.control"
