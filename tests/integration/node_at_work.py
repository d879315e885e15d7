"""A factory's node in this process, and a headquarters that remembers every beat and answers as it is told."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from corporation.federation.hq import Hq
from corporation.settings import load_settings
from factory_tasks.node import Node, build_node

NOWHERE = "redis://127.0.0.1:1/0"


@dataclass
class HeardHq(Hq):
    """Every beat in `beats`; the answer's `instructions`, or `error` instead."""

    beats: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    instructions: dict[str, Any] = field(default_factory=dict[str, Any])
    error: Exception | None = None

    def beat(self, body: Mapping[str, Any], patience: float = 10.0) -> dict[str, Any]:
        self.beats.append(dict(body))
        if self.error:
            raise self.error
        return {"ok": True, "registration": {}, "instructions": self.instructions}

    @property
    def last(self) -> dict[str, Any]:
        return self.beats[-1]


def node_at(folder: Path, hq: Hq, **variables: str) -> Node:
    """The node of the factory `desk-7` with its spool in `folder`; by default no Redis answers."""
    environment = {
        "FACTORY_ROLE": "LOCAL_WORKER",
        "UA_FACTORY_ID": "desk-7",
        "UA_REDIS_URL": NOWHERE,
        "UA_VP_DB_PATH": str(folder / "spool.db"),
        **variables,
    }
    return replace(build_node(load_settings(environment)), hq=hq)
