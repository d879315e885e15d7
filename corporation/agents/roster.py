"""The agents and skills that are installed as files: who there is, and what cannot be used here and why.

An agent is a file `*.md` in one folder, a skill a file `*/SKILL.md` in another; both say at their head what they are.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from corporation.agents.front_matter import FrontMatterError, read_front_matter, text_field
from corporation.agents.harmless_text import one_line
from corporation.agents.requirements import Requirements, Surroundings, read_requirements, what_lacks
from corporation.agents.toolkits import Domain

DEFINITIONS: Final = Path(__file__).parent / "definitions"
SKILLS: Final = Path(__file__).parent / "skills"
SYSTEM_OPERATIONS: Final = "system-operations"
"""The agent that questions about the system itself are routed to, where there is one."""

_NAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._ -]{0,62}[A-Za-z0-9])?")


@dataclass(frozen=True)
class Agent:
    """A specialist that can be used here."""

    name: str
    description: str
    domain: Domain


@dataclass(frozen=True)
class Skill:
    """Instructions in a file; `unavailable` says why they cannot be followed here, and is empty when they can."""

    name: str
    description: str
    path: str
    unavailable: str = ""


@dataclass(frozen=True)
class Roster:
    """Who and what there is, each sorted by name; `notes` say which files were passed over and why, one line each."""

    agents: tuple[Agent, ...] = ()
    skills: tuple[Skill, ...] = ()
    notes: tuple[str, ...] = ()


_Kind = TypeVar("_Kind")


def read_roster(here: Surroundings, agents: Path = DEFINITIONS, skills: Path = SKILLS) -> Roster:
    """The agents and skills of two folders; a bad file is passed over with a note and stops nothing.

    An agent that lacks something here is left out, a skill is kept with the reason. A missing folder is empty.
    """
    notes: list[str] = []
    specialists = _each(agents.glob("*.md"), _agent, notes)
    known = _each(skills.glob("*/SKILL.md"), lambda path, fields: _skill(path, fields, here), notes)
    usable = [agent for agent, requires in specialists.values() if not what_lacks(requires, here)]
    return Roster(
        tuple(sorted(usable, key=lambda agent: agent.name)),
        tuple(sorted(known.values(), key=lambda skill: skill.name)),
        tuple(notes),
    )


def _each(
    paths: Iterable[Path], read: Callable[[Path, dict[str, Any]], tuple[str, _Kind]], notes: list[str]
) -> dict[str, _Kind]:
    """What `read` makes of each file, by name; of two files with one name the first in alphabetical order counts."""
    found: dict[str, _Kind] = {}
    for path in sorted(paths):
        try:
            name, one = read(path, read_front_matter(path))
            if name in found:
                raise FrontMatterError(f"another file has the name {name} already")
            found[name] = one
        except FrontMatterError as error:
            notes.append(f"{one_line(str(path))} is passed over: {error}")
    return found


def _agent(_path: Path, fields: dict[str, Any]) -> tuple[str, tuple[Agent, Requirements]]:
    name = _name(fields)
    agent = Agent(name, one_line(text_field(fields, "description")), _domain(fields.get("domain")))
    return name, (agent, read_requirements(fields.get("requires")))


def _skill(path: Path, fields: dict[str, Any], here: Surroundings) -> tuple[str, Skill]:
    name = _name(fields)
    lacks = what_lacks(read_requirements(fields.get("requires")), here)
    return name, Skill(name, one_line(text_field(fields, "description")), str(path), lacks)


def _name(fields: dict[str, Any]) -> str:
    name = text_field(fields, "name")
    if not _NAME.fullmatch(name):
        raise FrontMatterError("its `name` must be at most 64 letters, digits, blanks, dots, dashes and underscores")
    return name


def _domain(word: Any) -> Domain:
    text = word.strip().casefold() if isinstance(word, str) else ""
    return next((domain for domain in Domain if domain.casefold() == text), Domain.GENERAL)
