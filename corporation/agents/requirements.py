"""What an agent or a skill needs of the node before it can be used, and what of that is not there."""

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from corporation.agents.front_matter import FrontMatterError
from corporation.agents.toolkits import NAMES, tools_for
from corporation.roles import FactoryRuntimePolicy

_PROGRAM: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")


@dataclass(frozen=True)
class Requirements:
    """Programs on PATH, environment variables that are set, and tools that the policy gives."""

    programs: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()


@dataclass(frozen=True)
class Surroundings:
    """What is there on a node: its PATH, the names of what is set (never a value), and the tools of its policy."""

    path: str
    variables: frozenset[str]
    tools: frozenset[str]


def surroundings_of(policy: FactoryRuntimePolicy, environ: Mapping[str, str]) -> Surroundings:
    """The surroundings of agents on a node with `policy` and `environ`."""
    given = frozenset(name for name, value in environ.items() if value.strip())
    return Surroundings(environ.get("PATH", ""), given, frozenset(tool.name for tool in tools_for(policy)))


def read_requirements(value: Any) -> Requirements:
    """The field `requires` of a front matter; raises FrontMatterError when it asks for what nobody could check."""
    if value is None:
        return Requirements()
    if not isinstance(value, dict) or not set(value) <= {"programs", "environment", "tools"}:
        raise FrontMatterError("`requires` may name programs, environment and tools only")
    read = Requirements(
        _names(value.get("programs"), _PROGRAM), _names(value.get("environment"), _VARIABLE), _names(value.get("tools"))
    )
    if not set(read.tools) <= NAMES:
        raise FrontMatterError("`requires` names a tool that does not exist")
    return read


def what_lacks(requirements: Requirements, here: Surroundings) -> str:
    """Why something with `requirements` cannot be used here, in words; empty when it can.

    Tools are not named: a tool that the policy forbids stands in no document.
    """
    programs = [name for name in requirements.programs if shutil.which(name, path=here.path) is None]
    variables = [name for name in requirements.environment if name not in here.variables]
    reasons = [
        *([f"not installed: {', '.join(programs)}"] if programs else []),
        *([f"not set: {', '.join(variables)}"] if variables else []),
        *([] if set(requirements.tools) <= here.tools else ["this node's policy does not give its tools"]),
    ]
    return "; ".join(reasons)


def _names(value: Any, pattern: re.Pattern[str] = _VARIABLE) -> tuple[str, ...]:
    names = [] if value is None else value
    if not isinstance(names, list) or not all(isinstance(name, str) and pattern.fullmatch(name) for name in names):
        raise FrontMatterError("`requires` must hold lists of plain names")
    return tuple(names)
